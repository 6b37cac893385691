from __future__ import annotations

import logging
import random
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages import speaker_swap
from stages.core import paths
from stages.corpus.dialogue import parse_turns, speakers
from stages.corpus.tables import read_table
from stages.speaker_swap import can_swap, relabel, swap, swap_rows, trade_openings

ROOT = Path(__file__).parents[1]
EXCHANGE = {"#Person1#": "#Person2#", "#Person2#": "#Person1#"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("#Person1#은 #Person2#를 만납니다.", "#Person2#는 #Person1#을 만납니다."),
        (
            "#Person2#가 #Person1#에게, #Person1#이 #Person2#의",
            "#Person1#이 #Person2#에게, #Person2#가 #Person1#의",
        ),
        ("#Person1#과 #Person2#와의 약속", "#Person2#와 #Person1#과의 약속"),
        ("#Person1#으로부터 #Person2#로.", "#Person2#로부터 #Person1#으로."),
        ("#Person2#나 #Person1#이랑", "#Person1#이나 #Person2#랑"),
        ("#Person1#아, #Person2#야!", "#Person2#야, #Person1#아!"),
        ("나야 #Person2#야. 누구? #Person1#이야?", "나야 #Person1#이야. 누구? #Person2#야?"),
        ("#Person1#이라고 하는 #Person2#라는 사람", "#Person2#라고 하는 #Person1#이라는 사람"),
        ("#Person2#예요. #Person1#이었다", "#Person1#이에요. #Person2#였다"),
        # Right after both, so nothing but the tag changes.
        ("#Person1#이다. #Person1#입니다. #Person1#인 줄", "#Person2#이다. #Person2#입니다. #Person2#인 줄"),
        ("#Person1#도, #Person2#만, #Person1#까지", "#Person2#도, #Person1#만, #Person2#까지"),
        # A word that only begins like a particle, one that stands apart, and the end of the text.
        ("#Person1#은행 #Person2#가게", "#Person2#은행 #Person1#가게"),
        ("#Person1# 은 그 #Person2#", "#Person2# 은 그 #Person1#"),
        ("#Person1#이", "#Person2#가"),
        # Other tags, masks and an orphan hash stay.
        ("회사 #에서 #Person2#를 #PhoneNumber#은", "회사 #에서 #Person1#을 #PhoneNumber#은"),
        ("#Person3#는 #Person12#를 #Person1#은", "#Person3#는 #Person12#를 #Person2#는"),
    ],
)
def test_tags_change_places_and_their_particles_follow(before: str, after: str) -> None:
    assert relabel(before, EXCHANGE) == after


@pytest.mark.parametrize(
    ("number", "subject"),
    [
        (1, "이"),
        (2, "가"),
        (3, "가"),
        (4, "가"),
        (5, "가"),
        (6, "가"),
        (7, "이"),
        (8, "이"),
        (9, "이"),
        (10, "이"),
    ],
)
def test_numbers_are_read_in_english(number: int, subject: str) -> None:
    for particle in ("이", "가"):
        text = relabel(f"#Person11#{particle} 왔다.", {"#Person11#": f"#Person{number}#"})
        assert text == f"#Person{number}#{subject} 왔다."


TWO = """\
#Person1#: 저기요.
#Person1#: 여기 #Person2#가 있나요?
#Person2#: 저예요.
#Person1#: 아하.
#Person2#: 네."""
SUMMARY = "#Person1#은 #Person2#를 찾습니다."


def test_two_speakers_exchange_tags() -> None:
    dialogue, summary = swap(TWO, SUMMARY, keep_first_speaker=False, rng=random.Random(0))
    assert dialogue.splitlines() == [
        "#Person2#: 저기요.",
        "#Person2#: 여기 #Person1#이 있나요?",
        "#Person1#: 저예요.",
        "#Person2#: 아하.",
        "#Person1#: 네.",
    ]
    assert summary == "#Person2#는 #Person1#을 찾습니다."


def test_the_first_two_runs_trade_places_so_that_person1_opens() -> None:
    dialogue, summary = swap(TWO, SUMMARY, keep_first_speaker=True, rng=random.Random(0))
    assert dialogue.splitlines() == [
        "#Person1#: 저예요.",
        "#Person2#: 저기요.",
        "#Person2#: 여기 #Person1#이 있나요?",
        "#Person2#: 아하.",
        "#Person1#: 네.",
    ]
    assert summary == "#Person2#는 #Person1#을 찾습니다."


def test_a_dialogue_that_person2_opens_needs_no_trade() -> None:
    dialogue = "#Person2#: 누구세요?\n#Person1#: 저예요."
    assert swap(dialogue, SUMMARY, keep_first_speaker=True, rng=random.Random(0))[0] == (
        "#Person1#: 누구세요?\n#Person2#: 저예요."
    )


THREE = "#Person1#: 하나.\n#Person2#: 둘.\n#Person3#: 셋, #Person1#아.\n#Person2#: 넷."


@pytest.mark.parametrize("seed", range(6))
def test_of_three_speakers_none_keeps_its_tag(seed: int) -> None:
    dialogue, _ = swap(THREE, SUMMARY, keep_first_speaker=False, rng=random.Random(seed))
    new = speakers(dialogue)
    assert sorted(new) == ["#Person1#", "#Person2#", "#Person3#"]
    assert all(tag != f"#Person{i}#" for i, tag in enumerate(new, 1))


def test_of_three_speakers_the_first_keeps_its_tag_where_asked_for() -> None:
    assert swap(THREE, "#Person3#는 #Person1#을 #Person2#와", keep_first_speaker=True, rng=random.Random(0)) == (
        "#Person1#: 하나.\n#Person3#: 둘.\n#Person2#: 셋, #Person1#아.\n#Person3#: 넷.",
        "#Person2#는 #Person1#을 #Person3#와",
    )


@pytest.mark.parametrize(
    ("dialogue", "either_way", "keeping_first"),
    [
        ("#Person1#: 혼자.\n#Person1#: 아무도 없나?", False, False),
        ("아무 말 없음", False, False),
        ("#Person1#: 하나.\n#Person2#: 둘.", True, True),
        ("#Person2#: 하나.\n#Person1#: 둘.", True, True),
        ("#Person2#: 하나.\n#Person3#: 둘.", True, False),
        ("#Person2#: 하나.\n#Person1#: 둘.\n#Person3#: 셋.", True, False),
        ("벨이 울린다.\n#Person1#: 하나.\n#Person2#: 둘.", True, False),
        ("#Person1#의 집.\n#Person1#: 하나.\n#Person2#: 둘.", True, False),
    ],
)
def test_which_dialogues_can_be_swapped(dialogue: str, either_way: bool, keeping_first: bool) -> None:
    assert can_swap(dialogue, keep_first_speaker=False) is either_way
    assert can_swap(dialogue, keep_first_speaker=True) is keeping_first


PARTICLES = [
    ("은", "는"),
    ("이", "가"),
    ("을", "를"),
    ("과의", "와의"),
    ("으로", "로"),
    ("이라고", "라고"),
    ("도", "도"),
]


@st.composite
def sentences(draw: st.DrawFn, people: int) -> str:
    """Words, and mentions of speakers with particles that fit them."""
    words = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            number = draw(st.integers(1, people))
            consonant, vowel = draw(st.sampled_from(PARTICLES))
            words.append(f"#Person{number}#{consonant if number == 1 else vowel}")
        else:
            words.append(draw(st.sampled_from(["회사", "#에서", "#PhoneNumber#으로", "네.", "커피,", "정말?"])))
    return " ".join(words)


@st.composite
def dialogues(draw: st.DrawFn, people: int) -> str:
    """Every speaker has a turn, and #Person1# has the first."""
    others = draw(st.permutations(range(2, people + 1)))
    order = [1, *others, *draw(st.lists(st.integers(1, people), max_size=6))]
    return "\n".join(f"#Person{number}#: {draw(sentences(people))}" for number in order)


def utterances(dialogue: str) -> list[str]:
    return sorted(re.sub(r"#Person\d+#\w*", "#Person#", turn.text) for turn in parse_turns(dialogue))


@given(dialogues(2), sentences(2), st.integers(0, 99))
def test_swapping_two_speakers_twice_changes_nothing(dialogue: str, summary: str, seed: int) -> None:
    rng = random.Random(seed)
    once = swap(dialogue, summary, keep_first_speaker=False, rng=rng)
    assert once[0] != dialogue
    assert swap(*once, keep_first_speaker=False, rng=rng) == (dialogue, summary)


@given(st.integers(2, 6).flatmap(dialogues), st.booleans(), st.integers(0, 99))
def test_what_is_said_stays_and_person1_opens(dialogue: str, keep_first_speaker: bool, seed: int) -> None:
    assert can_swap(dialogue, keep_first_speaker=keep_first_speaker)
    swapped, _ = swap(dialogue, "", keep_first_speaker=keep_first_speaker, rng=random.Random(seed))
    assert utterances(swapped) == utterances(dialogue)
    assert sorted(speakers(swapped)) == sorted(speakers(dialogue))
    assert swapped.startswith("#Person1#:") is keep_first_speaker


@given(st.integers(2, 6).flatmap(dialogues), st.integers(0, 99))
def test_the_summary_gets_the_same_tags_as_the_dialogue(dialogue: str, seed: int) -> None:
    swapped, summary = swap(dialogue, dialogue, keep_first_speaker=False, rng=random.Random(seed))
    assert summary == swapped


@given(dialogues(2))
def test_trading_twice_changes_nothing_where_the_third_run_is_far(dialogue: str) -> None:
    dialogue = f"#Person1#: 가\n#Person2#: 나\n#Person3#: 다\n{dialogue}"
    assert trade_openings(trade_openings(dialogue)) == dialogue


def table(*dialogues_: str) -> pd.DataFrame:
    return pd.DataFrame(
        [[f"train_{i}", dialogue, SUMMARY] for i, dialogue in enumerate(dialogues_)],
        columns=["fname", "dialogue", "summary"],
        dtype="str",
    )


def test_rows_that_cannot_be_swapped_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        rows = swap_rows(table("#Person1#: 혼자.", TWO, THREE), n=5, keep_first_speaker=True, seed=1)
    assert rows["fname"].tolist() == ["train_1.swap", "train_2.swap"]
    assert rows[["topic", "source"]].to_numpy().tolist() == [["", "speaker_swap"]] * 2
    assert caplog.messages == [
        "1 of 3 rows left out: they have one speaker, or #Person1# cannot open them",
        "augment.speaker_swap.n = 5: all 2 rows are taken, there are no more",
    ]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "data" / "checked").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "sample" / "train.csv", tmp_path / "data" / "checked")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_swap(n: int, seed: int = 42) -> None:
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["seed"] = seed
    params["augment"]["speaker_swap"].update(n=n, keep_first_speaker=True)
    yaml.dump(params, Path("params.yaml"))


def test_the_sample_through_the_stage(workspace: Path) -> None:
    def written(seed: int) -> bytes:
        set_swap(16, seed)
        speaker_swap.main()
        return paths.SWAPS.read_bytes()

    assert written(42) == written(42) != written(43)
    rows = read_table(paths.SWAPS, "train")
    assert list(rows.columns) == ["fname", "dialogue", "summary", "topic", "source"]
    assert len(rows) == 16
    origins = read_table(paths.TRAIN, "train").set_index("fname")
    for row in rows.itertuples():
        origin = origins.loc[row.fname.removesuffix(".swap")]
        assert row.fname.endswith(".swap")
        assert row.dialogue.startswith("#Person1#:")
        assert (row.dialogue, row.source) != (origin["dialogue"], "original")
        assert row.topic == origin["topic"]


def test_n_zero_skips_and_leaves_a_header(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    set_swap(0)
    with caplog.at_level(logging.INFO):
        speaker_swap.main()
    assert paths.SWAPS.read_bytes() == b"fname,dialogue,summary,topic,source\n"
    assert caplog.messages == ["augment.speaker_swap.n = 0: skipped, data/augmented/speaker_swap.csv holds no rows"]
