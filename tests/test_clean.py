from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from stages.clean import clean_table, main
from stages.common.cleaning import STRUCTURE, load_rules
from stages.common.errors import UserError
from stages.common.tables import read_table, write_table

ROOT = Path(__file__).parent.parent
RULES = load_rules(ROOT / "data/rules/denoise.csv")
PATH = Path("data/ingested/train.csv")


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
    assert report["dev"]["rules"]["double_quote"] == {"rows": 0, "replacements": 0}


def test_rows_and_replacements_are_counted_apart() -> None:
    dialogues = ["#Person1#: “네”", "#Person1#: 네", "#Person1#: “네” “응”"]
    summaries = ["네", "네", "“네”"]
    clean, report = clean_table(
        table(dialogue=dialogues, summary=summaries), "train", RULES, fix_spacing=True, path=PATH
    )
    assert list(clean["dialogue"]) == ['#Person1#: "네"', "#Person1#: 네", '#Person1#: "네" "응"']
    assert (report["rows"], report["changed"]) == (3, 2)
    assert report["rules"]["double_quote"] == {"rows": 2, "replacements": 8}


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


def test_spacing_follows_the_parameter(project: Path) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text(encoding="utf-8").replace("fix_spacing: true", "fix_spacing: false"), "utf-8")
    main()
    assert read_table(Path("data/clean/test.csv"), "test")["dialogue"][0] == "#Person1#: 저... 네 .\n#Person2#: 네"
