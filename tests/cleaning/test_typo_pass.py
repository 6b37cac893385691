from __future__ import annotations

from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.cleaning.rules import clean_dialogue, load_rules
from stages.cleaning.typo_pass import fix_typos
from stages.corpus.dialogue import MASK_OR_SPEAKER

ROOT = Path(__file__).parents[2]
clean = partial(clean_dialogue, rules=load_rules(ROOT / "data/rules/denoise.csv"), fix_spacing=True)

WORDS = [
    *("몇일", "할께요", "됬어요", "할수있어요", "배경ㅇ로", "제ㅏ", "안되요", "오랫만에", "어떻게", "사람 은"),
    *("네", "서울", "3시", "ok", "ㅋㅋ", "#Name#", "#Person2#", "#PhoneNumber#", "…", ",", ".", "?", "“", "\\n"),
    *("\n#Person1#: ", "\n#Person2#: "),
]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=10).map(lambda words: "#Person1#: " + " ".join(words))


def test_corrections_are_counted_by_text() -> None:
    texts = ["#Person1#: 몇일 뒤요?\n#Person2#: 네.", "#Person1#: 네.", "#Person1#: 몇일 뒤요? 몇일?"]
    assert fix_typos(texts, 8.0, clean) == [
        ("#Person1#: 며칠 뒤요?\n#Person2#: 네.", 1),
        ("#Person1#: 네.", 0),
        ("#Person1#: 며칠 뒤요? 며칠?", 2),
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_twice_is_once_and_tokens_stay(texts: list[str]) -> None:
    texts = [clean(text) for text in texts]
    fixed = [text for text, _ in fix_typos(texts, 8.0, clean)]
    assert fix_typos(fixed, 8.0, clean) == [(text, 0) for text in fixed]
    assert [clean(text) for text in fixed] == fixed
    for before, after in zip(texts, fixed, strict=True):
        assert MASK_OR_SPEAKER.findall(after) == MASK_OR_SPEAKER.findall(before)


def test_a_text_that_rules_and_corrections_disagree_on_keeps_its_typos() -> None:
    def spoil(text: str) -> str:
        return text.replace("며칠", "몇일")

    assert fix_typos(["#Person1#: 몇일 뒤요?"], 8.0, spoil) == [("#Person1#: 몇일 뒤요?", 0)]
