from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages import explore
from stages.cleaning.rules import clean_dialogue, load_rules
from stages.core import paths
from stages.core.files import write_json
from stages.core.params import Prompt
from stages.corpus.spread import spread
from stages.corpus.tables import write_table
from stages.pages import table_profile as profile
from stages.pages.data_page import DataReports, render_exploration
from tests.parsed_page import Page, in_english, in_korean, texts

FOUND = ["fname", "table", "check", "detail"]
PROMPT = Prompt(instruction="한 문장으로 요약하세요.", max_tokens=1024, few_shot=0, date="2024-07-26")

RAW = pd.DataFrame(
    {
        "fname": ["train_0", "train_1"],
        "dialogue": [
            "#Person1#: 번호는 #PhoneNumber#25395예요. \\n#Person2#: “네” <b>",
            "#Person1#: 뭐?\n#Person2#: 응\n#Person3#: 자",
        ],
        "summary": ["#Person1#이 번호를 알립니다.", "셋이 말합니다."],
        "topic": ["전화 번호", "번호 & 잠"],
    }
)
CLEAN = RAW.assign(
    dialogue=['#Person1#: 번호는 #PhoneNumber#예요.\n#Person2#: "네" <b>', RAW["dialogue"][1]],
)
SWAPPED = CLEAN.iloc[:1].assign(fname="train_0.swap", source="speaker_swap")
HELD_OUT = pd.DataFrame(
    {
        "fname": ["dev_0"],
        "dialogue": ["#Person1#: 안녕\n#Person2#: 응"],
        "summary1": ["인사"],
        "summary2": ["인사함"],
    }
)
UNSCORED = HELD_OUT[["fname", "dialogue"]]
FRAMES = {
    ("train", "raw"): RAW,
    ("train", "clean"): CLEAN,
    ("train", "original"): CLEAN.assign(source="original"),
    ("train", "speaker_swap"): SWAPPED,
    ("train", "merged"): pd.concat([SWAPPED, CLEAN.assign(source="original")], ignore_index=True),
    ("dev", "raw"): HELD_OUT,
    ("dev", "clean"): HELD_OUT,
    ("test", "raw"): UNSCORED,
    ("test", "clean"): UNSCORED,
}
REPORTS = DataReports(
    cleaning={
        split: {
            "rows": 2,
            "changed": 1,
            "rules": {"br": {"rows": 0, "replacements": 0}, "double_quote": {"rows": 1, "replacements": 1234}},
            "typos": {"rows": 0, "replacements": 0},
        }
        for split in ("train", "dev", "test")
    },
    checks={
        "train": {"rows": 6, "kept": 5, "leakage": 1, "personal_data": 4},
        "dev": {"rows": 1, "kept": 1, "personal_data": 0},
        "test": {"rows": 1, "kept": 1, "personal_data": 0},
    },
    removed=pd.DataFrame([["train_9", "train", "leakage", "like dev_0"]], columns=FOUND),
    warned=pd.DataFrame(
        [[f"train_{n}", "train", "personal_data", f"dialogue has {n} Email"] for n in range(4)], columns=FOUND
    ),
    augmentation={
        "original": 2,
        "paraphrase": 0,
        "speaker_swap": 1,
        "left_out": {"paraphrase": 0, "speaker_swap": 7},
    },
    rejected=pd.DataFrame(
        [
            ["synthetic", "train_0", "too short", "{", ""],
            ["paraphrase", "train_1", "not Korean", "#Person1#: Yes", "An answer"],
            ["synthetic", "train_1", "too short", "never shown", ""],
        ],
        columns=["method", "origin", "reason", "dialogue", "summary"],
    ),
)
RULES = load_rules(Path(__file__).parents[1] / "data/rules/denoise.csv")


def test_a_spelled_special_token_is_counted_as_text() -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "<": 2, "/": 3, "s": 4, ">": 5}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Punctuation()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    assert explore.count_tokens(fast, ["s</s>", "s"]) == {"s</s>": 5, "s": 1}


def words(*frames: pd.DataFrame) -> dict[str, int]:
    """Lengths in words, where a run has those in tokens."""
    return {text: len(text.split()) for frame in frames for text in [PROMPT.instruction, *profile.texts(frame)]}


def apply_rules(text: str) -> str:
    return clean_dialogue(text, RULES, fix_spacing=True)


def draw(frames: Mapping[tuple[str, str], pd.DataFrame] = FRAMES, reports: DataReports = REPORTS) -> str:
    """The page's HTML, Korean included."""
    return render_exploration(frames, words(*frames.values()), PROMPT, reports, apply_rules)


def shown(frames: Mapping[tuple[str, str], pd.DataFrame] = FRAMES, reports: DataReports = REPORTS) -> str:
    """What a reader of English sees."""
    return in_english(draw(frames, reports))


def test_profile_counts_and_measures_a_table() -> None:
    found = profile.profile(CLEAN, words(CLEAN), PROMPT.instruction)
    assert found.counts == {"Rows": 2, "References": 2, "Different topics": 2}
    assert found.measures == {
        "Dialogue, characters": [50, 39],
        "Dialogue, tokens": [6, 6],
        "Summary, characters": [20, 8],
        "Summary, tokens": [3, 2],
        "Summary as % of its dialogue's characters": [40.0, 100 * 8 / 39],
        "Turns in a dialogue": [2, 3],
        "Speakers in a dialogue": [2, 3],
    }
    assert found.prompts == [9, 9]
    assert {mask: n for mask, n in found.masks.items() if n} == {"PhoneNumber": 1}
    assert not any(found.noise.values())


def test_profile_takes_every_reference_and_needs_none() -> None:
    assert profile.profile(HELD_OUT, words(HELD_OUT), PROMPT.instruction).measures["Summary, characters"] == [
        2,
        3,
    ]
    bare = profile.profile(UNSCORED, words(UNSCORED), PROMPT.instruction)
    assert bare.counts == {"Rows": 1, "References": 0, "Different topics": 0}
    assert bare.measures["Summary, tokens"] == []


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("#Person1#: 네 #PhoneNumber#로 #Person2#를 불러요.\n#Person2#: 2/3, 50%, $5 & D+1", {}),
        ("#Person1#: 네.\\n#Person2#: 네.", {"literal \\n": 1}),
        ("#Person1#: 네.<br>#Person2#: 네.", {"<br>": 1}),
        ("#Person1#: 네. \r\n#Person2#: 네.", {"carriage return": 1, "space before a newline": 1}),
        ("#Person1#: 네.#Person2#: 네.", {"speaker inside a line": 1}),
        ("#Person1#: #Email##Person2#: 네.", {"speaker inside a line": 1}),
        ("#사람1#: 네\nPerson2: 네", {"other form of speaker": 2}),
        ("#Person1#: 회사 #에서 #Person2#를", {"orphan #": 1}),
        ("#Person1#: #PhoneNumber#25395", {"digits behind a mask": 1}),
        ("#Person1#: $#,000", {"amount without digits": 1}),
        ("#Person1#: #Bob#이 #Capital Airport#로", {"mask around a word": 2}),
        ("“네” ‘응’", {"curly quote": 4}),
        ("음… 자·밤", {"… — – · ‹ ›": 2}),
        ("ㅋㅋㅋ ㅠㅠ", {"ㅋㅋ ㅎㅎ ㅠㅠ": 2}),
        ("배경ㅇ로 제ㅏ", {"stray jamo": 2}),
        (
            "낙관(落款) A\\S 2*2  끝：",
            {"hanja": 1, "\\ for /": 1, "* between digits": 1, "doubled space": 1, "full-width sign": 1},
        ),
    ],
)
def test_noise_counts_each_kind_and_leaves_tags_alone(text: str, kinds: dict[str, int]) -> None:
    assert profile.noise(text) == kinds


def test_quantiles_and_shares_over_a_limit() -> None:
    assert profile.quantiles([3, 1, 2]) == {
        "Least": 1,
        "5%": 1.1,
        "Median": 2,
        "95%": 2.9,
        "Most": 3,
        "Mean": 2,
    }
    assert set(profile.quantiles([]).values()) == {None}
    assert profile.percent_over([100, 256, 257, 2000], [256, 1024]) == {"over 256": 50, "over 1,024": 25}
    assert profile.percent_over([], [256]) == {"over 256": None}


def test_topic_words_counts_rows_and_orders_ties() -> None:
    assert list(profile.topic_words(["b a", "a a", "c b", "d"], n=3).items()) == [
        ("a", 2),
        ("b", 2),
        ("c", 1),
    ]


def test_most_cleaned_takes_changed_rows_by_kinds_of_noise() -> None:
    raw = pd.DataFrame({"fname": list("abcd"), "dialogue": ["네", "ㅋㅋ 네", "“네” ㅋㅋ", "같다"]})
    clean = pd.DataFrame({"fname": list("dcba"), "dialogue": ["같다", '"네"', "네", "응"]})
    assert profile.most_cleaned(raw, clean) == [
        ("c", "“네” ㅋㅋ", '"네"'),
        ("b", "ㅋㅋ 네", "네"),
        ("a", "네", "응"),
    ]
    assert profile.most_cleaned(raw, clean, n=1) == [("c", "“네” ㅋㅋ", '"네"')]


def test_page_is_well_formed_and_asks_for_nothing_from_outside() -> None:
    text = draw()
    page = Page(text)
    assert page.open == []
    assert text.count("<script>") == 1
    assert not page.tags & {"link", "img", "iframe", "object", "embed", "image", "use"}
    assert all(address and address.startswith("#") for address in page.addresses)
    assert "url(" not in text
    assert "@import" not in text


def test_a_reader_of_korean_sees_no_english_but_names_and_what_stages_wrote() -> None:
    english = {text for text in texts(in_korean(draw())) if re.search("[A-Za-z]{2} [a-z]{2}", text)}
    assert english == {
        *("synthetic: too short", "train_0 (synthetic): too short", "An answer", "like dev_0"),
        *(f"dialogue has {n} Email" for n in range(3)),
    }


def test_page_shows_counts_outliers_and_what_cleaning_changed() -> None:
    text = shown()
    assert '<span>speaker_swap</span><i style="width:50.0%"></i><span>1</span>' in text
    assert '<span>번호</span><i style="width:100.0%"></i><span>2</span>' in text
    assert "<h4>train_1: 39 characters</h4>" in text
    assert "<h4>train_1: 3 turns</h4>" in text
    assert "<h4>train_0: 40.0% of the dialogue&#39;s characters</h4>" in text
    assert "prompt.max_tokens is 1,024." in text
    assert "#PhoneNumber#<del>25395</del>예요" in text
    assert "<b>#PhoneNumber#</b>예요" in text


def test_text_of_the_tables_is_escaped_everywhere() -> None:
    evil = "<script>alert('&')</script>\""
    frames: dict[tuple[str, str], Any] = {
        column: frame.assign(**{name: frame[name] + evil for name in frame.columns}) for column, frame in FRAMES.items()
    }
    frames["train", "raw"] = frames["train", "raw"].assign(dialogue=RAW["dialogue"] + " … " + evil)
    tables: dict[str, Any] = {
        name: getattr(REPORTS, name).map(lambda cell: cell + evil if cell not in ("train", "leakage") else cell)
        for name in ("removed", "warned", "rejected")
    }
    text = draw(frames, replace(REPORTS, **tables))
    assert text.count("<script") == 1
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&#34;") > 8
    assert Page(text).open == []


def test_names_from_the_tables_and_reports_are_escaped_everywhere() -> None:
    """Sources, rules and checks are named by files too."""
    evil = "<script>alert('&')</script>\""
    frames = {**FRAMES, ("train", evil): SWAPPED, (evil, "raw"): HELD_OUT}
    split = {"rows": 1, "changed": 1, "typos": {"rows": 0, "replacements": 0}}
    rules = {f"used{evil}": {"rows": 1, "replacements": 1}, f"unused{evil}": {"rows": 0, "replacements": 0}}
    reports = replace(
        REPORTS,
        cleaning={evil: {**split, "rules": rules}},
        checks={name: {"rows": 1, "kept": 1, f"check{evil}": 1} for name in ("train", evil)},
        augmentation={"original": 1, evil: 1, "left_out": {evil: 1}},
        removed=REPORTS.removed.rename(columns={"detail": evil}),
    )
    text = draw(frames, reports)
    page = Page(text)
    assert page.open == []
    assert text.count("<script") == 1
    assert page.attributes == Page(draw()).attributes
    english = in_english(text)
    for name in ("", "used", "unused", "check", "Samples: "):
        assert f">{name}&lt;script&gt;" in english or f" {name}&lt;script&gt;" in english


def section(text: str, name: str) -> str:
    return text.split(f'<section id="{name}">')[1].split("</section>")[0]


def row(text: str, name: str) -> list[str]:
    """The cells of the first table row of this name."""
    line = re.search(rf'scope="row">{name}</th>(.*?)</tr>', text)
    assert line
    return re.findall(r"<td[^>]*>(.*?)</td>", line[1])


def test_versions_stand_side_by_side() -> None:
    text = shown()
    heads = re.findall(r"<th(?: class=\"start\")?>(.*?)</th>", section(text, "Rows"))
    train = ["raw", "clean", "original", "speaker_swap", "merged"]
    assert heads == [*train, "raw", "clean", "raw", "clean"]
    assert row(section(text, "Rows"), "Rows") == ["2", "2", "2", "1", "3", "1", "1", "1", "1"]
    assert "Left out by augment.balance: 7 speaker_swap." in text
    assert re.findall("<figcaption>(.*?)</figcaption>", section(text, "Lengths"))[:5] == train


def test_cleaning_shows_counts_and_what_rules_and_typos_changed() -> None:
    corrected = CLEAN.assign(dialogue=[CLEAN["dialogue"][0], "#Person1#: 뭐?\n#Person2#: 네\n#Person3#: 자"])
    text = section(shown({**FRAMES, ("train", "clean"): corrected}), "Cleaning")
    assert "Rows changed: train 1 of 2, dev 1 of 2, test 1 of 2." in text
    assert row(text, "double_quote") == ["1", "1,234"] * 3
    assert "Nothing to replace: br, typos." in text
    rules, typos = text.split("<h3>Typos</h3>")
    assert "#PhoneNumber#<del>25395</del>예요" in rules
    assert "Typos were corrected in 1 training dialogues" in typos
    assert re.findall('<div class="text">(.*?)</div>', typos) == ["#Person2#: <del>응</del><ins>네</ins>"]


def test_checks_show_counts_and_a_few_findings_of_each() -> None:
    text = section(shown(), "Checks")
    assert "Rows kept: train 5 of 6; dev 1 of 1; test 1 of 1." in text
    assert row(text, "leakage") == ["1", "1", "0", "–", "–", "–", "–"]
    assert row(text, "personal_data") == ["4", "0", "4", "0", "0", "0", "0"]
    details = re.findall(r"<td>(like.*?|dialogue has.*?)</td>", text)
    assert details == ["like dev_0", *(f"dialogue has {n} Email" for n in range(3))]


def test_augmented_rows_stand_beside_their_origin_and_rejected_ones_with_the_reason() -> None:
    samples, rejected = section(shown(), "Augmentation").split("<h3>Rejected</h3>")
    assert re.findall("<h[34]>(.*?)</h[34]>", samples) == ["Samples: speaker_swap", "train_0", "train_0.swap"]
    assert '<span>synthetic: too short</span><i style="width:100.0%"></i><span>2</span>' in rejected
    assert re.findall("<h4>(.*?)</h4>", rejected) == [
        "train_0 (synthetic): too short",
        "train_1 (paraphrase): not Korean",
    ]
    assert "never shown" not in rejected


def test_rows_of_further_tables_are_shown_by_their_source() -> None:
    rows = CLEAN.iloc[:1].assign(fname="english:train_0", dialogue="#Person1#: Hi.", source="extra:english")
    checks = {**REPORTS.checks, "extra:english": {"rows": 9, "kept": 2, "leakage": 7}}
    gone = pd.DataFrame([["english:test_1", "extra:english", "leakage", "its own fname"]], columns=FOUND)
    reports = replace(
        REPORTS,
        checks=checks,
        removed=pd.concat([REPORTS.removed, gone]),
        augmentation={**REPORTS.augmentation, "extra:english": 1, "total": 4},
    )
    text = shown({**FRAMES, ("train", "extra:english"): rows}, reports)
    assert '<span>extra:english</span><i style="width:50.0%"></i><span>1</span>' in text
    assert "<span>total</span>" not in text
    assert "english:train_0" in text
    assert "english:test_1" in text


def test_page_needs_no_augmented_row_and_no_finding() -> None:
    frames = {column: frame for column, frame in FRAMES.items() if column != ("train", "speaker_swap")}
    empty = {name: getattr(REPORTS, name).iloc[:0] for name in ("removed", "warned", "rejected")}
    text = shown(frames, replace(REPORTS, **empty))
    assert Page(text).open == []
    assert "No augmented rows." in text
    assert "No generated row was rejected." in text
    assert "<h3>Removed</h3>" not in text


def test_personal_data_is_masked_wherever_a_text_is_shown() -> None:
    number = " 010-2345-6789"
    columns = ["dialogue", "summary", "summary1", "summary2"]
    frames = {
        column: frame.assign(**{name: frame[name] + number for name in columns if name in frame})
        for column, frame in FRAMES.items()
    }
    rejected = REPORTS.rejected.assign(dialogue="#Person1#: 네" + number, summary=number)
    text = shown(frames, replace(REPORTS, rejected=rejected))
    assert "2345-6789" not in text
    assert text.count("#PhoneNumber#") > 10


def test_extremes_rank_rows_and_order_ties_by_name() -> None:
    frame = pd.DataFrame(
        {
            "fname": ["b", "a", "c"],
            "dialogue": ["#Person1#: 네", "#Person1#: 네", "#Person1#: 네\n#Person2#: 응"],
            "summary": ["가나다", "가", "가"],
        }
    )
    found = profile.extremes(frame)
    assert {name: [(fname, how) for fname, how, _, _ in few] for name, few in found.items()} == {
        "Shortest dialogues": [("a", "12 characters"), ("b", "12 characters")],
        "Longest dialogues": [("c", "25 characters"), ("a", "12 characters")],
        "Summaries shortest for their dialogues": [
            ("c", "4.0% of the dialogue's characters"),
            ("a", "8.3% of the dialogue's characters"),
        ],
        "Summaries longest for their dialogues": [
            ("b", "25.0% of the dialogue's characters"),
            ("a", "8.3% of the dialogue's characters"),
        ],
        "Most turns": [("c", "2 turns"), ("a", "1 turns")],
    }


def test_spread_takes_items_evenly() -> None:
    assert spread(10, 3) == [0, 3, 6]
    assert ["ab"[position] for position in spread(2, 3)] == ["a", "b"]


def test_changed_lines_pairs_lines_or_gives_the_whole_text() -> None:
    assert profile.changed_lines("가\n나\n다", "가\n라\n다") == [("나", "라")]
    assert profile.changed_lines("가\n나", "가") == [("가\n나", "가")]


def test_histogram_table_has_the_same_bins_for_all_series() -> None:
    table = profile.histogram_table({"raw": [0, 5, 40], "clean": [0, 0]}, "characters")
    assert table.columns.tolist() == ["characters", "raw", "clean"]
    assert table.iloc[[0, 1, -1]].to_numpy().tolist() == [[0, 33.33, 100], [2, 0, 0], [38, 33.33, 0]]


def test_stage_writes_the_same_bytes_twice_and_what_dvc_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in ("params.yaml", "models.yaml", "dvc.yaml"):
        shutil.copy(root / name, name)
    Path("data/rules").mkdir(parents=True)
    shutil.copy(root / "data/rules/denoise.csv", "data/rules")
    for column, path in explore.TABLES.items():
        write_table(FRAMES[column], path)
    write_table(REPORTS.removed, Path("data/checked/removed.csv"))
    write_table(REPORTS.warned, Path("data/checked/warnings.csv"))
    write_table(REPORTS.rejected, Path("data/augmented/rejected.csv"))
    for name in ("cleaning", "checks", "augmentation"):
        write_json(Path(f"metrics/data/{name}.json"), getattr(REPORTS, name))
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained("tokenizer")
    Path("models").mkdir()
    Path("models/base.json").write_text('{"path": "tokenizer"}')
    explore.main()
    outputs = [paths.EXPLORATION, *sorted(paths.DATA_PLOTS.iterdir())]
    first = [path.read_bytes() for path in outputs]
    assert [path.name for path in outputs] == ["explore.html", "dialogue.tsv", "summary.tsv"]
    explore.main()
    assert [path.read_bytes() for path in outputs] == first
    assert first[0].decode() == draw()
    assert first[2].startswith(b"characters\traw\tclean\tmerged\n8\t50.0\t50.0\t33.33\n9\t0.0\t0.0\t0.0\n")

    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    shown = subprocess.run(
        ["dvc", "plots", "show", "--json", "dialogue_length", "summary_length"], check=True, capture_output=True
    )
    drawn = json.loads(shown.stdout)["data"]
    for name in ("dialogue_length", "summary_length"):
        points = drawn[name][0]["content"]["data"]["values"]
        assert {point["field"] for point in points} == {"raw", "clean", "merged"}
