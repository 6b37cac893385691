from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import merge
from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.corpus import tables
from stages.corpus.tables import read_table, write_table

ROOT = Path(__file__).parents[1]
HEADER = "fname,dialogue,summary,topic,source\n"
REJECTED = "method,origin,reason,dialogue,summary\n"
UNUSED = {"answers": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}
NOTHING_GENERATED = {
    "rejected": {"paraphrase": {}, "synthetic": {}},
    "llm": {"paraphrase": UNUSED, "synthetic": UNUSED},
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three original rows without topics, and two augmented ones."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    tables = {
        "checked/train": "fname,dialogue,summary\n"
        + "".join(f'train_{i},"#Person1#: {i}\n#Person2#: 네",요약 {i}\n' for i in range(3)),
        "checked/extra": HEADER,
        "augmented/paraphrase": HEADER,
        "augmented/speaker_swap": HEADER + "train_1.swap,#Person1#: 네,요약,주제,speaker_swap\n",
        "augmented/synthetic": HEADER + "synthetic_0,#Person1#: 새로,요약,주제,synthetic\n",
    }
    for name, text in tables.items():
        path = tmp_path / "data" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    for source in ("paraphrase", "synthetic"):
        Path(f"data/augmented/{source}.json").write_text(json.dumps({"rejected": {}, "llm": UNUSED}))
        Path(f"data/augmented/{source}.rejected.csv").write_text(REJECTED)
    return tmp_path


def set_params(seed: int = 42, **balance: float) -> None:
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["seed"] = seed
    params["augment"]["balance"].update(balance)
    yaml.dump(params, Path("params.yaml"))


def write_extra(**tables: Sequence[str]) -> None:
    """Write the checked table of further ones, and take all rows of each: `english=["train_0"]`."""
    rows = [
        f"{name}:{fname},#Person1#: {fname},요약,,extra:{name}\n" for name, fnames in tables.items() for fname in fnames
    ]
    Path("data/checked/extra.csv").write_text(HEADER + "".join(rows), encoding="utf-8")
    set_extra(**dict.fromkeys(tables, "100%"))


def set_extra(**amounts: int | str) -> None:
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["data"]["extra"] = [{"path": f"raw/{name}.csv", "rows": amount} for name, amount in amounts.items()]
    yaml.dump(params, Path("params.yaml"))


def write_augmented(source: str, rows: int) -> None:
    lines = (f"{source}_{i},#Person1#: 네,요약,주제,{source}\n" for i in range(rows))
    Path(f"data/augmented/{source}.csv").write_text(HEADER + "".join(lines), encoding="utf-8")


def merged_names(source: str) -> list[str]:
    table = read_table(paths.MERGED, "train")
    return sorted(table["fname"][table["source"] == source])


def test_what_the_llm_stages_report_is_collected(workspace: Path) -> None:
    spent = {"answers": 4, "prompt_tokens": 900, "completion_tokens": 300, "cost": 0.5}
    Path("data/augmented/paraphrase.json").write_text(json.dumps({"rejected": {"not Korean": 2}, "llm": spent}))
    rows = {
        "paraphrase": 'paraphrase,train_1,not Korean,"a\nb",c\nparaphrase,train_2,not Korean,d,e\n',
        "synthetic": "synthetic,train_0,an empty turn,#Person1#:,f\n",
    }
    for source, text in rows.items():
        Path(f"data/augmented/{source}.rejected.csv").write_text(REJECTED + text)
    merge.main()
    metrics = json.loads(paths.AUGMENTATION_METRICS.read_text())
    assert metrics["rejected"] == {"paraphrase": {"not Korean": 2}, "synthetic": {}}
    assert metrics["llm"]["paraphrase"] == spent
    assert paths.REJECTED.read_text() == REJECTED + rows["paraphrase"] + rows["synthetic"]


def test_every_row_is_there_once_with_its_source(workspace: Path) -> None:
    merge.main()
    merged = read_table(paths.MERGED, "train")
    assert list(merged.columns) == ["fname", "dialogue", "summary", "topic", "source"]
    assert sorted(map(tuple, merged.to_numpy().tolist())) == [
        ("synthetic_0", "#Person1#: 새로", "요약", "주제", "synthetic"),
        ("train_0", "#Person1#: 0\n#Person2#: 네", "요약 0", "", "original"),
        ("train_1", "#Person1#: 1\n#Person2#: 네", "요약 1", "", "original"),
        ("train_1.swap", "#Person1#: 네", "요약", "주제", "speaker_swap"),
        ("train_2", "#Person1#: 2\n#Person2#: 네", "요약 2", "", "original"),
    ]
    assert (
        paths.AUGMENTATION_METRICS.read_text()
        == json.dumps(
            {
                "original": 3,
                "paraphrase": 0,
                "speaker_swap": 1,
                "synthetic": 1,
                "left_out": {"paraphrase": 0, "speaker_swap": 0, "synthetic": 0},
                "total": 5,
                **NOTHING_GENERATED,
            },
            indent=2,
        )
        + "\n"
    )


def test_the_order_depends_on_the_seed_alone(workspace: Path) -> None:
    def order(seed: int) -> tuple[str, ...]:
        set_params(seed)
        merge.main()
        return tuple(read_table(paths.MERGED, "train")["fname"])

    assert order(42) == order(42)
    assert len({order(seed) for seed in range(8)}) > 4


def test_without_augmentation_the_originals_remain(workspace: Path) -> None:
    for source in ("paraphrase", "speaker_swap", "synthetic"):
        write_augmented(source, 0)
    merge.main()
    assert set(read_table(paths.MERGED, "train")["fname"]) == {"train_0", "train_1", "train_2"}
    assert json.loads(paths.AUGMENTATION_METRICS.read_text())["total"] == 3


def test_a_source_is_kept_to_its_share_of_the_originals(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_augmented("paraphrase", 7)
    write_augmented("synthetic", 4)
    set_params(paraphrase=2.0, speaker_swap=0, synthetic=0.5)
    with caplog.at_level(logging.INFO):
        merge.main()
    assert json.loads(paths.AUGMENTATION_METRICS.read_text()) == {
        "original": 3,
        "paraphrase": 6,
        "speaker_swap": 0,
        "synthetic": 1,
        "left_out": {"paraphrase": 1, "speaker_swap": 1, "synthetic": 3},
        "total": 10,
        **NOTHING_GENERATED,
    }
    assert caplog.messages == [
        "data/merged/train.csv: 3 original, 6 paraphrase, 0 speaker_swap, 1 synthetic",
        "data/augmented/paraphrase.csv: 1 rows left out by augment.balance.paraphrase",
        "data/augmented/speaker_swap.csv: 1 rows left out by augment.balance.speaker_swap",
        "data/augmented/synthetic.csv: 3 rows left out by augment.balance.synthetic",
    ]
    assert len(merged_names("paraphrase")) == 6
    assert merged_names("original") == ["train_0", "train_1", "train_2"]


def test_what_is_left_out_depends_on_the_seed_alone(workspace: Path) -> None:
    write_augmented("paraphrase", 20)

    def kept(seed: int) -> tuple[str, ...]:
        set_params(seed)
        merge.main()
        return tuple(merged_names("paraphrase"))

    assert kept(42) == kept(42)
    assert {len(kept(seed)) for seed in range(3)} == {3}
    assert len({kept(seed) for seed in range(8)}) > 4


def test_the_share_is_exact() -> None:
    rows = np.stack([np.arange(100), np.ones(100, dtype=np.int64)], axis=1)
    kept = merge.balance({"original": rows, "synthetic": rows}, {"synthetic": 0.29}, np.random.default_rng(0))
    assert len(kept["synthetic"]) == 29  # 0.29 * 100 is below 29 in binary


def test_texts_come_out_as_they_went_in(workspace: Path) -> None:
    rows = [(f"train_{i}", f'#Person1#: "{i}",\r\n#Person2#: 네\r{"가" * (i % 50)}', f"요약\n{i}") for i in range(2500)]
    table = pd.DataFrame(rows, columns=["fname", "dialogue", "summary"], dtype="str")
    write_table(table, Path("data/checked/train.csv"))
    merge.main()
    merged = read_table(paths.MERGED, "train")
    merged = merged[merged["source"] == "original"]
    assert sorted(map(tuple, merged[["fname", "dialogue", "summary"]].to_numpy().tolist())) == sorted(rows)
    assert sorted(path.name for path in Path("data").iterdir()) == ["augmented", "checked", "merged"]


def test_an_fname_in_two_tables_is_an_error(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/augmented/synthetic.csv").write_text(HEADER + "train_1,#Person1#: 새로,요약,주제,synthetic\n")
    with pytest.raises(SystemExit) as stop:
        run_stage(merge.main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: data/augmented/synthetic.csv: row train_1, column fname: data/checked/train.csv has it too; "
        "give each row a name of its own\n"
    )
    assert not Path("data/merged").exists()
    assert not Path("metrics").exists()


def test_rows_of_further_tables_keep_their_source_and_are_counted(workspace: Path) -> None:
    write_extra(english=["train_0", "train_1"], older=["train_0"])
    merge.main()
    merged = read_table(paths.MERGED, "train")
    assert sorted(merged["fname"][merged["source"] == "extra:english"]) == ["english:train_0", "english:train_1"]
    assert merged_names("extra:older") == ["older:train_0"]
    counts = json.loads(paths.AUGMENTATION_METRICS.read_text())
    assert list(counts.items())[:6] == [
        *(("original", 3), ("paraphrase", 0), ("speaker_swap", 1), ("synthetic", 1)),
        *(("extra:english", 2), ("extra:older", 1)),
    ]
    assert counts["total"] == 8
    assert list(counts["left_out"]) == ["paraphrase", "speaker_swap", "synthetic"]


@pytest.mark.parametrize(
    ("amount", "rows"),
    [(0, 0), (3, 3), (500, 10), ("0%", 0), ("30%", 3), ("1%", 1), ("100%", 10), ("150%", 15), ("250%", 25)],
)
def test_of_a_further_table_a_count_or_a_share_is_taken(workspace: Path, amount: int | str, rows: int) -> None:
    write_extra(english=[f"train_{n}" for n in range(10)])
    set_extra(english=amount)
    merge.main()
    names = merged_names("extra:english")
    assert len(names) == rows
    assert json.loads(paths.AUGMENTATION_METRICS.read_text())["extra:english"] == rows
    copies = Counter(name.partition(".")[2] or "1" for name in names)
    whole, part = divmod(rows, 10)
    assert copies == Counter({str(copy): 10 for copy in range(1, whole + 1)} | ({str(whole + 1): part} if part else {}))


def test_of_a_further_table_other_rows_are_taken_by_another_seed(workspace: Path) -> None:
    write_extra(english=[f"train_{n}" for n in range(20)], older=["a", "b"])
    set_extra(english="15%", older="200%")

    def kept(seed: int) -> tuple[str, ...]:
        set_params(seed)
        merge.main()
        return tuple(merged_names("extra:english"))

    assert kept(42) == kept(42)
    assert {len(kept(seed)) for seed in range(3)} == {3}
    assert len({kept(seed) for seed in range(8)}) > 4
    assert merged_names("extra:older") == ["older:a", "older:a.2", "older:b", "older:b.2"]


def test_a_row_with_the_name_of_a_copy_is_told_of_by_its_own_table(workspace: Path) -> None:
    write_extra(older=["1", "1.2"])
    merge.main()
    assert merged_names("extra:older") == ["older:1", "older:1.2"]
    set_extra(older="200%")
    with pytest.raises(UserError) as error:
        merge.main()
    assert str(error.value) == (
        "raw/older.csv: row 1.2, column fname: a copy of row 1 that data.extra asks for is named so; give the row "
        "another name, or set rows to 100%"
    )


def test_batches_of_further_tables_make_no_difference(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_extra(english=[f"train_{n}" for n in range(7)], older=["a", "b", "c"])
    set_extra(english="130%", older="70%")
    merge.main()
    whole = paths.MERGED.read_bytes()
    monkeypatch.setattr(tables, "BATCH", 2)
    merge.main()
    assert paths.MERGED.read_bytes() == whole


def test_further_tables_change_nothing_about_the_rows_that_balance_keeps(workspace: Path) -> None:
    write_augmented("paraphrase", 20)
    merge.main()
    before = merged_names("paraphrase")
    write_extra(english=["train_0"])
    merge.main()
    assert merged_names("paraphrase") == before


def test_a_table_of_which_the_checks_left_nothing_is_counted_as_none(workspace: Path) -> None:
    set_extra(english="100%")
    merge.main()
    assert json.loads(paths.AUGMENTATION_METRICS.read_text())["extra:english"] == 0


def test_a_row_of_a_further_table_with_the_name_of_another(workspace: Path) -> None:
    Path("data/checked/extra.csv").write_text(HEADER + "train_1,#Person1#: 새로,요약,주제,extra:english\n")
    set_extra(english="100%")
    with pytest.raises(
        UserError, match=r"^data/checked/extra\.csv: row train_1, column fname: data/checked/train\.csv has it"
    ):
        merge.main()
