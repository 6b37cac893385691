from __future__ import annotations

import re
from dataclasses import replace

import pytest

from stages.pages.leaderboard_page import (
    KINDS,
    STATES,
    Run,
    best_run,
    clock_time,
    difference,
    differing,
    render_leaderboard,
)
from stages.pages.loss_chart import AXES, MOST, Losses, charts, read_curve, thinned
from stages.scoring.bootstrap import Difference, paired
from stages.scoring.row_scores import RowScore
from tests.parsed_page import Page, in_english, in_korean, texts

EVIL = "<script>alert('&')</script>\""


def scored(name: str, values: list[float], first: int = 0, analyzer: str = "kiwi") -> Run:
    """A run whose rows of dev, named from `first` on, have these scores."""
    rows = {f"dev_{row}": RowScore("same", {"morpheme": value}) for row, value in enumerate(values, first)}
    mean = sum(values) / len(values)
    level = {"final": mean, "final_low": mean - 1, "final_high": mean + 1}
    return Run(name, "experiment", analyzer=analyzer, rows=rows, scores={"dev": {"morpheme": level}})


MAIN = scored("main", [30, 31, 32, 29, 28, 30])
BETTER = scored("better", [40, 41, 41, 39, 38, 42])
ALIKE = scored("alike", [41, 40, 40, 40, 39, 40])
LIMITED = scored("limited", [90, 90])
BY_MECAB = scored("by_mecab", [95, 90, 90, 90, 95, 90], analyzer="mecab")
OLD = replace(scored("old", [99]), rows={})
QUEUED = Run("queued", "experiment", state="queued")


def test_the_best_is_sought_among_runs_that_scored_the_dialogues_of_the_first() -> None:
    assert best_run([QUEUED, OLD, MAIN, LIMITED, BY_MECAB, BETTER, ALIKE], "kiwi") is BETTER
    assert best_run([LIMITED, MAIN, BETTER], "kiwi") is LIMITED
    assert best_run([MAIN, BY_MECAB], "mecab") is BY_MECAB
    assert best_run([QUEUED, OLD], "kiwi") is None
    assert best_run([], "kiwi") is None


def test_each_run_is_tested_against_the_best_or_it_says_why_not() -> None:
    found = difference(BETTER, MAIN, "kiwi")
    assert isinstance(found, Difference)
    assert found == paired([40, 41, 41, 39, 38, 42], [30, 31, 32, 29, 28, 30])
    assert found.is_real
    alike = difference(BETTER, ALIKE, "kiwi")
    assert isinstance(alike, Difference) and not alike.is_real
    # Four of the six of the best, and none of another's six.
    assert difference(BETTER, LIMITED, "kiwi") == "other dialogues or references: 4"
    assert difference(BETTER, scored("others", [50.0] * 6, first=6), "kiwi") == "other dialogues or references: 12"
    assert difference(BETTER, BY_MECAB, "kiwi") == "morphemes by mecab"
    assert difference(BETTER, OLD, "kiwi") == "no scores of single dialogues"
    assert difference(BETTER, QUEUED, "kiwi") is None
    assert difference(BETTER, BETTER, "kiwi") is None
    assert difference(None, MAIN, "kiwi") is None


def test_parameters_that_differ_are_shown_and_one_that_a_run_lacks_tells_nothing() -> None:
    runs = [
        replace(MAIN, params={"lora.r": 8, "seed": 1, "new": True, "tune": [1, 4]}),
        replace(BETTER, params={"lora.r": 16, "seed": 1, "tune": [1]}),
    ]
    assert differing(runs) == ["lora.r", "tune"]
    assert differing(runs[:1]) == differing([]) == []


def test_a_line_ranks_by_the_best_and_those_that_cannot_be_compared_come_last() -> None:
    page = render_leaderboard([QUEUED, MAIN, LIMITED, OLD, BETTER, ALIKE], "kiwi")
    names = re.findall(r'<th class="name" scope="row" data-value="(\w+)"', page)
    assert names == ["better", "alike", "main", "old", "limited", "queued"]
    values = [re.findall(r' data-value="([^"]*)"', line)[2] for line in page.split('<th class="name" scope="row"')[1:]]
    assert values[0] == "0"
    assert float(values[1]) > float(values[2])
    assert values[3:] == ["", "", ""]
    heads = re.findall(r'aria-sort="(\w+)"><span>(.*?)</span></th>', in_english(page))
    assert [head for head in heads if head[0] != "none"] == [("descending", "from the best")]
    # As many heads as cells.
    assert {line.count(" data-value=") for line in page.split('<tr><th class="name" scope')[1:]} == {len(heads)}


def test_nothing_breaks_out_of_the_page_or_asks_for_anything_from_outside() -> None:
    run = replace(MAIN, name=EVIL, commit=EVIL, date=EVIL, params={EVIL: EVIL}, machine=EVIL)
    broken = Run(f"b{EVIL}", "commit", state="unreadable", error=EVIL, params={EVIL: 1})
    text = render_leaderboard([run, broken], "kiwi")
    page = Page(text)
    assert page.open == []
    assert page.addresses == ["#Runs", "#Losses"]
    assert text.count("<script") == 1
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not re.search(r"https?://|url\(|@import", text)


def test_a_reader_of_korean_sees_no_english_but_names() -> None:
    runs = [MAIN, BETTER, ALIKE, LIMITED, OLD, BY_MECAB, *(Run(state, "tag", state=state) for state in STATES)]
    for shown in (runs, []):
        page = in_korean(render_leaderboard(shown, "kiwi"))
        assert not [text for text in texts(page) if re.search("[A-Za-z]{2} [a-z]{2}", text.replace("dvc repro", ""))]
    assert all(re.search("[가-힣]", phrase.korean) for phrase in (*KINDS.values(), *STATES.values()))


def test_a_duration() -> None:
    shown = [clock_time(seconds) for seconds in (0.4, 59.6, 3661, 360000)]
    assert shown == ["0:00:00", "0:01:00", "1:01:01", "100:00:00"]


def test_a_curve_leaves_out_what_is_no_number() -> None:
    assert read_curve("step\tloss\n1\t2.5\n2\tnan\n3\t1\n") == [(1, 2.5), (3, 1)]
    with pytest.raises(ValueError):
        read_curve("step\tloss\n1\n")


def test_a_long_curve_is_drawn_in_fewer_points() -> None:
    curve = [(step, float(step % 2)) for step in range(1000)]
    assert len(thinned(curve)) <= MOST
    assert thinned(curve[:8], most=4) == [(0.5, 0.5), (2.5, 0.5), (4.5, 0.5), (6.5, 0.5)]
    assert thinned(curve[:3]) == curve[:3]


def test_charts_share_their_axes_and_the_curve_of_the_best() -> None:
    best = Losses([(1, 3.0), (4, 1.0)], [(4, 2.0)])
    other = Losses([(2, 2.0)])
    first, second, none = charts([best, other, Losses()], best)
    assert none is None and first and second
    quarter = AXES.left + (AXES.right - AXES.left) / 4
    middle = (AXES.top + AXES.bottom) / 2
    assert first.train == f"{quarter:.1f},{AXES.top:.1f} {AXES.right:.1f},{AXES.bottom:.1f}"
    dot = f"{AXES.right:.1f},{middle:.1f}"
    assert (first.dev, first.best) == (f"{dot} {dot}", "")
    assert (second.dev, second.best) == ("", first.dev)
    assert (second.steps, second.least, second.most) == (4, 1.0, 3.0)
    assert charts([Losses()], None) == [None]
