from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.core.params import Evaluate
from stages.finishing.winner import Line, Run, as_record, choosing, compare, objective_of, telling, winner
from stages.scoring.metrics import score_by_all
from stages.scoring.morphemes import kiwi_morphemes
from stages.scoring.objective import OBJECTIVES, Objective
from stages.scoring.rouge import Scorer


def run(
    changes: dict[str, object], *scores: float, rows: int = 100, repeats: float = 5, length_ratio: float = 1.0
) -> Run:
    return Run(changes, scores, rows, repeats, length_ratio)


def noisy(mean: float, seed: int, rows: int = 200) -> list[float]:
    drawn = random.Random(seed)
    return [mean + drawn.gauss(0, 5) for _ in range(rows)]


def lines(*runs: Run) -> tuple[list[Line], Line]:
    compared = compare(runs)
    return compared, winner(compared)


def test_every_objective_follows_from_what_is_kept_of_a_row() -> None:
    texts = ["#Person1#은 우산을 가져왔습니다.", "둘은 비가 온다는 말을 나눕니다. 둘은 비가 온다는 말을 나눕니다."]
    references = [["#Person1#은 우산이 있습니다.", "우산 이야기를 합니다."], ["둘은 날씨 이야기를 나눕니다."]]
    by_metric = score_by_all(texts, references, Scorer(kiwi_morphemes))
    finals = [{name: score.final for name, score in row.items()} for row in by_metric]
    for name in OBJECTIVES:
        wanted = Objective.of(Evaluate.model_validate({"objective": name, "morphemes": "kiwi"})).rows(texts, references)
        assert [objective_of(row, name) for row in finals] == pytest.approx(wanted)


@given(st.lists(st.floats(0, 100), min_size=4))
def test_halves_share_no_row_and_leave_none_out(scores: list[float]) -> None:
    assert sorted([*choosing(scores), *telling(scores)]) == sorted(scores)
    assert 0 <= len(choosing(scores)) - len(telling(scores)) <= 1


def test_one_half_chooses_and_the_other_tells() -> None:
    base = run({}, 10, 50, 10, 50, 10, 50)
    better = run({"lora.r": 32}, 20, 49, 21, 48, 20, 50)
    compared, chosen = lines(base, better)
    assert chosen.run is better
    assert chosen.choosing == pytest.approx(61 / 3)
    assert chosen.telling == 49
    assert chosen.gain is not None
    assert chosen.gain.interval.mean == pytest.approx(-1)
    assert compared[0].gain is None
    assert not compared[0].is_as_good


def test_within_noise_the_settings_stay_as_they_are() -> None:
    scores = noisy(30, 1)
    base = run({}, *scores)
    other = run({"lora.r": 32}, *(score + (place % 4 < 2) - 0.49 for place, score in enumerate(scores)))
    compared, chosen = lines(base, other)
    assert chosen.run is base
    assert all(line.is_as_good for line in compared)
    assert as_record(compared[1], chosen=False)["chosen"] is False


def test_within_noise_the_cheaper_wins_over_the_best() -> None:
    scores = noisy(35, 3)
    best = run({"train.epochs": 3}, *(score + 0.1 * (-1) ** place for place, score in enumerate(scores)), rows=300)
    cheap = run({"lora.r": 32}, *scores, rows=200)
    base = run({}, *(score - 5 for score in scores), rows=200)
    cheaper_but_worse = run({"train.epochs": 1}, *(score - 4 for score in scores), rows=100)
    _, chosen = lines(base, best, cheap, cheaper_but_worse)
    assert chosen.run is best  # it is better on every row of the half that chooses: that is no noise
    mixed = run({"train.epochs": 3}, *(score + (place % 4 < 2) - 0.45 for place, score in enumerate(scores)), rows=300)
    _, chosen = lines(base, mixed, cheap, cheaper_but_worse)
    assert fmean(choosing(mixed.scores)) > fmean(choosing(cheap.scores))
    assert chosen.run is cheap


def test_within_noise_fewer_repeats_and_the_references_length_win() -> None:
    scores = noisy(30, 1)
    alike = [score + (place % 4 < 2) - 0.49 for place, score in enumerate(scores)]
    repeating, fair = run({}, *scores, repeats=69), run({"lora.r": 32}, *alike, repeats=25, rows=300)
    compared, chosen = lines(repeating, fair)
    assert all(line.is_as_good for line in compared)
    assert chosen.run is fair
    record = as_record(chosen, chosen=True)
    assert (record["repeats"], record["length_ratio"]) == (25, 1.0)
    assert lines(run({}, *scores, length_ratio=1.5), fair)[1].run is fair
    assert lines(run({}, *scores, repeats=28), fair)[1].run.changes == {}


def test_of_equals_the_one_that_changes_less_wins() -> None:
    scores = noisy(35, 3)
    base = run({}, *(score - 5 for score in scores))
    one, two = run({"lora.r": 32}, *scores), run({"lora.r": 32, "train.batch_size": 4}, *scores)
    assert lines(base, two, one)[1].run is one


def test_a_gain_is_recorded_with_its_interval() -> None:
    scores = noisy(30, 4)
    compared, chosen = lines(run({}, *scores), run({"lora.r": 32}, *(score + 2 for score in scores), rows=120))
    record = as_record(chosen, chosen=True)
    assert record["changes"] == {"lora.r": 32}
    assert record["gain"] == [2, 2, 2]
    assert record["p"] == 0.0001
    assert record["choosing_half"][0] == pytest.approx(chosen.choosing, abs=1e-4)
    assert record["chosen"] and record["within_noise_of_best"]
    assert "gain" not in as_record(compared[0], chosen=False)


def test_too_few_rows_of_dev() -> None:
    with pytest.raises(UserError, match=r"^dev: 3 scored rows; a sweep needs at least 4$"):
        compare([run({}, 1, 2, 3)])
