"""Common misspellings of Korean: what is written, as a regular expression, and what is meant.

After the orthography and the loanword rules of the National Institute of Korean Language (한글 맞춤법, 외래어
표기법). Left out, as meant by who writes them: colloquial endings (-구요, -슴다), contractions and dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Replacement = str | Callable[[re.Match[str]], str]
"""As `re.sub` takes it."""


def _table(*rows: tuple[str, Replacement]) -> list[tuple[re.Pattern[str], Replacement]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in rows]


def _without_final(match: re.Match[str]) -> str:
    """A syllable that ends in ㄹ, without it: 할 becomes 하."""
    return chr(ord(match.group()) - (ord("갈") - ord("가")))


_L = "".join(map(chr, range(ord("갈"), ord("힣") + 1, 28)))  # every syllable that ends in ㄹ
_END = r"(?![가-힣])"
_START = r"(?<![가-힣])"

NEVER_RIGHT = _table(
    # endings
    ("됬", "됐"),
    (rf"(?<!안)되요{_END}", "돼요"),
    (rf"{_START}안되요{_END}", "안 돼요"),
    (rf"되서{_END}", "돼서"),
    (rf"{_START}되야(?=지|죠|겠|만|{_END})", "돼야"),
    (rf"(?<=[{_L}])(?<![들딸틀])께(?=요?{_END})", "게"),
    (r"(?<=[할갈올볼줄될]) ?꺼(?=야|예요|에요|니까)", " 거"),
    (r"을려(?=고|면)", "으려"),
    (rf"뵈요{_END}", "봬요"),
    (rf"{_START}안되(?=[.?!]|$)", "안 돼"),
    (r"(?<!안)되(?=[.?!]|$)", "돼"),
    (rf"{_START}안돼(?=나[.?!요]|는|면|고|겠)", "안 되"),
    (r"(?<!안)돼(?=나[.?!요]|는|면|고|겠)", "되"),
    ("봬겠", "뵙겠"),
    (r"봬(?=러|면)", "뵈"),
    (r"(?<=[있없겠았었였했됐갔왔])읍(?=니[다까])", "습"),
    (r"슴(?=니[다까])", "습"),
    (rf"(?<=[하겠었았했])내(?=요{_END})", "네"),
    (rf"{_START}아니예요", "아니에요"),
    (rf"(?<!지 )(?<!지[는도만] ){_START}않(?= [가-힣])", "안"),
    (rf"(?<!지 )(?<!지[는도만] ){_START}않(?=[되돼])", "안 "),
    (r"(?<=[가-힣])던지(?= 말[던든]지)|(?<= 말)던지", "든지"),
    # words
    ("몇일", "며칠"),
    (r"어떻(?=[해하할])", "어떡"),
    ("어떡게", "어떻게"),
    (r"왠(?=만[하한해]|일)", "웬"),
    (rf"{_START}웬지", "왠지"),
    ("금새", "금세"),
    (rf"{_START}요세(?= )", "요새"),
    ("오랫만", "오랜만"),
    ("설겆이", "설거지"),
    (rf"{_START}어의(?=[가는]? ?없)", "어이"),
    ("역활", "역할"),
    ("희안", "희한"),
    (rf"{_START}(?:구지|궂이)(?= )", "굳이"),
    (r"(?<=[잠담])궈", "가"),
    (r"(?<=[잠담])궜", "갔"),
    (r"(?<=김치|된장|부대|참치|동태)( ?)찌게", r"\1찌개"),
    ("육계장", "육개장"),
    ("떡볶기|떡뽁이", "떡볶이"),
    ("돌맹이", "돌멩이"),
    ("통채로", "통째로"),
    ("짜집기", "짜깁기"),
    (r"(?<=곰곰|깨끗|일일|틈틈|번번)히", "이"),
    (r"(?<=솔직|꼼꼼)이(?= )", "히"),
    (r"(?<=[괜귀])찬(?=[아았은습네다고지])", "찮"),
    ("몰르", "모르"),
    (r"눈에 띠(?=[게는네])", "눈에 띄"),
    ("댓가(?!지)", "대가"),
    ("갯수", "개수"),
    ("촛점", "초점"),
    ("뒷풀이", "뒤풀이"),
    ("윗층", "위층"),
    ("어짜피", "어차피"),
    ("도데체", "도대체"),
    ("서슴치", "서슴지"),
    (r"무릅(?=[이을은도에과])", "무릎"),
    ("무릎쓰", "무릅쓰"),
    ("닥달", "닦달"),
    ("눈쌀", "눈살"),
    ("뇌졸증", "뇌졸중"),
    ("메세지", "메시지"),
    ("초콜렛", "초콜릿"),
    ("컨텐츠", "콘텐츠"),
    ("악세사리", "액세서리"),
)
"""Spellings that no Korean word has."""

SOMETIMES_RIGHT = _table(
    (rf"[{_L}](?=려(?:고|면|던|다가)(?:요|는)?{_END})", _without_final),  # 할려고; but 살려고 from 살다
    (r"(?<=을)꺼(?=야|예요|에요|니까)", " 거"),  # 먹을꺼야; but 불을꺼야
    (r"(?<=지) ?안(?=[고아았으는은을습])", " 않"),  # 하지 안고; but 강아지 안고
    (r"낳(?=으세요|을)", "나"),  # 감기 빨리 낳으세요; but 아이를 낳을
    (rf"{_START}일부로", "일부러"),  # 일부로 그랬어; but 전체의 일부로
    (rf"{_START}베게", "베개"),  # 베게가 높다; but 칼에 베게
    (rf"{_START}끈(?=어)", "끊"),  # 전화 끈어; but 끈어 with another word behind
    (r"(?<=열심)이(?= )", "히"),
)
"""Spellings that a correct text may have too."""
