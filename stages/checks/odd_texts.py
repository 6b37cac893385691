"""What cleaning leaves alone because it is not sure: turns within turns, names that may be speakers, preambles."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.corpus.dialogue import COLONS, COUNTED, PARTICLES, PERSON, SERIAL, SPEAKER

_TAG = SPEAKER.pattern
_GAP = r"[^\S\n]"
_PARTICLE = rf"(?:{PARTICLES})(?![가-힣])"
_NAME = re.compile(
    rf"(?<![#A-Za-z])(?:{PERSON}|(?i:speaker))(?:[\s_-]?\d+(?!\d))?(?![#@A-Za-z0-9]|{SERIAL}|\ of\b)"
    rf"|(?<![#가-힣])(?:사람|화자)[\s_-]?\d+(?![\d#]|\s?(?:{COUNTED}))"
)
_APPOSED = "(?:씨|님|선생|교수|박사|입니다|이에요|예요|이야|라고|이라고)"  # as in: #Person1# 씨, 저는 #Person1# 입니다
_WITHIN_LINE = re.compile(
    rf"""(?<=[.!?…~"'”’)\]]){_GAP}*({_TAG})(?={_GAP}+(?!{_APPOSED}))|(?<=.)({_TAG})(?={_GAP}*[;；])"""
    rf"|(?<=[가-힣]){_GAP}+({_TAG})(?={_GAP}+(?!{_APPOSED}))"
)
_LINE_START = re.compile(rf"(?m)^({_TAG})(?!:|{_PARTICLE}|[야아씨님들])")
_DECORATED = re.compile(rf"(?m)^[^\w\n#]+({_TAG})[^\w\n#]{{,3}}[{COLONS}]")
_LABEL = re.compile(rf"(?m)^(?!{_TAG})([A-Za-z]{{1,12}}|[A-Za-z가-힣]{{1,12}}{_GAP}*\d{{1,2}}){_GAP}*[{COLONS}](?!\d)")

_TEXT = "요약|대화|텍스트|글|문장|문단|번역|내용|결과|버전|답변|교정|summary|dialogue|text|translation|version"
_EDITED = "수정|교정|요약|정리|정제|번역|변환|작성|편집|다듬|고친|고쳐"
_EDITED_ENGLISH = "final|corrected|revised|edited|cleaned|translated"
_YES = r"(?:네|예|물론|알겠|좋습니다|sure|certainly|of\ course|okay)"
_PREAMBLE = re.compile(
    rf"""\W*(?:
        [^\n:：]{{0,60}}(?:다음과|아래와)\s?같(?:습니다|아요|다)\s*[.:：]
      | (?:{_YES}[^\n:：]{{0,20}}[,.!]\s*)?(?:다음은|아래는|여기)\b[^\n:：]{{0,60}}(?:{_TEXT})[^\n:：.]{{0,20}}[.:：]
      | {_YES}[^\n:：]{{0,20}}[,.!]\s*[^\n:：]{{0,40}}(?:{_TEXT})[^\n:：]{{0,20}}(?:드리겠|드릴게|했습니다|입니다)
      | (?:{_TEXT})(?:문|본|록)?(?:\s?(?:결과|내용))?\W{{0,4}}[:：]
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
    for pattern, where in (
        (_WITHIN_LINE, "within the line without a colon"),
        (_LINE_START, "at its start without a colon"),
        (_DECORATED, "between other signs"),
    ):
        for match in pattern.finditer(dialogue):
            yield f"line {_line(dialogue, match)}: {match[match.lastindex or 0]} {where}"
    for match in _NAME.finditer(dialogue):
        yield f"line {_line(dialogue, match)}: {match.group()} without its signs"
    for match in _LABEL.finditer(dialogue):
        if not _NAME.match(match[1]):
            yield f"line {_line(dialogue, match)}: a label and a colon, which are no speaker tag"


def unsigned_names(summary: str) -> list[str]:
    """The names of speakers in a clean summary that have no signs, each once."""
    return list(dict.fromkeys(match.group() for match in _NAME.finditer(summary)))


def has_preamble(text: str) -> bool:
    """Whether a text begins with words about itself, such as "다음은 요약한 텍스트입니다:".

    Before the turns of a dialogue, any line that ends in a colon is one.
    """
    return _PREAMBLE.match(text) is not None or _LEAD_IN.match(text) is not None


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start(match.lastindex or 0)) + 1
