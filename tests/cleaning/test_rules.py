from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.cleaning.rule import Rule
from stages.cleaning.rules import COLUMNS, STRUCTURE, TYPO, clean_dialogue, clean_summary, load_rules, mend_tags
from stages.core.errors import UserError
from stages.corpus.dialogue import LIKE_TAG, MASK_OR_SPEAKER, MASKS

TABLE = Path(__file__).parents[2] / "data" / "rules" / "denoise.csv"
RULES = load_rules(TABLE)
with TABLE.open(encoding="utf-8", newline="") as file:
    EXAMPLES = list(csv.DictReader(file))


def cleaned(text: str) -> str:
    return clean_dialogue(text, RULES, fix_spacing=True)


@pytest.mark.parametrize("row", EXAMPLES, ids=[row["id"] for row in EXAMPLES])
def test_each_rule_s_example_holds_in_dialogues_and_summaries(row: dict[str, str]) -> None:
    hits: Counter[str] = Counter()
    assert clean_dialogue(row["before"], RULES, fix_spacing=True, hits=hits) == row["after"]
    assert hits[row["id"]] >= 1
    assert clean_summary(row["before"], RULES, fix_spacing=True) == row["after"]


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("tag_alias", "#사람1#: 네.\n#사람12#: 응.", "#Person1#: 네.\n#Person12#: 응."),
        ("orphan_hash", "#Person1#: 회사 #근처예요.", "#Person1#: 회사 근처예요."),
        ("orphan_hash", "#Person1#: #Bob#과 #Capital Airport#요.", "#Person1#: Bob과 Capital Airport요."),
        (
            "orphan_hash_particle",
            "#Person1#: 회사 #에서 #Person2#를 봤어.",
            "#Person1#: 회사에서 #Person2#를 봤어.",
        ),
        ("crlf", "#Person1#: 네.\r\n#Person2#: 응.\r네.", "#Person1#: 네.\n#Person2#: 응.\n네."),
        ("literal_newline", r"#Person1#: 네.\n#Person2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("literal_newline", r"#Person1#: 네.\r\n어서요.", "#Person1#: 네.\n어서요."),
        ("br", "#Person1#: 네.<br>#Person2#: 응.<BR />네.", "#Person1#: 네.\n#Person2#: 응.\n네."),
        ("bare_tag", "Person1: 네.\n사람 2： 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "#Person 1#: 네.\nPerson2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_colon", "#Person1#：네.\n#Person2# : 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("missing_newline", "#Person1#: 네.#Person2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("missing_newline", "#Person1#: 네. #Person2#：응.", "#Person1#: 네.\n#Person2#: 응."),
        ("edge_space", "#Person1#: 네. \n  #Person2#: 응.\t", "#Person1#: 네.\n#Person2#: 응."),
        ("blank_line", "\n#Person1#: 네.\n\n \n#Person2#: 응.\n", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_space", "#Person1#:네.\n#Person2#:  응.", "#Person1#: 네.\n#Person2#: 응."),
        ("glued_digits", "#Person1#: #PhoneNumber#25395요.", "#Person1#: #PhoneNumber#요."),
        ("glued_digits", "#Person1#: #CardNumber#-12-34 맞죠?", "#Person1#: #CardNumber# 맞죠?"),
        ("tag_particle", "#Person1#: #Person2# 은 와요.", "#Person1#: #Person2#은 와요."),
        ("bare_tag", "#person1#: 네.\n#PERSON2: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "# Person1 #: 네.\n##Person2##: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "＃Ｐｅｒｓｏｎ１＃：네.\n#Person_2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "Person1: 네 Person2: 응 person 1 : 왜", "#Person1#: 네\n#Person2#: 응\n#Person1#: 왜"),
        ("bare_tag", "[Person1]: 네.\n<사람 2>: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "#Person1#: Person2는? 사람1이 #Person2랑.", "#Person1#: #Person2#는? #Person1#이 #Person2#랑."),
        ("tag_alias", "#Person１#: 네.", "#Person1#: 네."),
        ("tag_colon", "#Person1# : 네? #Person2# : 응.", "#Person1#: 네?\n#Person2#: 응."),
        ("tag_colon", "#Person1#; 네. #Person2# ; 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_colon", "#Person1# - 네.\n#Person2#> 응.\n#Person1#::", "#Person1#: 네.\n#Person2#: 응.\n#Person1#:"),
        ("tag_no_colon", "#Person1# 시장이요.\n#Person2# 네.", "#Person1#: 시장이요.\n#Person2#: 네."),
        ("tag_no_colon", "#Person1#\n시장이요.\n\n#Person2#\n네.", "#Person1#: 시장이요.\n#Person2#: 네."),
        ("tag_decoration", "- #Person1#: 네.\n* #Person2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_decoration", "1. #Person1#: 네.\n2) #Person2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_decoration", "**#Person1#:** 네.\n[#Person2#] 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "#Person#1: 네.\nPerson#2: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("bare_tag", "♯Person1♯: 사람2만 와?", "#Person1#: #Person2#만 와?"),
        ("tag_colon", "#Person1# → 네.\n#Person2# (웃으며): 응.", "#Person1#: 네.\n#Person2#: (웃으며) 응."),
        ("tag_no_colon", "#Person1# 이 책은?\n#Person2# 와 신난다!", "#Person1#: 이 책은?\n#Person2#: 와 신난다!"),
        ("tag_decoration", "\"#Person1#\": 네.\n`#Person2#`: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_decoration", "\\#Person1\\#: 네.\n‘#Person2#’ : 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("tag_decoration", "#Person1#: 왜?\n**#Person1#:** 네", "#Person1#: 왜?\n#Person1#: 네"),
        ("tag_decoration", "#Person1#: 왜?\n1. #Person2#: 응.", "#Person1#: 왜?\n#Person2#: 응."),
        ("tag_decoration", "<b>#Person1#</b>: 왜?", "#Person1#: 왜?"),
        ("tag_colon", "#Person1#(여): 왜?\n#Person2#\n: 응.", "#Person1#: (여) 왜?\n#Person2#: 응."),
        ("bare_tag", "#Person1#: Person1#Person2는?", "#Person1#: #Person1##Person2#는?"),
        ("bare_tag", "#Peson1#: 왜?\n#Pers0n2#: 응.", "#Person1#: 왜?\n#Person2#: 응."),
        ("invisible", "\ufeff#Person1#\u200b: 네.\n\u2060#Per\u200bson2#: 응.", "#Person1#: 네.\n#Person2#: 응."),
        ("double_space", "#Person1#: 토요일  오전엔 비어요.", "#Person1#: 토요일 오전엔 비어요."),
        ("space_before_punctuation", "#Person1#: 네 , 왜요 ? 아뇨 .", "#Person1#: 네, 왜요? 아뇨."),
        ("space_before_punctuation", "#Person1#: Well ,it is.", "#Person1#: Well, it is."),
    ],
)  # fmt: skip
def test_structure_is_mended(step: str, before: str, after: str) -> None:
    hits: Counter[str] = Counter()
    assert clean_dialogue(before, RULES, fix_spacing=True, hits=hits) == after
    assert hits[step] >= 1


@pytest.mark.parametrize(
    ("step", "tag"),
    [
        *(
            ("tag_decoration", tag)
            for tag in (
                "[#Person2#]:",
                "(#Person2#):",
                "（#Person2#）：",
                "<#Person2#>:",
                "*#Person2#*:",
                "**#Person2#**:",
                "**#Person2#:**",
                "'#Person2#':",
                "“#Person2#” :",
                "|#Person2#|:",
                "<b>#Person2#</b>:",
                "\\#Person2#:",
            )
        ),
        *(
            ("tag_colon", tag)
            for tag in (
                "#Person2#.:",
                "#Person2#,:",
                "#Person2#~:",
                "#Person2#-:",
                "#Person2#ː",
                "#Person2#꞉",
                "#Person2#\n:",
                "#Person2# ：",
            )
        ),
        *(
            ("bare_tag", tag)
            for tag in ("\\#Person2\\#:", "[Person2]:", "#Peson2#:", "#Personn2#:", "#Preson2#:", "#\u0420erson2#:")
        ),
        *(
            ("invisible", tag)
            for tag in ("#Per\u200dson2#:", "#Person2\u200d#:", "#Person2#\u00ad:", "\u200e#Person2#:")
        ),
    ],
)
def test_a_tag_within_a_line_is_mended_where_a_colon_shows_it(step: str, tag: str) -> None:
    hits: Counter[str] = Counter()
    clean = "#Person1#: 왜?\n#Person2#: 응"
    assert clean_dialogue(f"#Person1#: 왜? {tag} 응", RULES, fix_spacing=True, hits=hits) == clean
    assert hits[step] >= 1
    assert cleaned(f"#Person1#: 왜?\n{tag} 응") == clean


@pytest.mark.parametrize("direction", ["(웃으며)", "[웃음]", "（웃음）"])
def test_a_stage_direction_before_the_colon_goes_behind_it(direction: str) -> None:
    dialogue = cleaned(f"#Person1#: 왜? #Person2#{direction}: 응")
    assert dialogue.startswith("#Person1#: 왜?\n#Person2#: ")
    assert dialogue.endswith("응")
    assert "웃" in dialogue


@pytest.mark.parametrize(
    "text",
    [
        *(f"#Person1#: 왜? {tag}" for tag in ("(#Person2#) 응", "#Person2#, 응", "#Person2#. 응", "#Person2#응")),
        *(f"#Person1#: 왜? #{name}#: 응" for name in ("P2", "퍼슨2", "Presom2")),
        "#Person1#: 그 사람 1도 몰라. 사람 1도 없어. 사람1도 없어. 사람1, 2명. 사람1-2명. 사람2가지 유형.",
        "#Person1#: 아는 사람 1은? Person 5라는 게임. Person5는? TED person1: 강연. https://x.com/person1/photo요.",
        "#Person1#: x.com/?id=person1&a요.",
        "#Person1#: 가족👨\u200d👩이에요.",
        "#Person1#: 8% 할인, $3,000, A/S, R&D + 영업, a@b.kr, café, 33㎡요.",
        "#Person1#: 음... 그게 ... 약 .5초요. 3·1절이요.",
        "#Person1#: #Address#3층으로 와요. #Price#5000원이요.",  # neither is a rest of the mask
        "#Person1#: #Person2# 이사 가요? #Person2# 도착했어요?",  # words, not particles
        "#Person1#: ㄱ자 선반이에요. ㅇㅋ?",
        "#Person1#: Do you know ; I don ' t. It 's 50 % off: R & B... [Okay] (dialing).",
        "#Person1#: 사람 2명이요. 사람 3이서요. 다섯사람1이요. 1인분에 사람 2 분이요.",
        "#Person1#: 왜? #Person2# 응. 걔가 #Person2#; 그래.",  # `check` tells
        "네, Person2: 그래요.",
        "#Person1#: 네.\n#Person2#는 와요.\n#Person2#, 와요.\n#Person2#야, 와.",
        "#Person1#: The 1st person 2 seats, personal 3.",
        "#Person1#: 뭐?\n#Person2# 이 책은 소설이야.\n#Person1# 가 봐. #Person2# 와 크다.",  # `check` tells
        "#Person1#: 봤지?\n(#Person1#)이 아니라 나야.",
        "#Person1#: Person of the year요. Person1호선, person1@a.com, Person1.txt, www.person1.com요. 사람 3만 명요.",
        "#Person1#: 첫 줄이고\n둘째 줄도 #Person1#의 말이에요.",
    ],
)
def test_what_is_no_noise_stays(text: str) -> None:
    assert cleaned(text) == text


def test_backslash_n_within_a_word_is_no_newline() -> None:
    assert cleaned(r"#Person1#: yes\no") == "#Person1#: yes/no"


def test_a_turn_of_laughter_keeps_words() -> None:
    assert cleaned("#Person1#: 봤어?\n#Person2#: ㅋㅋㅋ!\n#Person1#: ㅠㅠ") == (
        "#Person1#: 봤어?\n#Person2#: 하하!\n#Person1#: 흑흑"
    )


def test_an_amount_with_lost_digits_gets_no_number() -> None:
    assert cleaned("#Person1#: $##,500 아니면 #,000원이요.") == "#Person1#: $○,500 아니면 ○,000원이요."
    assert cleaned("#Person1#: #Bob#,200명이요.") == "#Person1#: Bob,200명이요."


def test_spacing_is_left_alone_on_request() -> None:
    text = "#Person1#: 네 , 토요일  오전요 ."
    assert clean_dialogue(text, RULES, fix_spacing=False) == text


def test_a_summary_becomes_one_line() -> None:
    text = "#Person1# 은 “회사 #에서” \n#사람2# 를 만난다 .\\n그리고  간다. "
    assert clean_summary(text, RULES, fix_spacing=True) == ('#Person1#은 "회사에서" #Person2#를 만난다. 그리고 간다.')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Person1은 시장에 간다.", "#Person1#은 시장에 간다."),
        ("#Person1은 #person2#와 ＃Person3＃을 만난다.", "#Person1#은 #Person2#와 #Person3#을 만난다."),
        ("person1과PERSON2가 간다.", "#Person1#과#Person2#가 간다."),
        ("사람1과 사람 2는 사람 3명을 만난다.", "#Person1#과 #Person2#는 사람 3명을 만난다."),
        ("Person 1, Person_2.", "#Person1#, #Person2#."),
        ("Person#1은 Person #2와 사람3만 만난다.", "#Person1#은 #Person2#와 #Person3#만 만난다."),
        ("사람1도 그 사람 1은 사람1, 2명, 사람2가지를 안다.", "사람1도 그 사람 1은 사람1, 2명, 사람2가지를 안다."),
        ("Person1#Person2는 Person1/Person2와", "#Person1##Person2#는 #Person1#/#Person2#와"),
        ("TED person1: 강연, https://x.com/person1/photo", "TED person1: 강연, https://x.com/person1/photo"),
        ("#Peson1#은 #P2#와 간다.", "#Peson1#은 #P2#와 간다."),
        ("Person of the year, 사람 #1 히트곡, Person1호선.", "Person of the year, 사람 #1 히트곡, Person1호선."),
        ("회사 #에서 “둘”은 #PhoneNumber#로 #Person1# 은", "회사 #에서 “둘”은 #PhoneNumber#로 #Person1# 은"),
    ],
)
def test_tags_of_a_summary_are_mended_as_those_of_its_dialogue(before: str, after: str) -> None:
    hits: Counter[str] = Counter()
    assert mend_tags(before, hits) == after
    assert set(hits) == ({"bare_tag"} if before != after else set())
    assert mend_tags(after) == after
    if before != after:
        assert clean_summary(before, RULES, fix_spacing=True) == after


def test_only_those_who_may_speak_are_named_without_signs() -> None:
    text = "Person2는 Person3은 사람1은 Person 12를 본다."
    assert mend_tags(text, highest=2) == "#Person2#는 Person3은 #Person1#은 Person 12를 본다."
    assert clean_summary(text, RULES, fix_spacing=True, highest=3) == (
        "#Person2#는 #Person3#은 #Person1#은 Person 12를 본다."
    )
    assert cleaned(f"#Person3#: {text}") == "#Person3#: #Person2#는 #Person3#은 #Person1#은 Person 12를 본다."


def test_hits_count_replacements_by_id() -> None:
    hits: Counter[str] = Counter()
    clean_dialogue("#Person1#: “네…” \n#Person2#: “왜”ㅠㅠ", RULES, fix_spacing=True, hits=hits)
    assert hits == {"double_quote": 4, "ellipsis": 1, "edge_space": 1, "laugh_end": 1}


TOKEN = re.compile(rf"{MASK_OR_SPEAKER.pattern}|#사람\d+#")
LIKE = re.compile(rf"{TOKEN.pattern}|{LIKE_TAG}")
HEAD = re.compile(r"(?m)^#Person\d+#:")
NAME = re.compile(r"(?i:person)|사람")
NOISE = [
    *"가을네제ab n0159.,!?~-:：#\\*/()<>○_ \t\n\r…·ㆍ—“”‘’‹›ㅋㅎㅠㅜㅇㄱㅏㅣ驛前",
    *(
        "ㅋㅋ",
        "ㅠㅠ",
        "<br>",
        "\\n",
        "\r\n",
        "##",
        "$#,000",
        "(驛前)",
        "驛(역)",
        "배경ㅇ로",
        "사람ㅇ라고",
        "들ㅣ ",
    ),
    *("#Bob#", "#Person", "Person1#", "Email#", "#Name", "#에서 ", " 은 ", " 을.", "·", "  ", " ,", ",000"),
]
TOKENS = [*(f"#{mask}#" for mask in MASKS), "#Person1#", "#Person2#", "#Person10#", "#사람3#"]
HEADS = ["\n#Person1#: ", "\n#Person2#:", "#Person1#：", "\n#사람2# : "]
BARE = [
    "\nPerson1: ",
    "\n사람2：",
    "Person3:",
    "사람",
    "person4",
    "＃Person5＃",
    "PERSON 6",
    "; ",
    "\n- ",
    "\n#Person7# ",
]
ODD = [
    *(
        "#Peson1#:",
        "#P2#",
        "#퍼슨2#은",
        "#Pers0n3#：",
        "**#Person1#:** ",
        " [#Person2#]: ",
        "<b>",
        "</b>",
        "|",
        "’",
        "\\",
    ),
    *(
        "\n1. ",
        "\n: ",
        "(웃음)",
        "#Person2#(",
        "):",
        "ː",
        "\u200d",
        "\u00ad",
        "Person1#Person2는 ",
        "사람1은 ",
        " 사람 2와 ",
    ),
]


def texts(*pieces: str) -> st.SearchStrategy[str]:
    """Random texts of noise, masks, tags and turns, any other characters in between."""
    return st.lists(st.one_of(st.sampled_from(pieces), st.text(max_size=1)), max_size=16).map("".join)


def tokens(text: str) -> Counter[str]:
    """The masks and tags of a text, Korean tags in their canonical form."""
    return Counter(match.replace("사람", "Person") for match in TOKEN.findall(text))


GREEDY = [
    Rule("eats_all", re.compile(r"[\s\S]+"), ""),
    Rule("eats_words", re.compile(r"\w+"), ""),
    Rule("eats_space", re.compile(r"\s+"), ""),
    Rule("writes_masks", re.compile(r"[가-힣]"), "#Email##Person1#"),
]


@settings(max_examples=400, deadline=None)
@given(texts(*NOISE, *TOKENS, *HEADS), st.booleans())
@example("#Person1#: 회사 #에서 #Person2#를", True)
@example("Person1#:", False)
def test_no_mask_or_tag_is_lost_or_made(text: str, fix_spacing: bool) -> None:
    for clean in (clean_dialogue, clean_summary):
        found = tokens(clean(text, RULES, fix_spacing=fix_spacing))
        # A tag without its signs is mended: `Person1:` becomes one.
        if NAME.search(TOKEN.sub("", text)):
            assert tokens(text) <= found
        else:
            assert found == tokens(text)


@settings(max_examples=200, deadline=None)
@given(texts(*NOISE, *TOKENS, *HEADS), st.sampled_from(GREEDY))
def test_no_rule_can_touch_or_make_a_mask(text: str, rule: Rule) -> None:
    for clean in (clean_dialogue, clean_summary):
        found = tokens(clean(text, [rule], fix_spacing=True))
        assert tokens(text) <= found if NAME.search(TOKEN.sub("", text)) else found == tokens(text)
    without, result = (clean_dialogue(text, rules, fix_spacing=True) for rules in ([], [rule]))
    assert Counter(HEAD.findall(without)) <= Counter(HEAD.findall(result))


@settings(max_examples=400, deadline=None)
@given(texts(*NOISE, *TOKENS, *HEADS), st.booleans())
def test_turns_keep_their_tags_and_signs_are_left_in_masks_only(text: str, fix_spacing: bool) -> None:
    result = clean_dialogue(text, RULES, fix_spacing=fix_spacing)
    assert "#" not in LIKE.sub("", result)
    assert HEAD.findall(result) == re.findall(r"#Person\d+#:", result)
    assert all(line.strip() == line != "" for line in result.split("\n")) or not result


@settings(max_examples=1000, deadline=None)
@given(texts(*NOISE, *TOKENS, *HEADS, *BARE) | texts(*NOISE[:12], *TOKENS, *HEADS, *BARE, *ODD), st.booleans())
@example("#사람3#사람5#Person10#사람##5#Name#", True)  # masks that share a sign
@example("가 #\t·나 ㅋㅋ Person1: <ㅋㅋbr> \\ㅋㅋn", True)  # a rule brings structure about
@example("\n사람2：Person3:", False)  # a space lets a name be seen
@example("\n사람2：Person3:Person3:Person3:Person3:", False)  # one by one
@example("가(一)(二) 가ㅇ(一) 一(가)(二) #SSN#-ㅋㅋ5", True)
def test_cleaning_twice_equals_cleaning_once(text: str, fix_spacing: bool) -> None:
    for clean in (clean_dialogue, clean_summary):
        once = clean(text, RULES, fix_spacing=fix_spacing)
        assert clean(once, RULES, fix_spacing=fix_spacing) == once


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "rules.csv: column id: missing; the columns are id,pattern,replacement,why,before,after"),
        (
            "id,pattern,why,before,after\na,b,c,d,e",
            "rules.csv: column replacement: missing; the columns are id,pattern,replacement,why,before,after",
        ),
        (HEADER, "rules.csv: no rules; add at least one row"),
        (
            f"{HEADER}\nx,a{{1,2}},b,why,a,b",
            "rules.csv: line 2: 7 fields where the header has 6; put fields that hold commas or newlines in quotation "
            "marks",
        ),
        (
            f"{HEADER}\nx,a,b",
            "rules.csv: line 2: 3 fields where the header has 6; put fields that hold commas or newlines in quotation "
            "marks",
        ),
        (
            f'{HEADER}\nx,"a"b,b,why,a,b',
            "rules.csv: line 2: the quotation marks of the row that starts here do not match; close the one that opens "
            'a field and write those within as ""',
        ),
        (f"{HEADER}\n ,a,b,why,a,b", "rules.csv: line 2: no id; give the rule an id of its own"),
        (
            f"{HEADER}\nx,a,b,why,a,b\nx,c,d,why,c,d",
            "rules.csv: rule x: the id is that of a rule above; give the rule an id of its own",
        ),
        (
            f"{HEADER}\ncrlf,a,b,why,a,b",
            "rules.csv: rule crlf: the id is the name of a built-in step; give the rule an id of its own",
        ),
        (
            f"{HEADER}\ntypo,a,b,why,a,b",
            "rules.csv: rule typo: the id is the name of a built-in step; give the rule an id of its own",
        ),
        (
            f"{HEADER}\nx,(a,b,why,a,b",
            "rules.csv: rule x: pattern (a: not a regular expression: missing ), unterminated subpattern at "
            "position 0; mend the pattern",
        ),
        (
            f"{HEADER}\nx,a,\\2,why,a,b",
            "rules.csv: rule x: replacement \\2: invalid group reference 2 at position 1; mend the replacement",
        ),
        (
            f"{HEADER}\nx,a*,b,why,a,b",
            "rules.csv: rule x: pattern a*: matches the empty text; make it match something",
        ),
        (
            f"{HEADER}\nx,(?=a),b,why,a,ba",
            "rules.csv: rule x: pattern (?=a): matches the empty text; make it match something",
        ),
        (
            f"{HEADER}\nx,,b,why,a,b",
            "rules.csv: rule x: pattern : matches the empty text; make it match something",
        ),
        (
            f"{HEADER}\nx,a,b,why,aa,b",
            "rules.csv: rule x: its example 'aa' becomes 'bb', not 'b'; mend the rule or the example",
        ),
        (
            f"{HEADER}\nx,Email,b,why,#Email#,#b#",
            "rules.csv: rule x: its example '#Email#' becomes '#Email#', not '#b#'; mend the rule or the example",
        ),
        (
            f"{HEADER}\nx,z,b,why,a  a,a a",
            "rules.csv: rule x: its example 'a  a' does not meet the pattern; mend the rule or the example",
        ),
        (
            f"{HEADER}\nx,a,aa,why,a,aa",
            "rules.csv: rule x: cleaning the result 'aa' of its example again gives 'aaaa'; make the rule "
            "leave its own result alone",
        ),
    ],
)
def test_a_broken_table_of_rules_is_one_clear_error(
    table: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rules.csv").write_text(table, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_rules(Path("rules.csv"))
    assert str(error.value) == message


def test_a_table_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as missing:
        load_rules(Path("rules.csv"))
    Path("cp949.csv").write_bytes(f"{HEADER}\nx,가,나,why,가,나".encode("cp949"))
    with pytest.raises(UserError) as encoding:
        load_rules(Path("cp949.csv"))
    assert str(missing.value) == "rules.csv: not found; set clean.rules to a table of rules"
    assert str(encoding.value) == (
        "cp949.csv: line 2, byte 42: not UTF-8 but probably CP949; save it as UTF-8 (in Excel: CSV UTF-8)"
    )


def test_rules_saved_by_a_spreadsheet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.csv"
    path.write_bytes(f"{HEADER}\r\nx,a,b,why,a,b\r\n".encode("utf-8-sig"))
    assert load_rules(path) == [Rule("x", re.compile("a"), "b")]


def test_ids_are_distinct() -> None:
    ids = [*STRUCTURE, TYPO, *(rule.id for rule in RULES)]
    assert len(ids) == len(set(ids))
