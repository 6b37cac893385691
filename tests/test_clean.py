from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import clean
from stages.clean import main
from stages.cleaning.batch import clean_batch
from stages.cleaning.rules import STRUCTURE, load_rules
from stages.core import paths
from stages.core.errors import UserError
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, write_table

ROOT = Path(__file__).parent.parent
RULES = load_rules(ROOT / "data/rules/denoise.csv")
PATH = Path("data/ingested/train.csv")
NO_EXTRA = pd.DataFrame(columns=AUGMENTED_COLUMNS, dtype="str")


def table(**columns: list[str]) -> pd.DataFrame:
    rows = len(next(iter(columns.values())))
    return pd.DataFrame({"fname": [f"train_{i}" for i in range(rows)], **columns}, dtype="str")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters, rules and ingested tables of one noisy row each."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "data/rules/denoise.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes((ROOT / name).read_bytes())
    dialogue = ["#Person1#: 저… 네 .\r\n#Person2#: 네ㅋㅋ"]
    write_table(
        table(dialogue=dialogue, summary=["#Person1# 은 “네”"], topic=["“대답”"]),
        Path("data/ingested/train.csv"),
    )
    write_table(table(dialogue=dialogue, summary1=["#Person1# 은"], summary2=["네 ."]), Path("data/ingested/dev.csv"))
    write_table(table(dialogue=dialogue), Path("data/ingested/test.csv"))
    write_table(NO_EXTRA, Path("data/ingested/extra.csv"))
    return tmp_path


def test_dialogues_are_cleaned_and_references_stay(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    main()
    clean = "#Person1#: 저... 네.\n#Person2#: 네"
    train, dev, test = (
        read_table(Path("data/clean") / f"{split}.csv", split).to_dict("records")[0]
        for split in ("train", "dev", "test")
    )
    assert train == {
        "fname": "train_0",
        "dialogue": clean,
        "summary": '#Person1#은 "네"',
        "topic": "“대답”",
    }
    assert dev == {"fname": "train_0", "dialogue": clean, "summary1": "#Person1# 은", "summary2": "네 ."}
    assert test == {"fname": "train_0", "dialogue": clean}
    assert caplog.messages == [
        "clean: 22 rules from data/rules/denoise.csv; rows changed: train 1 of 1, dev 1 of 1, test 1 of 1; "
        "see metrics/data/cleaning.json"
    ]


def test_names_without_signs_are_mended_alike_in_dialogues_and_all_references(project: Path) -> None:
    dialogue = ["Person1: 저… 네.\nPerson2: 네, Person1은요?"]
    write_table(table(dialogue=dialogue, summary=["Person1은 “네”"]), PATH)
    write_table(
        table(dialogue=dialogue, summary1=["Person1은 “네”"], summary2=["둘은 #회사"]), Path("data/ingested/dev.csv")
    )
    main()
    train, dev = (
        read_table(Path(f"data/clean/{split}.csv"), split).to_dict("records")[0] for split in ("train", "dev")
    )
    clean = "#Person1#: 저... 네.\n#Person2#: 네, #Person1#은요?"
    assert train == {"fname": "train_0", "dialogue": clean, "summary": '#Person1#은 "네"'}
    assert dev == {"fname": "train_0", "dialogue": clean, "summary1": "#Person1#은 “네”", "summary2": "둘은 #회사"}
    report = json.loads(Path("metrics/data/cleaning.json").read_text(encoding="utf-8"))
    assert report["train"]["rules"]["bare_tag"] == report["dev"]["rules"]["bare_tag"] == {"rows": 1, "replacements": 4}


def test_names_in_summaries_are_those_of_speakers(project: Path) -> None:
    dialogue = ["#Person1#: 네.\n#Person2#: 응."]
    summary = "Person2는 Person 5는 재미있다고 한다."
    write_table(table(dialogue=dialogue, summary=[summary]), PATH)
    write_table(table(dialogue=dialogue, summary1=[summary]), Path("data/ingested/dev.csv"))
    main()
    train, dev = (
        read_table(Path(f"data/clean/{split}.csv"), split).to_dict("records")[0] for split in ("train", "dev")
    )
    assert train["summary"] == dev["summary1"] == "#Person2#는 Person 5는 재미있다고 한다."


def test_the_report_names_each_step_and_rule(project: Path) -> None:
    main()
    report = json.loads(Path("metrics/data/cleaning.json").read_text(encoding="utf-8"))
    assert list(report) == ["train", "dev", "test"]
    assert list(report["train"]["rules"]) == [*STRUCTURE, *(rule.id for rule in RULES)]
    touched = {name: counts for name, counts in report["train"]["rules"].items() if counts["rows"]}
    assert report["train"]["rows"] == report["train"]["changed"] == 1
    assert touched == {
        "crlf": {"rows": 1, "replacements": 1},
        "tag_particle": {"rows": 1, "replacements": 1},
        "space_before_punctuation": {"rows": 1, "replacements": 1},
        "ellipsis": {"rows": 1, "replacements": 1},
        "double_quote": {"rows": 1, "replacements": 2},
        "laugh_end": {"rows": 1, "replacements": 1},
    }
    assert report["train"]["typos"] == {"rows": 0, "replacements": 0}
    assert report["dev"]["rules"]["double_quote"] == {"rows": 0, "replacements": 0}


def test_rows_and_replacements_are_counted_apart() -> None:
    dialogues = ["#Person1#: “네”", "#Person1#: 네", "#Person1#: “네” “응”"]
    summaries = ["네", "네", "“네”"]
    cleaned, tally = clean_batch(
        table(dialogue=dialogues, summary=summaries),
        path=PATH,
        split="train",
        rules=RULES,
        fix_spacing=True,
        typo_threshold=None,
    )
    assert list(cleaned["dialogue"]) == ['#Person1#: "네"', "#Person1#: 네", '#Person1#: "네" "응"']
    assert (tally.rows, tally.changed) == (3, 2)
    assert tally.touched == {"double_quote": 2}
    assert tally.replacements == {"double_quote": 8}


def test_outputs_repeat_byte_for_byte(project: Path) -> None:
    outputs = [
        Path("metrics/data/cleaning.json"),
        *(Path(f"data/clean/{s}.csv") for s in ("train", "dev", "test")),
    ]
    main()
    first = [path.read_bytes() for path in outputs]
    main()
    assert [path.read_bytes() for path in outputs] == first


@pytest.mark.parametrize(
    ("dialogue", "summary", "message"),
    [
        (
            "네, Person1: 저예요.",
            "요약",
            "data/ingested/train.csv: row train_0, column dialogue: no turn is left after cleaning; in "
            "data.source's table, begin each turn with #Person1#: or #Person2#: on a line of its own",
        ),
        (
            "#Person1#: #",
            "요약",
            "data/ingested/train.csv: row train_0, column dialogue: no turn is left after cleaning; in "
            "data.source's table, begin each turn with #Person1#: or #Person2#: on a line of its own",
        ),
        (
            "#Person1#: 네",
            "##",
            "data/ingested/train.csv: row train_0, column summary: nothing is left after cleaning; in "
            "data.source's table, write the summary or delete the row",
        ),
    ],
)
def test_a_row_of_which_nothing_is_left_stops_the_run(project: Path, dialogue: str, summary: str, message: str) -> None:
    write_table(table(dialogue=[dialogue], summary=[summary]), PATH)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        main()
    assert not Path("metrics").exists()
    assert sorted(path.name for path in Path("data").iterdir()) == ["ingested", "rules"]


def set_clean(**settings: bool) -> None:
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["clean"].update(settings)
    yaml.dump(params, Path("params.yaml"))


def test_spacing_follows_the_parameter(project: Path) -> None:
    set_clean(fix_spacing=False)
    main()
    assert read_table(Path("data/clean/test.csv"), "test")["dialogue"][0] == "#Person1#: 저... 네 .\n#Person2#: 네"


TYPOS = "#Person1#: 몇일 뒤에 다시 올께요ㅋㅋ\n#Person2#: #Name#씨 , 몇일이요?"


def test_typos_are_corrected_after_the_rules_and_counted(project: Path) -> None:
    write_table(table(dialogue=[TYPOS, TYPOS], summary=["#Person1#은 몇일 뒤에 온다.", "온다."]), PATH)
    main()
    train = read_table(Path("data/clean/train.csv"), "train")
    assert set(train["dialogue"]) == {"#Person1#: 며칠 뒤에 다시 올게요\n#Person2#: #Name#씨, 며칠이요?"}
    assert list(train["summary"]) == ["#Person1#은 며칠 뒤에 온다.", "온다."]
    report = json.loads(Path("metrics/data/cleaning.json").read_text(encoding="utf-8"))
    assert report["train"]["typos"] == {"rows": 2, "replacements": 7}


def test_references_of_dev_keep_their_typos(project: Path) -> None:
    write_table(table(dialogue=[TYPOS], summary1=["몇일"], summary2=["올께요"]), Path("data/ingested/dev.csv"))
    main()
    dev = read_table(Path("data/clean/dev.csv"), "dev")
    assert "며칠" in dev["dialogue"][0]
    assert dev[["summary1", "summary2"]].to_numpy().tolist() == [["몇일", "올께요"]]


def test_typos_stay_on_request(project: Path) -> None:
    write_table(table(dialogue=[TYPOS], summary=["몇일"]), PATH)
    set_clean(fix_typos=False)
    main()
    train = read_table(Path("data/clean/train.csv"), "train")
    assert list(train["dialogue"]) == ["#Person1#: 몇일 뒤에 다시 올께요\n#Person2#: #Name#씨, 몇일이요?"]
    assert list(train["summary"]) == ["몇일"]


def test_cleaning_the_clean_sample_changes_nothing(project: Path) -> None:
    shutil.rmtree("data/ingested")
    shutil.copytree(ROOT / "data/sample", "data/ingested")
    write_table(NO_EXTRA, Path("data/ingested/extra.csv"))
    main()
    once = {path.name: path.read_bytes() for path in Path("data/clean").iterdir()}
    typos = json.loads(paths.CLEANING_METRICS.read_text(encoding="utf-8"))["train"]["typos"]
    shutil.rmtree("data/ingested")
    Path("data/clean").rename("data/ingested")
    main()
    assert {path.name: path.read_bytes() for path in Path("data/clean").iterdir()} == once
    assert typos["rows"] > 0
    assert all(
        split["changed"] == 0 for split in json.loads(paths.CLEANING_METRICS.read_text(encoding="utf-8")).values()
    )


def test_processes_give_what_one_gives(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 1100
    dialogues = [f"#Person1#: “{i}” 봤어{'ㅋㅋ' * (i % 2)}\n#Person2# : {i % 7}번 봤 ." for i in range(rows)]
    write_table(table(dialogue=dialogues, summary=[f"#Person1# 은 {i}을 봤다 ." for i in range(rows)]), PATH)
    set_clean(fix_typos=False)
    main()
    alone = Path("data/clean/train.csv").read_bytes(), paths.CLEANING_METRICS.read_bytes()
    monkeypatch.setattr(clean, "SMALL", 0)
    monkeypatch.setattr(clean, "available_cores", lambda: 2)
    main()
    assert (Path("data/clean/train.csv").read_bytes(), paths.CLEANING_METRICS.read_bytes()) == alone
    assert json.loads(alone[1])["train"]["rows"] == rows


def test_an_error_in_another_process_is_the_same_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dialogues = ["#Person1#: 네"] * 1100
    dialogues[1050] = "네, Person1: 저예요."
    write_table(table(dialogue=dialogues, summary=["네"] * 1100), PATH)
    set_clean(fix_typos=False)
    monkeypatch.setattr(clean, "SMALL", 0)
    monkeypatch.setattr(clean, "available_cores", lambda: 2)
    with pytest.raises(UserError, match=r"^data/ingested/train\.csv: row train_1050, column dialogue: no turn is left"):
        main()
    assert not Path("data/clean").exists()


def test_rows_of_further_tables_are_cleaned_as_those_of_train(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = {"dialogue": ["#Person1#: “Well… fine .”\r\nPerson2: 몇일요?"], "summary": ["Person1 is “fine” ."]}
    rows = table(**texts).assign(fname="english:train_0", topic="", source="extra:english")
    write_table(rows, Path("data/ingested/extra.csv"))
    caplog.set_level("INFO")
    main()
    assert read_table(Path("data/clean/extra.csv"), "train").to_dict("records") == [
        {
            "fname": "english:train_0",
            "dialogue": '#Person1#: "Well... fine."\n#Person2#: 며칠요?',
            "summary": '#Person1# is "fine".',
            "topic": "",
            "source": "extra:english",
        }
    ]
    report = json.loads(paths.CLEANING_METRICS.read_text(encoding="utf-8"))
    assert list(report) == ["train", "dev", "test", "extra"]
    assert (report["extra"]["rows"], report["extra"]["changed"], report["extra"]["typos"]["rows"]) == (1, 1, 1)
    assert "test 1 of 1, extra 1 of 1" in caplog.messages[-1]


def test_a_row_of_a_further_table_of_which_nothing_is_left(project: Path) -> None:
    rows = table(dialogue=["#Person1#: Hi."], summary=["##"])
    write_table(rows.assign(topic="", source="extra:english"), Path("data/ingested/extra.csv"))
    with pytest.raises(UserError, match=r"nothing is left after cleaning; in its table of data\.extra, write the"):
        main()
