from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.check import main
from stages.core.errors import UserError
from stages.corpus import tables
from stages.corpus.extra_rows import labelled
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, write_table

ROOT = Path(__file__).parents[1]
SAMPLE = {split: read_table(ROOT / f"data/sample/{split}.csv", "test") for split in ("train", "dev", "test")}
NO_EXTRA = pd.DataFrame(columns=AUGMENTED_COLUMNS, dtype="str")
OUTPUTS = [Path("data/checked") / f"{name}.csv" for name in ("train", "dev", "test", "removed", "warnings")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters, and clean tables of eight, four and four rows of the sample."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for split, rows in (("train", 8), ("dev", 4), ("test", 4)):
        write_table(SAMPLE[split].head(rows), Path(f"data/clean/{split}.csv"))
    write_table(NO_EXTRA, Path("data/clean/extra.csv"))
    return tmp_path


def configure(**settings: object) -> None:
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["check"].update(settings)
    yaml.dump(params, Path("params.yaml"))


def add(split: str, **row: str) -> None:
    """Add a row to a clean table: the first one with changes."""
    path = Path(f"data/clean/{split}.csv")
    table = read_table(path, "test")
    write_table(pd.concat([table, table.head(1).assign(**row)]), path)


def read(name: str) -> list[list[str]]:
    table = pd.read_csv(f"data/checked/{name}.csv", dtype=str)
    assert list(table) == ["fname", "table", "check", "detail"]
    return [[str(value) for value in row] for row in table.to_numpy()]


def metrics() -> dict[str, dict[str, int]]:
    return dict(json.loads(Path("metrics/data/checks.json").read_text(encoding="utf-8")))


def dialogue(split: str, row: int) -> str:
    return str(SAMPLE[split]["dialogue"][row])


def test_good_tables_pass_unchanged(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    main()
    for split in ("train", "dev", "test"):
        assert Path(f"data/checked/{split}.csv").read_bytes() == Path(f"data/clean/{split}.csv").read_bytes()
    for name in ("removed", "warnings"):
        assert Path(f"data/checked/{name}.csv").read_text() == "fname,table,check,detail\n"
    checks = dict.fromkeys(
        (
            "personal_data",
            "empty_summary",
            "long_summary",
            "unknown_speaker",
            "not_korean",
            "first_speaker",
            "doubtful_tag",
            "unsigned_speaker",
            "preamble",
            "near_duplicates",
        ),
        0,
    )
    held_out = {"rows": 4, "kept": 4, **checks}
    train = {"rows": 8, "kept": 8, "exact_duplicates": 0, "leakage": 0, **checks}
    assert metrics() == {"train": train, "dev": held_out, "test": held_out}
    assert caplog.messages == [
        "check: 0 rows removed, 0 warnings; see data/checked/removed.csv and warnings.csv",
    ]


def test_repeated_and_leaked_rows_of_train_are_removed(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    add("train", fname="again")
    add("train", fname="other_summary", summary="다른 요약입니다.")
    add("train", fname="leak", dialogue=dialogue("dev", 2).replace("#Person1#", "#Person3#"))
    add("train", fname="near", dialogue=dialogue("train", 3) + " 그래요.")
    caplog.set_level("INFO")
    main()
    kept = list(pd.read_csv("data/checked/train.csv")["fname"])
    assert kept == [*SAMPLE["train"]["fname"].head(8), "other_summary", "near"]
    dev = SAMPLE["dev"]["fname"][2]
    assert read("removed") == [
        ["again", "train", "exact_duplicates", "dialogue and summary are those of train row train_0"],
        ["leak", "train", "leakage", f"dialogue is like that of dev row {dev}, similarity 1.00"],
    ]
    warnings = read("warnings")
    assert [row[:3] for row in warnings] == [
        ["other_summary", "train", "near_duplicates"],
        ["near", "train", "near_duplicates"],
    ]
    assert warnings[0][3] == "dialogue is like that of train row train_0, similarity 1.00"
    assert re.fullmatch(r"dialogue is like that of train row \S+, similarity 0\.9\d", warnings[1][3])
    train = metrics()["train"]
    assert (train["rows"], train["kept"]) == (12, 10)
    assert (train["exact_duplicates"], train["leakage"], train["near_duplicates"]) == (1, 1, 2)
    assert caplog.messages == [
        "data/clean/train.csv: check.exact_duplicates: 1 of 12 rows, 1 removed",
        "data/clean/train.csv: check.leakage: 1 of 12 rows, 1 removed",
        "data/clean/train.csv: check.near_duplicates: 2 of 12 rows, 0 removed",
        "check: 2 rows removed, 2 warnings; see data/checked/removed.csv and warnings.csv",
    ]


def test_near_duplicates_are_removed_on_demand(project: Path) -> None:
    configure(near_duplicates="remove")
    add("train", fname="near", dialogue=dialogue("train", 3) + " 그래요.")
    add("train", fname="nearer", dialogue=dialogue("train", 3) + " 그래요!")
    main()
    assert Path("data/checked/train.csv").read_bytes() == b"".join(
        Path("data/clean/train.csv").read_bytes().partition(b"near,")[:1]
    )
    assert [row[:3] for row in read("removed")] == [
        ["near", "train", "near_duplicates"],
        ["nearer", "train", "near_duplicates"],
    ]


def test_the_threshold_is_a_parameter(project: Path) -> None:
    words = dialogue("train", 3).split(" ")
    add("train", fname="near", dialogue=" ".join([*words[:-4], "아주", "다른", "말로", "끝나요."]))
    configure(near_duplicate_threshold=1.0)
    main()
    assert metrics()["train"]["near_duplicates"] == 0
    configure(near_duplicate_threshold=0.5)
    main()
    assert metrics()["train"]["near_duplicates"] == 1


def test_dev_and_test_keep_rows_that_are_alike(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(near_duplicates="remove")
    add("test", fname="like_dev", dialogue=dialogue("dev", 1))
    caplog.set_level("INFO")
    main()
    assert Path("data/checked/test.csv").read_bytes() == Path("data/clean/test.csv").read_bytes()
    dev = SAMPLE["dev"]["fname"][1]
    assert read("warnings") == [
        ["like_dev", "test", "near_duplicates", f"dialogue is like that of dev row {dev}, similarity 1.00"]
    ]
    assert caplog.messages[0] == (
        "data/clean/test.csv: check.near_duplicates: 1 of 5 rows, 0 removed; rows of dev and test never are"
    )


@pytest.mark.parametrize("check", ["exact_duplicates", "leakage", "near_duplicates"])
def test_a_check_may_stop_the_run_or_be_ignored(project: Path, check: str) -> None:
    add("train", fname="again", dialogue=dialogue("dev" if check == "leakage" else "train", 0))
    configure(exact_duplicates="ignore", leakage="ignore", near_duplicates="ignore")
    main()
    assert len(pd.read_csv("data/checked/train.csv")) == 9
    assert check not in metrics()["train"]
    before = [path.read_bytes() for path in OUTPUTS]

    configure(**{check: "stop"})
    with pytest.raises(UserError) as error:
        main()
    assert re.fullmatch(
        rf"data/clean/train\.csv: row again: dialogue \S.*; mend the row in data\.source's table, or set "
        rf"check\.{check} to warn or remove",
        str(error.value),
    )
    assert [path.read_bytes() for path in OUTPUTS] == before
    assert sorted(path.name for path in Path("data").iterdir()) == ["checked", "clean"]


def test_personal_data_stands_in_no_output_but_the_tables(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    add("train", fname="private", dialogue="#Person1#: 번호가 뭐예요?\n#Person2#: 010-9876-5432예요.", summary="통화")
    main()
    assert read("warnings") == [["private", "train", "personal_data", "dialogue has 1 PhoneNumber"]]
    for path in (*OUTPUTS[1:], Path("metrics/data/checks.json")):
        assert "9876" not in path.read_text(encoding="utf-8")
    assert "9876" not in caplog.text
    assert "9876" in OUTPUTS[0].read_text(encoding="utf-8")

    configure(personal_data="mask")
    main()
    assert "#Person2#: #PhoneNumber#예요." in OUTPUTS[0].read_text(encoding="utf-8")
    assert "9876" not in OUTPUTS[0].read_text(encoding="utf-8")


def test_a_table_of_which_no_row_stays(project: Path) -> None:
    leak = SAMPLE["train"].head(1).assign(dialogue=dialogue("dev", 0))
    write_table(leak, Path("data/clean/train.csv"))
    with pytest.raises(
        UserError, match=r"^data/clean/train\.csv: the checks remove every row, the last by check\.leakage; "
    ):
        main()
    assert not Path("data/checked").exists()


def test_batches_make_no_difference(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(near_duplicates="remove")
    for place in range(5):
        add("train", fname=f"near_{place}", dialogue=dialogue("train", place) + " 그래요.")
    add("train", fname="again")
    main()
    whole = [path.read_bytes() for path in OUTPUTS]
    monkeypatch.setattr(tables, "BATCH", 2)
    main()
    assert [path.read_bytes() for path in OUTPUTS] == whole
    assert len(read("removed")) == 6


def test_nothing_of_the_sample_is_removed(project: Path) -> None:
    for split, table in SAMPLE.items():
        write_table(table, Path(f"data/clean/{split}.csv"))
    main()
    assert read("removed") == []


def write_extra(**tables: pd.DataFrame) -> None:
    """Write the clean table of further ones, each under its name."""
    labels = [labelled(rows, f"extra:{name}") for name, rows in tables.items()]
    write_table(pd.concat(labels), Path("data/clean/extra.csv"))


def english(*fnames: str) -> pd.DataFrame:
    """A table of different dialogues in English."""
    words = ["window", "river", "market", "engine", "garden", "letter", "bridge", "winter", "doctor", "ticket"]
    rows = [
        {
            "fname": fname,
            "dialogue": f"#Person1#: Where is the {words[place]} today?\n#Person2#: Ask {words[-place - 1]} people.",
            "summary": f"#Person1# asks about the {words[place]}.",
        }
        for place, fname in enumerate(fnames)
    ]
    return pd.DataFrame(rows, dtype="str")


def test_rows_of_further_tables_are_checked_as_those_of_train(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    def row(fname: str, dialogue: str, summary: str) -> pd.DataFrame:
        return pd.DataFrame([{"fname": fname, "dialogue": dialogue, "summary": summary}], dtype="str")

    older = [
        SAMPLE["train"].head(1)[["fname", "dialogue", "summary"]],
        row("a", dialogue("test", 1), "시험 문제입니다."),
        row("b", dialogue("train", 2) + " 그래요.", "비슷합니다."),
        row("c", SAMPLE["train"]["dialogue"][20], "In English."),
        row("d", SAMPLE["train"]["dialogue"][21], "잘 지냅니다."),
        row("e", SAMPLE["train"]["dialogue"][22], "끝입니다."),
    ]
    write_extra(older=pd.concat(older), english=english("train_0", "train_1"))
    caplog.set_level("INFO")
    main()
    test = SAMPLE["test"]["fname"][1]
    assert read("removed") == [
        ["older:train_0", "extra:older", "exact_duplicates", "dialogue and summary are those of train row train_0"],
        ["older:a", "extra:older", "leakage", f"dialogue is like that of test row {test}, similarity 1.00"],
    ]
    [not_korean, near] = read("warnings")
    assert not_korean[:3] == ["older:c", "extra:older", "not_korean"]
    assert near[:3] == ["older:b", "extra:older", "near_duplicates"]
    assert near[3].startswith("dialogue is like that of train row train_2, similarity 0.9")
    kept = read_table(Path("data/checked/extra.csv"), "train")
    assert list(kept["fname"]) == ["older:b", "older:c", "older:d", "older:e", "english:train_0", "english:train_1"]
    report = metrics()
    assert list(report) == ["train", "dev", "test", "extra:older", "extra:english"]
    assert {name: count for name, count in report["extra:older"].items() if count} == {
        "rows": 6,
        "kept": 4,
        "exact_duplicates": 1,
        "leakage": 1,
        "not_korean": 1,
        "near_duplicates": 1,
    }
    assert "not_korean" not in report["extra:english"]
    assert caplog.messages == [
        "extra:english: 2 of 2 dialogues are not Korean, so check.not_korean leaves this table alone",
        "extra:older: check.exact_duplicates: 1 of 6 rows, 1 removed",
        "extra:older: check.leakage: 1 of 6 rows, 1 removed",
        "extra:older: check.not_korean: 1 of 6 rows, 0 removed",
        "extra:older: check.near_duplicates: 1 of 6 rows, 0 removed",
        "check: 2 rows removed, 2 warnings; see data/checked/removed.csv and warnings.csv",
    ]


def test_near_duplicates_in_further_tables_are_removed_there(project: Path) -> None:
    configure(near_duplicates="remove")
    again = english("x").assign(fname="again", summary="다시")
    write_extra(first=english("x", "y"), second=pd.concat([again, english("p", "q", "z").tail(1)]))
    main()
    assert [row[:3] for row in read("removed")] == [["second:again", "extra:second", "near_duplicates"]]
    assert list(pd.read_csv("data/checked/extra.csv")["fname"]) == ["first:x", "first:y", "second:z"]
    assert Path("data/checked/train.csv").read_bytes() == Path("data/clean/train.csv").read_bytes()


@pytest.mark.parametrize("action", ["remove", "warn"])
def test_a_dialogue_of_dev_or_test_in_another_language_is_found_by_its_id(project: Path, action: str) -> None:
    configure(leakage=action)
    for split in ("dev", "test"):
        write_table(
            SAMPLE[split].head(4).assign(fname=[f"{split}_{n}" for n in (3, 12, 5, 7)]), Path(f"data/clean/{split}.csv")
        )
    names = ["train_12", "test_12", "dev_12_1", "test_3_2", "test_120", "dev_4", "test_7_x"]
    write_extra(english=english(*names))
    main()
    found = read("removed" if action == "remove" else "warnings")
    leaks = {"test_12": "test row test_12", "dev_12_1": "dev row dev_12", "test_3_2": "test row test_3"}
    detail = "its own fname is that of {}: the same dialogue, maybe in another language"
    assert [row for row in found if row[2] == "leakage"] == [
        [f"english:{name}", "extra:english", "leakage", detail.format(of)] for name, of in leaks.items()
    ]
    kept = list(pd.read_csv("data/checked/extra.csv")["fname"])
    gone = leaks if action == "remove" else {}
    assert kept == [f"english:{name}" for name in names if name not in gone]
    assert metrics()["extra:english"]["leakage"] == 3


def test_a_leak_of_a_further_table_may_stop_the_run(project: Path) -> None:
    configure(leakage="stop")
    name = SAMPLE["test"]["fname"][0]
    write_extra(english=english(name, "train_1"))
    with pytest.raises(UserError) as error:
        main()
    assert str(error.value) == (
        f"extra:english: row english:{name}: its own fname is that of test row {name}: the same dialogue, maybe in "
        "another language; mend the row in its table of data.extra, or set check.leakage to warn or remove"
    )


def test_a_table_that_is_all_test_has_no_place_in_training(project: Path) -> None:
    write_extra(english=english(*SAMPLE["test"]["fname"].head(4)))
    with pytest.raises(UserError) as error:
        main()
    assert str(error.value) == (
        "extra:english: the checks remove every row, the last by check.leakage; take the table out of data.extra"
    )


def test_a_table_that_is_removed_is_told_of_by_its_own_findings(project: Path) -> None:
    rows = english(*SAMPLE["test"]["fname"].head(4))
    twins = english("train_1", "train_2").assign(dialogue=lambda table: table["dialogue"][0], summary="#Person1# asks.")
    write_extra(english=rows, twins=twins)
    with pytest.raises(UserError) as error:
        main()
    assert str(error.value) == (
        "extra:english: the checks remove every row, the last by check.leakage; take the table out of data.extra"
    )
