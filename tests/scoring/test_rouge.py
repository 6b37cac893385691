from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

from stages.scoring.morphemes import words
from stages.scoring.rouge import Scorer, Scores, Text, clipped, morpheme_scores, published, word_scores

REPOSITORY = Path(__file__).parents[2]


def one(hypothesis: str, *references: str) -> dict[str, float]:
    return word_scores([hypothesis], [references]).rounded()


def package(hypothesis: str, reference: str) -> dict[str, float]:
    scores = Rouge().get_scores(hypothesis, reference)[0]
    numbers = {name.replace("-", ""): round(100 * score["f"], 4) for name, score in scores.items()}
    return {"rouge1": numbers["rouge1"], "rouge2": numbers["rouge2"], "rougeL": numbers["rougel"]}


def random_text(rng: random.Random) -> str:
    """Up to 40 words of a small vocabulary, now and then ended by a full stop."""
    words = [rng.choice("가나다라마바사아자차") for _ in range(rng.randint(1, 40))]
    return "".join(word + rng.choice([" ", " ", " ", "\n", ". ", "."]) for word in words).strip()


def test_a_pair_worked_by_hand() -> None:
    # Words: 3 of 3. Pairs of words: {가나, 나다} and {가다, 다나} share none. In order: 2 of 3.
    assert one("가 나 다", "가 다 나") == {
        "rouge1": 100.0,
        "rouge2": 0.0,
        "rougeL": 66.6667,
        "final": 55.5556,
    }
    # Precision 2/4 and recall 2/3 make 4/7; pairs of words 1/3 and 1/2 make 2/5.
    assert one("가 나 라 마", "가 나 다") == {
        "rouge1": 57.1429,
        "rouge2": 40.0,
        "rougeL": 57.1429,
        "final": 51.4286,
    }


def test_the_mean_is_over_references_and_then_over_rows() -> None:
    assert one("가 나", "가 나", "다 라")["rouge1"] == 50
    scores = word_scores(["가 나", "마"], [["가 나", "다 라", "다 라", "다 라"], ["마"]])
    assert scores.rounded()["rouge1"] == 62.5


def test_only_rounded_scores_are_rounded() -> None:
    scores = Scores(1 / 3, 2 / 3, 0.0)
    assert scores.final == pytest.approx(1 / 3, abs=1e-15)
    assert scores.rounded() == {"rouge1": 0.3333, "rouge2": 0.6667, "rougeL": 0.0, "final": 0.3333}


def test_agrees_with_the_package_on_random_pairs() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        hypothesis, reference = random_text(rng), random_text(rng)
        ours = one(hypothesis, reference)
        del ours["final"]
        assert ours == package(hypothesis, reference), (hypothesis, reference)


def test_agrees_with_the_package_over_many_references() -> None:
    rng = random.Random(1)
    hypotheses = [random_text(rng) for _ in range(50)]
    references = [[random_text(rng) for _ in range(3)] for _ in range(50)]
    flat = Rouge().get_scores(
        [hypothesis for hypothesis in hypotheses for _ in range(3)],
        [reference for row in references for reference in row],
        avg=True,
    )
    scores = word_scores(hypotheses, references)
    assert scores.rouge1 == pytest.approx(100 * flat["rouge-1"]["f"], abs=1e-9)
    assert scores.rouge2 == pytest.approx(100 * flat["rouge-2"]["f"], abs=1e-9)
    assert scores.rougeL == pytest.approx(100 * flat["rouge-l"]["f"], abs=1e-9)


@given(st.text(alphabet="가나다.… \n#?", max_size=30), st.text(alphabet="가나다.… \n#?", max_size=30))
def test_any_two_texts_get_a_score_from_0_to_100(hypothesis: str, reference: str) -> None:
    assert all(0 <= score <= 100 for score in one(hypothesis, reference).values())
    assert one(hypothesis, hypothesis)["rouge1"] == (100 if hypothesis.replace(".", " ").split() else 0)


@pytest.mark.parametrize("nothing", ["", " ", ".", "...", ". . .", " .\n"])
def test_a_text_without_a_word_scores_0(nothing: str) -> None:
    zero = {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0, "final": 0.0}
    assert one(nothing, "그는 갔다.") == zero
    assert one("그는 갔다.", nothing) == zero
    assert one(nothing, nothing) == zero
    assert morpheme_scores([nothing], [["그는 갔다."]]).rounded() == zero


def test_a_final_full_stop_changes_nothing() -> None:
    assert one("그는 집에 갔다", "그는 갔다.") == one("그는 집에 갔다.", "그는 갔다")
    assert morpheme_scores(["그는 집에 갔다"], [["그는 갔다."]]) == morpheme_scores(
        ["그는 집에 갔다."], [["그는 갔다"]]
    )


def test_sentences_may_change_places_in_rouge_l_only() -> None:
    # As in the package: pairs of words cross the full stop, common subsequences do not.
    assert one("다 라. 가 나.", "가 나. 다 라.") == {
        "rouge1": 100.0,
        "rouge2": 66.6667,
        "rougeL": 100.0,
        "final": 88.8889,
    }


def test_white_space_between_full_stops_is_no_word() -> None:
    assert one("가 나. .", "가 나.") == one("가 나", "가 나")
    assert one("가 나.\n", "가 나.") == one("가 나", "가 나")
    assert package("가 나.\n", "가 나.")["rouge1"] == 80  # the package counts an empty word


def test_repeating_a_summary_costs_nothing_in_words() -> None:
    assert one("가 나 가 나", "가 나") == {
        "rouge1": 100.0,
        "rouge2": 66.6667,
        "rougeL": 100.0,
        "final": 88.8889,
    }


def test_twenty_thousand_words() -> None:
    limit = sys.getrecursionlimit()
    long = " ".join(str(i) for i in range(20_000))
    with pytest.raises(RecursionError):
        Rouge().get_scores(long, "5")
    assert one(long, long)["final"] == 100
    # Precision 3/20000 and recall 3/4 in words; 17 before 5 leaves 2 in order.
    scores = word_scores([long], [["5 17 19999 없다"]])
    assert scores.rouge1 == pytest.approx(100 * 6 / 20_004, abs=1e-5)
    assert word_scores([long], [["17 5 19999 없다"]]).rougeL == pytest.approx(100 * 4 / 20_004, abs=1e-5)
    assert morpheme_scores(["그는 갔다 " * 10_000], [["그는 갔다"]]).rouge1 == pytest.approx(100)
    assert sys.getrecursionlimit() == limit


def test_a_full_stop_inside_a_morpheme_ends_no_sentence() -> None:
    # 3·5 킬로 를 뛰 었 다 beside 3·6 킬로 를 뛰 었 다: 5 of 6 morphemes, 4 of 5 pairs.
    assert morpheme_scores(["3.5킬로를 뛰었다."], [["3.6킬로를 뛰었다."]]).rounded() == {
        "rouge1": 83.3333,
        "rouge2": 80.0,
        "rougeL": 83.3333,
        "final": 82.2222,
    }


def test_morphemes_of_a_pair_worked_by_hand() -> None:
    # #Person1# 은 학교 에 가 었 다 beside #Person2# 는 학교 에 가 었 다: Kiwi tells 은 from 는.
    scores = morpheme_scores(["#Person1#은 학교에 갔다."], [["#Person2#는 학교에 갔다."]])
    assert scores.rounded() == {"rouge1": 71.4286, "rouge2": 66.6667, "rougeL": 71.4286, "final": 69.8413}
    assert one("#Person1#은 학교에 갔다.", "#Person2#는 학교에 갔다.")["rouge1"] == 66.6667


def test_a_space_before_a_particle_is_no_difference_in_morphemes() -> None:
    assert morpheme_scores(["#Person1# 은 학교에 갔다."], [["#Person1#은 학교에 갔다."]]).rounded()["final"] == 100


def test_rows_must_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        word_scores(["가", "나"], [["가"]])
    with pytest.raises(ValueError, match="at least one"):
        word_scores(["가"], [[]])
    with pytest.raises(ValueError, match="at least one"):
        morpheme_scores([], [])


class SplitAtSpaces:
    """What makes `rouge_score` read Hangul, and end sentences as we do."""

    def tokenize(self, text: str) -> list[str]:
        return text.replace(".", " ").split()


def test_clipped_agrees_with_rouge_score_on_random_pairs() -> None:
    rng = random.Random(2)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=SplitAtSpaces())
    for _ in range(1500):
        hypothesis, reference = random_text(rng), random_text(rng)
        theirs = scorer.score(reference, hypothesis)
        ours = clipped(Text.of(hypothesis), Text.of(reference))
        for name, score in theirs.items():
            # Ours adds 1e-8 to a denominator, as `rouge` does.
            assert getattr(ours, name) == pytest.approx(100 * score.fmeasure, abs=1e-5), (hypothesis, reference)


@pytest.mark.parametrize("nothing", ["", "...", "가"])
def test_clipped_scores_a_text_without_pairs(nothing: str) -> None:
    for scores in (clipped(Text.of(nothing), Text.of("나 다")), clipped(Text.of("나 다"), Text.of(nothing))):
        assert str(scores.rounded()) == "{'rouge1': 0.0, 'rouge2': 0.0, 'rougeL': 0.0, 'final': 0.0}"


def test_clipped_sees_repetition_and_the_order_of_sentences() -> None:
    repeated, once = Text.of("가 나. 가 나."), Text.of("가 나.")
    assert published(repeated, once).rouge1 == pytest.approx(100)
    assert clipped(repeated, once).rouge1 == pytest.approx(100 * 2 / 3)
    assert published(Text.of("다 라. 가 나."), Text.of("가 나. 다 라.")).rougeL == pytest.approx(100)
    assert clipped(Text.of("다 라. 가 나."), Text.of("가 나. 다 라.")).rougeL == pytest.approx(50)


def test_the_default_tokenizer_of_rouge_score_drops_hangul() -> None:
    """Why `clipped` is ours: two summaries that share nothing get full marks for their tags."""
    score = RougeScorer(["rouge1"]).score("#Person1#은 학교에 갔다.", "#Person1#이 밥을 먹었다.")["rouge1"]
    assert score.fmeasure == 1


def test_a_scorer_gives_a_score_for_each_row_and_analyses_a_text_once() -> None:
    asked: list[str] = []

    def analyse(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return words(texts)

    scorer = Scorer(analyse)
    rows = scorer.rows(["가 나", "다"], [["가 나", "가"], ["가"]])
    assert [round(row.rouge1, 4) for row in rows] == [83.3333, 0]
    scorer.rows(["다"], [["가 나"]], clipped)
    assert asked == ["가 나", "다", "가"]


def test_importing_loads_no_analyser() -> None:
    code = "import sys, stages.scoring.rouge; print({'kiwipiepy', 'mecab', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout == "set()\n"


def test_hangul_in_pieces_scores_as_composed() -> None:
    text = "#Person1#은 학교에 갔다. #Person2#는 남았다."
    pieces = unicodedata.normalize("NFD", text)
    assert pieces != text
    for score in (word_scores, morpheme_scores):
        assert score([pieces], [[text]]).final == score([text], [[pieces]]).final == pytest.approx(100)
