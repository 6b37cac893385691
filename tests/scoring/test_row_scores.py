from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.scoring.metrics import compared
from stages.scoring.rouge import Scores
from stages.scoring.row_scores import RowScore, from_csv, other_rows, row_score, to_csv

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
SCORE = st.integers(0, 1_000_000).map(lambda n: n / 10_000)
FINALS = st.fixed_dictionaries(dict.fromkeys(compared(), SCORE))
ROWS = st.dictionaries(TEXT, st.builds(RowScore, st.just("5f90c4bc8b36"), FINALS), max_size=3)


@given(ROWS, ROWS)
def test_what_is_written_is_read(dev: dict[str, RowScore], test: dict[str, RowScore]) -> None:
    scores = {split: rows for split, rows in {"dev": dev, "test": test}.items() if rows}
    assert from_csv(to_csv(scores, "mecab")) == (scores, "mecab")


def test_a_line_a_row() -> None:
    scores = {"word": Scores(10, 20, 30), "morpheme": Scores(1, 1, 2), "clipped": Scores(1, 0, 2)}
    row = row_score(["가 나", "다"], scores)
    assert to_csv({"dev": {"dev_0": row}}, "kiwi") == (
        f'"split","fname","references","word","kiwi","clipped"\n"dev","dev_0","{row.references}",20.0,1.3333,1.0\n'
    )
    assert len(row.references) == 12


def test_a_metric_that_came_later_is_in_no_older_table() -> None:
    scores, analyzer = from_csv('"split","fname","references","kiwi"\n"dev","dev_0","5f90c4bc8b36",20.0\n')
    assert (scores, analyzer) == ({"dev": {"dev_0": RowScore("5f90c4bc8b36", {"morpheme": 20.0})}}, "kiwi")


def test_rows_are_the_same_where_their_references_are() -> None:
    def row(*references: str, score: float = 0.0) -> RowScore:
        return row_score(references, dict.fromkeys(compared(), Scores(score, score, score)))

    ours = {"a": row("가"), "b": row("가", "나"), "c": row("다")}
    assert other_rows(ours, {"c": row("다", score=9.0), "b": row("가", "나"), "a": row("가")}) == []
    assert other_rows(ours, {"a": row("가"), "b": row("가나"), "d": row("다")}) == ["b", "c", "d"]
