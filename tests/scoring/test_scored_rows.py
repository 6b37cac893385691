from __future__ import annotations

from typing import cast

import pytest

from stages.scoring.metrics import METRICS
from stages.scoring.rouge import Scorer, Scores
from stages.scoring.scored_rows import ScoredRow, by_length, by_speakers, by_topic_word, headline, measure, score_rows


def row(length: int = 30, speakers: int = 2, topic: str = "", final: float = 50.0) -> ScoredRow:
    dialogue = "\n".join(f"#Person{n + 1}#: 네" for n in range(speakers)).ljust(length, "네")
    scores = Scores(final, final, final)
    return ScoredRow("dev_0", dialogue, ["네"], "네", topic, dict.fromkeys(METRICS, scores), {})


def test_rows_are_scored_at_both_levels_and_checked() -> None:
    (scored,) = score_rows(
        ["dev_0"],
        ["#Person1#: 네.\n#Person2#: 아니요."],
        [["가 나", "가 나 다"]],
        ["가 나 12"],
        ["대답"],
        Scorer(lambda texts: [" ".join(text.replace(" ", "")) for text in texts]),
    )
    word, clipped, word_clipped = (cast(Scores, scored.scores[name]) for name in ("word", "clipped", "word_clipped"))
    assert word.rouge1 == pytest.approx(100 * (4 / 5 + 2 / 3) / 2)
    assert scored.morpheme.rouge1 == pytest.approx(100 * (4 / 6 + 4 / 7) / 2)
    assert clipped.rouge1 == pytest.approx(100 * (4 / 6 + 4 / 7) / 2)
    # "가 나 12" beside "가 나" and "가 나 다": 2 of 3 and 2, then 2 of 3 and 3.
    assert word_clipped.rouge1 == pytest.approx(100 * (4 / 5 + 4 / 6) / 2)
    assert scored.findings == {"invented": ["12"]}
    assert scored.topic == "대답"


def test_groups_have_edges_and_leave_out_what_is_empty() -> None:
    rows = [row(length) for length in (249, 250, 399, 600, 5000)]
    assert {name: len(of) for name, of in by_length(rows).items()} == {
        "0 to 249": 1,
        "250 to 399": 2,
        "600 or more": 2,
    }
    crowd = [row(speakers=n) for n in (1, 2, 2, 3, 7)]
    assert {name: len(of) for name, of in by_speakers(crowd).items()} == {"1": 1, "2": 2, "3 or more": 2}


def test_topics_are_grouped_by_words_that_several_hold() -> None:
    rows = [row(topic=topic) for topic in ("병원 예약", "식당 예약", "예약 취소", "병원 병원", "병원", "")]
    assert {word: len(of) for word, of in by_topic_word(rows).items()} == {"병원": 3, "예약": 3}
    assert by_topic_word(rows[:2]) == {}


def test_metrics_of_a_split() -> None:
    rows = [row(final=40.0), row(length=700, final=60.0)]
    metrics = measure(rows, {"lead2": [Scores(1.0, 2.0, 3.0), Scores(2.0, 3.0, 4.0)]})
    # Of two rows the bootstrap draws one twice a quarter of the time, either one.
    mean = {"rouge1": 50.0, "rouge2": 50.0, "rougeL": 50.0, "final": 50.0, "final_low": 40.0, "final_high": 60.0}
    assert metrics == {
        "word": mean,
        "morpheme": mean,
        "clipped": mean,
        "word_clipped": mean,
        "baselines": {"lead2": {"final": 2.5}},
        "empty": 0,
        "length_ratio": 1.0,
        "hangul_share": 1.0,
        "checks": dict.fromkeys(
            [
                "swapped_speakers",
                "silent_speakers",
                "invented",
                "missing_masks",
                "repeats",
                "not_korean",
                "length",
            ],
            0.0,
        ),
        "by_length": {"0_to_249": {"rows": 1, "final": 40.0}, "600_or_more": {"rows": 1, "final": 60.0}},
        "by_speakers": {"2": {"rows": 2, "final": 50.0}},
    }


def test_repetition_counts_where_counts_are_clipped() -> None:
    (scored,) = score_rows(
        ["dev_0"], ["#Person1#: 네."], [["가 나"]], ["가 나 가 나"], [""], Scorer(lambda texts: list(texts))
    )
    found = {name: score.rounded()["rouge1"] for name, score in scored.scores.items()}
    assert found["word"] == found["morpheme"] == pytest.approx(100)
    assert found["word_clipped"] == found["clipped"] == pytest.approx(100 * 4 / 6, abs=1e-4)


def test_the_headline_of_a_split() -> None:
    levels = {"word": 20.0, "morpheme": 40.0, "clipped": 30.0, "word_clipped": 10.0}
    scores = {name: Scores(level, level, level) for name, level in levels.items()}
    found = {"repeats": ["네 네 네"]}
    one = ScoredRow("dev_0", "#Person1#: 네", ["네 네"], "네 네 네 네", "", scores, found)
    assert headline(measure([one], {})) == {
        "word": {"final": 20.0, "clipped": 10.0},
        "morpheme": {"final": 40.0, "clipped": 30.0},
        "repeats": 100.0,
        "length_ratio": 2.3333,
    }


def test_checks_are_percentages_of_the_rows() -> None:
    rows = [
        row(),
        row(),
        row(),
        ScoredRow(**{**vars(row()), "findings": {"repeats": ["네 네 네"], "length": ["3.00"]}}),
    ]
    checks = measure(rows, {})["checks"]
    assert checks["repeats"] == checks["length"] == 25
    assert checks["invented"] == 0
