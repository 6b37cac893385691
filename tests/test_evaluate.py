from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dvclive import Live

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.evaluate import main, training_headline, write_metrics
from stages.scoring.row_scores import from_csv
from tests.needs import needs_mecab

REPOSITORY = Path(__file__).parent.parent

DIALOGUES = """\
fname,dialogue,summary1,summary2,topic
{split}_0,"#Person1#: 학교에 갔다.
#Person2#: 집에 왔다.",#Person1# 학교에 갔다. #Person2# 집에 왔다.,\
#Person1# 학교에 갔다. #Person2# 집에 왔다.,학교
{split}_1,"#Person1#: 나는 먹었다.
#Person2#: 나는 보았다.
#Person1#: 나는 들었다.",밥,밥,식사
"""
PREDICTIONS = "fname,summary\n{split}_1,\n{split}_0,#Person1# 학교에 갔다. #Person2# 집에 왔다.\n"
NO_REFERENCES = 'fname,dialogue,topic\ntest_0,"#Person1#: 학교에 갔다.",학교\n'

# Of two rows, 100 and 0, the bootstrap draws one of them twice a quarter of the time.
HALF = {"rouge1": 50.0, "rouge2": 50.0, "rougeL": 50.0, "final": 50.0, "final_low": 0.0, "final_high": 100.0}
SCORES = {
    "word": HALF,
    "morpheme": HALF,
    "clipped": HALF,
    "word_clipped": HALF,
    "baselines": {"lead2": {"final": 50.0}, "lead3": {"final": 50.0}, "longest3": {"final": 50.0}},
    "empty": 1,
    "length_ratio": 0.9714,
    "hangul_share": 1.0,
    "checks": {
        "swapped_speakers": 0.0,
        "silent_speakers": 0.0,
        "invented": 0.0,
        "missing_masks": 0.0,
        "repeats": 0.0,
        "not_korean": 0.0,
        "length": 50.0,
    },
    "by_length": {"0_to_249": {"rows": 2, "final": 50.0}},
    "by_speakers": {"2": {"rows": 2, "final": 50.0}},
}
HEADLINE = {
    "word": {"final": 50.0, "clipped": 50.0},
    "morpheme": {"final": 50.0, "clipped": 50.0},
    "repeats": 0.0,
    "length_ratio": 0.9714,
}
MACHINE = {"processor": "AMD family 25 model 17 (AVX2)", "threads": 2, "torch": "2.13.0+cpu"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the stage reads: two rows a table, one predicted perfectly and one left empty."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    for split in ("dev", "test"):
        write(tmp_path / f"data/checked/{split}.csv", DIALOGUES.format(split=split))
        write(tmp_path / f"data/predictions/{split}.csv", PREDICTIONS.format(split=split))
    write_json(tmp_path / "metrics/eval/decoding.json", {"objective": "balanced", "chosen": {"num_beams": 4}})
    with Live(dir="models/training", dvcyaml=False, save_dvc_exp=False) as live:
        for step in (12, 24):
            live.step = step
            live.log_metric("train/loss", 24 / step)
    write_json(tmp_path / "models/training/machine.json", MACHINE)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read_metrics() -> object:
    return json.loads(Path("metrics/eval/scores.json").read_text(encoding="utf-8"))


def read_headline() -> object:
    return json.loads(Path("metrics/eval/metrics.json").read_text(encoding="utf-8"))


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path("metrics").rglob("*") if path.is_file()}


def test_scores_and_curves_are_written(project: Path) -> None:
    main()
    assert read_metrics() == {"dev": SCORES, "test": SCORES}
    assert read_headline() == {"dev": HEADLINE, "test": HEADLINE}
    assert files().keys() == {
        "metrics/eval/decoding.json",
        "metrics/eval/metrics.json",
        "metrics/eval/report.html",
        "metrics/eval/rows.csv",
        "metrics/eval/scores.json",
        "metrics/train/machine.json",
        "metrics/train/metrics.json",
        "metrics/train/plots/metrics/train/loss.tsv",
    }
    assert files()["metrics/train/plots/metrics/train/loss.tsv"] == b"step\tloss\n12\t2.0\n24\t1.0\n"
    assert json.loads(files()["metrics/train/metrics.json"]) == {"train": {"loss": 1.0}}
    assert json.loads(files()["metrics/train/machine.json"]) == MACHINE


def test_the_score_of_each_row_is_kept(project: Path) -> None:
    write(project / "data/checked/test.csv", NO_REFERENCES)
    write(project / "data/predictions/test.csv", "fname,summary\ntest_0,가\n")
    main()
    scores, analyzer = from_csv(files()["metrics/eval/rows.csv"].decode())
    assert analyzer == "kiwi"
    assert list(scores) == ["dev"]
    found = {fname: (row.finals["word"], row.finals["morpheme"]) for fname, row in scores["dev"].items()}
    assert found == {"dev_0": (100.0, 100.0), "dev_1": (0.0, 0.0)}


def test_the_headline_of_training_is_its_losses_and_the_best_step() -> None:
    logged = {"train": {"loss": 1.5, "grad_norm": 4.0}, "step": 62, "best": {"step": 42, "eval_loss": 1.8}, "rows": 9}
    assert training_headline(logged) == {"train": {"loss": 1.5}, "best": {"eval_loss": 1.8, "step": 42}}
    assert training_headline({"step": 1}) == {}


def test_a_second_run_writes_the_same_bytes(project: Path) -> None:
    main()
    first = files()
    write(project / "metrics/train/plots/metrics/train/old.tsv", "of an earlier run")
    main()
    assert files() == first


def test_read_only_files_of_the_cache_are_copied_as_ordinary_ones(project: Path) -> None:
    (project / "models/training/plots/metrics/train/loss.tsv").chmod(0o444)
    main()
    assert (project / "metrics/train/plots/metrics/train/loss.tsv").stat().st_mode & 0o200


def test_it_ends_with_a_table(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert capsys.readouterr().out.startswith(
        """\
dev             word  morpheme   clipped       R-1       R-2       R-L   repeats    length
model          50.00     50.00     50.00     50.00     50.00     50.00        0%    x 0.97
lead2                    50.00
"""
    )


def test_a_test_table_without_references_is_not_scored(project: Path) -> None:
    write(project / "data/checked/test.csv", NO_REFERENCES)
    write(project / "data/predictions/test.csv", "fname,summary\ntest_0,가\n")
    main()
    assert read_metrics() == {"dev": SCORES}
    assert read_headline() == {"dev": HEADLINE}


def test_test_rows_with_blank_references_are_left_out(project: Path) -> None:
    write(
        project / "data/checked/test.csv",
        "fname,dialogue,summary\ntest_0,#Person1#: 네,\ntest_1,#Person1#: 아니요,가 나\n",
    )
    write(project / "data/predictions/test.csv", "fname,summary\ntest_0,다\ntest_1,가 나\n")
    main()
    metrics = read_metrics()
    assert isinstance(metrics, dict)
    assert metrics["test"]["word"]["final"] == 100


def test_predictions_of_another_table_are_refused(project: Path) -> None:
    write(project / "data/predictions/test.csv", PREDICTIONS.format(split="dev"))
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == (
        "data/predictions/test.csv: not predicted: test_0 (rows: 2); run `dvc repro` to predict again"
    )
    assert files().keys() == {"metrics/eval/decoding.json"}


def test_training_without_metrics_is_refused(project: Path) -> None:
    (project / "models/training/metrics.json").unlink()
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == "models/training/metrics.json: not found; `dvc repro` trains and writes it"
    assert files().keys() == {"metrics/eval/decoding.json"}


def test_metrics_keep_their_order_and_leave_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_metrics({"dev": {"word": {"rouge2": 1.5, "rouge1": 2}}}, tmp_path / "metrics.json")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert text == json.dumps({"dev": {"word": {"rouge2": 1.5, "rouge1": 2}}}, indent=4) + "\n"


def test_a_run_without_decoding_settings_is_refused(project: Path) -> None:
    (project / "metrics/eval/decoding.json").unlink()
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == "metrics/eval/decoding.json: not found; `dvc repro` writes it"
    assert files() == {}


@needs_mecab
def test_morphemes_of_mecab(project: Path) -> None:
    params = (project / "params.yaml").read_text(encoding="utf-8")
    write(project / "params.yaml", params.replace("morphemes: kiwi", "morphemes: mecab"))
    write(project / "data/predictions/dev.csv", "fname,summary\ndev_0,#Person1#\ndev_1,밥\n")
    main()
    metrics = read_metrics()
    assert isinstance(metrics, dict)
    # # Person 1 beside # Person 1 학교 에 갔 다 2 집 왔: 3 of 3 and 3 of 10 make 46.15; the other row is right.
    assert metrics["dev"]["morpheme"]["rouge1"] == 73.0769
