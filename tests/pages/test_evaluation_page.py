from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from stages.pages.evaluation_page import FLAGS, MEANING, Scored, decoding_search, render_report
from stages.scoring.bootstrap import Interval
from stages.scoring.morphemes import cut_with_kiwi
from stages.scoring.prediction_checks import CHECKS
from stages.scoring.rouge import Scorer
from stages.scoring.scored_rows import score_rows
from tests.parsed_page import Page, in_english, in_korean, part, texts

DECODING = {"objective": "balanced", "chosen": {"num_beams": 4, "length_penalty": 0.7}}
GAIN = {
    "samples": 8,
    "chosen": {"final": 31.5, "repeats": 3.1, "length_ratio": 1.049},
    "fixed": {"final": 30.254, "repeats": 12.5, "length_ratio": 1.4},
    "gain": 1.246,
}
EVIL = "<script>alert('&')</script>\""


@pytest.fixture(scope="module")
def scored() -> dict[str, Scored]:
    """Two dev rows, the first the better one, with text that tries to break out of the page."""
    dialogue = "#Person1#: 학교에 갔다.\n#Person2#: 집에 왔다."
    rows = score_rows(
        ["dev_0", f"dev_1{EVIL}"],
        [dialogue, f"{dialogue} {EVIL}"],
        [["#Person1#이 학교에 갔다.", "#Person1#이 갔다."], [EVIL]],
        ["#Person1#이 학교에 갔다.", f"#Person3#이 12 {EVIL}"],
        ["학교", EVIL],
        Scorer(list),
    )
    return {"dev": (rows, {"lead2": [row.morpheme for row in rows]})}


@pytest.fixture(scope="module")
def page(scored: dict[str, Scored]) -> str:
    return render_report(scored, DECODING, cut_with_kiwi)


def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert parsed.addresses == ["#Scores", "#Decoding", "#Groups", "#Checks", "#Rows"]
    assert not re.search(r"https?://|url\(|@import", page)


def test_its_own_script_may_run_and_no_other(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert "alert(&#39;&amp;&#39;)" in page


def test_text_of_tables_models_and_settings_is_escaped_everywhere(scored: dict[str, Scored]) -> None:
    rows, baselines = scored["dev"]
    evil_rows = [
        replace(row, **{name: getattr(row, name) + EVIL for name in ("fname", "dialogue", "summary", "topic")})
        for row in rows
    ]
    found = [replace(row, references=[EVIL], findings={f"check{EVIL}": [EVIL]}) for row in evil_rows]
    tried = [{f"setting{EVIL}": EVIL, "final": 1.0}, {f"setting{EVIL}": {EVIL: 2}, "final": 2.0}]
    text = render_report(
        {f"dev{EVIL}": (found, {EVIL: baselines["lead2"]})},
        {"objective": EVIL, "chosen": {f"setting{EVIL}": EVIL}, "tried": tried},
        cut_with_kiwi,
    )
    page = Page(text)
    assert page.open == []
    assert text.count("<script") == 1
    assert not {name for name in page.attributes if name.startswith("on")}
    assert [row["data-flags"] for row in page.rows] == [f"check{EVIL}"] * 2
    # Of every row: name, flag in the line and in the list, what was found, topic, and the dialogue; of the settings,
    # what was chosen, the column and both values; then the split and the baseline.
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&#34;") > 2 * 6 + 2 + 3 + 2


def test_rows_hold_what_the_script_sorts_and_filters_by_worst_first(page: str) -> None:
    worse, better = Page(page).rows
    assert (worse["data-order"], better["data-order"]) == ("1", "0")
    assert float(worse["data-final"] or "") < float(better["data-final"] or "")
    assert worse["data-flags"] == "silent_speakers invented not_korean"
    assert better["data-flags"] == ""
    keys = re.findall(r'<option value="(\w+)">', in_english(page).split('id="key"')[1].split("</select>")[0])
    assert all(f"data-{key}" in better for key in keys)


def test_only_checks_that_found_something_can_be_chosen(page: str) -> None:
    options = re.findall(r'<option value="(\w*)">', in_english(page).split('id="flag"')[1].split("</select>")[0])
    assert options == ["", "any", "none", "silent_speakers", "invented", "not_korean"]


def test_overlap_is_marked(page: str) -> None:
    assert page.count('<mark class="two">#Person1#이 학교에 갔다</mark>.') == 2  # the summary and its reference


def test_the_same_rows_make_the_same_page(scored: dict[str, Scored], page: str) -> None:
    assert render_report(scored, DECODING, cut_with_kiwi) == page


def test_a_run_without_references_has_a_page() -> None:
    page = render_report({}, DECODING, cut_with_kiwi)
    assert "No split has references." in page
    assert Page(page).rows == []


def test_a_reader_of_korean_sees_no_english_but_names(scored: dict[str, Scored]) -> None:
    rows, baselines = scored["dev"]
    tried = [{"num_beams": 1, "final": 31.2}, {"num_beams": 4, "final": 32.0}]
    decoding = {**DECODING, "tried": tried, "cross_validated": GAIN}
    shown = in_korean(render_report({"dev": (rows[:1], baselines)}, decoding, cut_with_kiwi))
    assert "형태소 중복 제한" in shown
    assert not [text for text in texts(shown) if re.search("[A-Za-z]{2} [a-z]{2}", text)]


def test_reranking_that_was_weighed_is_part_of_what_was_chosen() -> None:
    chosen = {"max_new_tokens": 96, "num_beams": 4}
    tried = [
        {**chosen, "rerank": "none", "drawn": 0, "final": 31.0},
        {**chosen, "rerank": "mbr", "drawn": 0, "final": 32.0},
        {**chosen, "rerank": "mbr", "drawn": 8, "final": 30.0},
    ]
    rerank = {"rerank": "mbr", "samples": 0}
    search = decoding_search({"objective": "balanced", "chosen": chosen, "rerank": rerank, "tried": tried})
    assert search.tried is not None
    assert search.tried.chosen == {1}
    assert search.tried.header == ["", "rerank", "drawn", "final"]
    assert search.chosen == {"max_new_tokens": "96", "num_beams": "4", "rerank": "mbr", "drawn": "0"}


def test_a_refit_is_said_in_both_languages(scored: dict[str, Scored]) -> None:
    page = render_report(scored, DECODING, cut_with_kiwi, refitted=True)
    assert "models/refit, which learned dev too, so it has no dev score of its own" in " ".join(
        in_english(page).split()
    )
    assert "dev까지 학습한 models/refit" in " ".join(in_korean(page).split())
    assert "models/refit" not in render_report(scored, DECODING, cut_with_kiwi)


def test_every_check_is_explained() -> None:
    assert MEANING.keys() == FLAGS.keys() == CHECKS.keys()


def decoding_section(decoding: dict[str, object]) -> str:
    page = in_english(render_report({}, decoding, cut_with_kiwi))
    return page.split('<section id="Decoding">')[1].split("</section>")[0]


def test_a_search_shows_what_was_tried_and_marks_what_was_chosen() -> None:
    tried = [
        {"max_new_tokens": 96, "num_beams": 1, "final": 31.23456},
        {"max_new_tokens": 96, "num_beams": 4, "length_penalty": 0.7, "final": 32.0},
    ]
    shown = decoding_section({**DECODING, "tried": tried, "cross_validated": GAIN})
    assert "Chosen: num_beams 4, length_penalty 0.7." in shown
    assert "On 8 dialogues, each half with what the other half chose, by the balanced objective: tuned" in shown
    assert (
        "settings 31.50, with 3% repeating and length × 1.05; those of params.yaml 30.25, with 12% and × 1.40." in shown
    )
    head = '<th class="name"></th><th>num_beams</th><th>final</th><th>length_penalty</th>'
    assert head in shown
    assert '<tr><th class="name">1</th><td>1</td><td>31.235</td><td>–</td></tr>' in shown
    assert '<tr class="chosen"><th class="name">2</th><td>4</td><td>32</td><td>0.7</td></tr>' in shown


@pytest.mark.parametrize("decoding", [DECODING, {**DECODING, "tried": []}])
def test_without_a_search_the_report_says_so(decoding: dict[str, object]) -> None:
    assert "nothing else was tried" in decoding_section(decoding)


def test_bars_share_a_scale() -> None:
    bars = str(part("interval_bars")({"model": Interval(20, 10, 40)}, {"lead": Interval(10, 10, 10)}))
    assert 'class="model"><u style="width:50.00%"></u><s style="left:25.00%;width:75.00%">' in bars
    assert 'class="baseline"><u style="width:25.00%"></u><s style="left:25.00%;width:0.00%">' in bars
    assert "<span>20.0 <small>(10.0–40.0)</small></span>" in bars
    assert "<span>10.0</span>" in bars
