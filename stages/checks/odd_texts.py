"""What cleaning leaves alone because it is not sure: turns within turns, names that may be speakers, preambles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from stages.corpus.dialogue import COLONS, COUNTED, LIKE_TAG, ONE_SLIP, PARTICLES, PERSON, SERIAL, SPEAKER

_TAG = SPEAKER.pattern
_GAP = r"[^\S\n]"
_PARTICLE = rf"(?:{PARTICLES})(?![가-힣])"
_COUNT = rf"(?:\s?[,~-]\s?\d+)?\s?(?:{COUNTED})"  # 사람 2명, 사람1~2명
_NAME = re.compile(
    rf"(?<![#A-Za-z=])(?<![A-Za-z]/)(?<!//)(?:{PERSON}|(?i:speaker))(?:[\s_-]?\d+(?!\d))?"
    rf"(?![#@A-Za-z0-9]|{SERIAL}|\ of\b)"
    rf"|(?<![#가-힣])(?:사람|화자)[\s_-]?\d+(?![\d#]|{_COUNT})"
)
_NOT_ONE = re.compile(r"사람\s1(?=도)")  # 사람 1도 없다: not a soul
_LIKE_TAG = re.compile(LIKE_TAG)
_SLIP = re.compile(rf"(?<![\w#])(?!{PERSON})(?:{ONE_SLIP})[ _-]?\d{{1,2}}(?={_GAP}*[{COLONS}])")
_APPOSED = "(?:씨|님|선생|교수|박사|입니다|이에요|예요|이야|라고|이라고)"  # as in: #Person1# 씨, 저는 #Person1# 입니다
_SUFFIX = (
    rf"(?:{PARTICLES}|야|아|여|만|네|나|이나|든|이든|보다|하고|조차|마저|뿐|말고|밖에|처럼|같이)"
    r"(?:은|는|도|만|의|이|가|을|를|요|에|에게|과|와)*(?![가-힣])"
    "|씨|님|들|쪽|측|같은|대신|때문|덕분|이?(?:라|랑|었|였|예|죠|지|잖|군|구|고|니|면|며|던)|이에|입니|인[가데지]|일"
)
_ORDINARY = rf""":|[)\]"'”’」』》]*(?:{_SUFFIX})|{_GAP}*{_APPOSED}|{_GAP}*[,·/&+]{_GAP}*{_TAG}|['’]s\b"""
_LOOSE_TAG = re.compile(rf"({_TAG})(?!{_ORDINARY})")
_END = re.compile(r"[!?…]|\W*$", re.MULTILINE)
_LABEL = re.compile(rf"(?m)^(?!{_TAG})([A-Za-z]{{1,12}}|[A-Za-z가-힣]{{1,12}}{_GAP}*\d{{1,2}}){_GAP}*[{COLONS}](?!\d)")

_TEXT = "요약|대화|텍스트|글|문장|문단|번역|내용|결과|버전|답변|교정|summary|dialogue|text|translation|version"
_EDITED = "수정|교정|요약|정리|정제|번역|변환|작성|편집|다듬|고친|고쳐"
_EDITED_ENGLISH = "final|corrected|revised|edited|cleaned|translated"
_YES = r"(?:네|예|물론|알겠|좋습니다|sure|certainly|of\ course|okay)"
_PREAMBLE = re.compile(
    rf"""\W{{,40}}(?:
        [^\n:：]{{0,60}}(?:다음과|아래와)\s?같(?:습니다|아요|다)\s*(?:[.:：\n]|(?={_TAG.replace("#", "[#]")}))
      | (?:{_EDITED}|{_TEXT})[^\n:：.\#]{{0,20}}(?:다음과|아래와)\s?같(?:습니다|아요)
      | (?:[가-힣]{{1,6}}\s){{0,2}}(?:{_TEXT})(?:문|본|록)?(?:\s?(?:결과|내용))?\W{{0,4}}[:：]
      | (?:[가-힣]{{1,6}}\s){{0,2}}요약(?:문|본)?(?:\s*\n|\s+(?=[#]Person|둘은|두\ 사람))
      | (?:(?:네|예)[,.!~]*\s*)?(?:물론(?:입니다|이죠|이에요)|알겠습니다|알겠어요|좋습니다)\s*[,.!~:：\n]
      | [^\n:：.\#]{{0,40}}(?:{_EDITED})[^\n:：.\#]{{0,8}}(?:습니다|어요|해요)\s*[:：]
      | [^\n:：.\#]{{0,30}}(?:요약|정리)(?:하면|하자면|해\s?보면)\s*[,:：]
      | (?:{_YES}[^\n:：]{{0,20}}[,.!]\s*)?(?:다음은|아래는|여기)\b[^\n:：]{{0,60}}(?:{_TEXT})[^\n:：.]{{0,20}}[.:：]
      | {_YES}[^\n:：]{{0,20}}[,.!]\s*[^\n:：]{{0,40}}(?:{_TEXT})[^\n:：]{{0,20}}(?:드리겠|드릴게|했습니다|입니다)
      | (?:다음과|아래와)\s?같이\b[^\n:：]{{0,40}}[:：]
      | [^\n:：.]{{0,30}}(?:{_EDITED})[^\n:：.]{{0,6}}\s(?:{_TEXT})(?:입니다|이에요|예요)?\s*[:：]
      | (?:출력|응답|output|answer|response|result|(?:{_EDITED_ENGLISH})\ \w+)\W{{0,4}}[:：]
      | [\[【<(*]+\s*(?:{_TEXT})(?:문|본|록)?(?:\s?(?:결과|내용))?\s*[\])】>*]
      | ```
      | (?:{_YES}[^\n]{{0,20}})?\bhere(?:'s|’s|\ is|\ are)\b
      | (?:sure|certainly)[,!]
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_LEAD_IN = re.compile(rf"(?!{_TAG})[^\n]{{0,200}}[:：]\s*\n\s*{_TAG}")


def doubtful_tags(dialogue: str) -> Iterator[str]:
    """What in a clean dialogue may be the tag of a turn and was not taken for one, each with its line."""
    places: dict[str, list[str]] = {
        "within the line without a colon": [],
        "at its start without a colon": [],
        "between other signs": [],
    }
    within, start, between = places
    for match in _LOOSE_TAG.finditer(dialogue):
        before = dialogue[dialogue.rfind("\n", 0, match.start()) + 1 : match.start()]
        if before and _END.match(dialogue, match.end()):  # 고마워, #Person1#!
            continue
        where = start if not before else within if re.search(r"\w", before) else between
        places[where].append(f"line {_line(dialogue, match)}: {match[1]} {where}")
    yield from chain.from_iterable(places.values())
    for match in _NAME.finditer(dialogue):
        if not _NOT_ONE.match(dialogue, match.start()):
            yield f"line {_line(dialogue, match)}: {match.group()} without its signs"
    for match in chain(_LIKE_TAG.finditer(dialogue), _SLIP.finditer(dialogue)):
        yield f"line {_line(dialogue, match)}: {match.group()} may be a misspelt tag"
    for match in _LABEL.finditer(dialogue):
        if not _NAME.match(match[1]) and not _SLIP.match(dialogue, match.start()):
            yield f"line {_line(dialogue, match)}: a label and a colon, which are no speaker tag"


def unsigned_names(summary: str) -> list[str]:
    """The names of speakers in a clean summary that have no signs, each once."""
    return list(dict.fromkeys(match.group() for match in _NAME.finditer(summary)))


def misspelt_tags(summary: str) -> list[str]:
    """What in a clean summary has the signs of a tag and is like one, each once."""
    return list(dict.fromkeys(match.group() for match in _LIKE_TAG.finditer(summary)))


def has_preamble(text: str) -> bool:
    """Whether a text begins with words about itself, such as "다음은 요약한 텍스트입니다:".

    Before the turns of a dialogue, any line that ends in a colon is one.
    """
    return _PREAMBLE.match(text) is not None or _LEAD_IN.match(text) is not None


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1
