from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.ablation import REPORT, Result, experiments, report, row_scores
from stages.core.errors import UserError
from stages.core.params import Augment, load_params
from stages.scoring.morphemes import kiwi_morphemes
from stages.scoring.rouge import morpheme_scores
from tests.clone import Clone, stages_run

ROOT = Path(__file__).parents[1]


def augment(paraphrase: int, speaker_swap: int, synthesize: int) -> Augment:
    """The parameters with these n."""
    given = load_params(ROOT / "params.yaml").augment
    sizes = {"paraphrase": paraphrase, "speaker_swap": speaker_swap, "synthesize": synthesize}
    return given.model_copy(
        update={name: getattr(given, name).model_copy(update={"n": n}) for name, n in sizes.items()}
    )


def test_each_method_that_adds_rows_runs_alone_and_with_the_others() -> None:
    def sizes(paraphrase: int, speaker_swap: int, synthesize: int) -> dict[str, int]:
        return {"paraphrase": paraphrase, "speaker_swap": speaker_swap, "synthesize": synthesize}

    assert experiments(augment(24, 16, 12)) == {
        "none": sizes(0, 0, 0),
        "paraphrase": sizes(24, 0, 0),
        "speaker_swap": sizes(0, 16, 0),
        "synthesize": sizes(0, 0, 12),
        "all": sizes(24, 16, 12),
    }
    assert experiments(augment(0, 16, 0)) == {"none": sizes(0, 0, 0), "speaker_swap": sizes(0, 16, 0)}


def test_without_augmentation_there_is_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="no method has an n above 0"):
        experiments(augment(0, 0, 0))


def test_rows_are_scored_one_by_one_where_there_are_references() -> None:
    predictions = ["#Person1#은 밥을 먹습니다.", "아무 말.", "#Person2#가 옵니다."]
    refs = [["#Person1#은 죽을 먹습니다."], [], ["#Person2#가 갑니다.", "#Person2#가 옵니다."]]
    scores = row_scores(predictions, refs, kiwi_morphemes)
    assert len(scores) == 2
    assert sum(scores) / 2 == pytest.approx(morpheme_scores(predictions[::2], refs[::2]).final)


def test_report_sets_each_experiment_beside_the_one_without_augmentation() -> None:
    results = {
        "none": Result(80, {"dev": [30.0, 30.0], "test": [20.0, 20.0, 20.0]}),
        "paraphrase": Result(104, {"dev": [31.5, 31.5], "test": [19.0, 19.0, 19.0]}),
    }
    text = report(results, seed=42)
    assert "over 2 dev and 3 test dialogues" in text
    assert text.splitlines()[-4:] == [
        "| augmentation | training rows | dev | dev, difference to none | test | test, difference to none |",
        "| --- | --- | --- | --- | --- | --- |",
        "| none | 80 | 30.00 [30.00, 30.00] |  | 20.00 [20.00, 20.00] |  |",
        "| paraphrase | 104 | 31.50 [31.50, 31.50] | 1.50 [1.50, 1.50] | 19.00 [19.00, 19.00] | -1.00 [-1.00, -1.00] |",
    ]


def test_a_split_without_references_has_no_column() -> None:
    text = report({"none": Result(8, {"dev": [1.0]}), "all": Result(9, {"dev": [2.0]})}, seed=42)
    assert "over 1 dev dialogues" in text
    assert "test" not in text


@pytest.mark.slow
def test_one_command_runs_all_and_can_be_repeated(finished: Clone) -> None:
    finished.restore()
    done = finished.run("make", "ablation")
    table = finished.bytes(str(REPORT)).decode()
    assert table in done.stdout
    assert re.findall(r"^\| (\w+) \| (\d+) \|", table, re.MULTILINE) == [("none", "12"), ("speaker_swap", "16")]
    assert finished.git("status", "--porcelain").split() == ["??", str(REPORT)]
    assert {"ablation-none", "ablation-speaker_swap"} <= set(finished.dvc("exp", "list", "--name-only").split())

    # An experiment of an earlier commit has the name already.
    finished.git("commit", "-q", "--allow-empty", "-m", "another commit")
    again = (
        "from benchmarks.ablation import experiments, run_experiment; from stages.core.params import load_params; "
        "run_experiment('speaker_swap', experiments(load_params().augment)['speaker_swap'])"
    )
    log = finished.run("python", "-c", again)
    assert stages_run(log.stdout + log.stderr) == ["find_inputs"]
    assert finished.dvc("exp", "list", "--name-only").split() == ["ablation-speaker_swap"]
    (finished.folder / REPORT).unlink()
