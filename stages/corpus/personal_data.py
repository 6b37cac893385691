"""Numbers and addresses by which a person is found, and the corpus's masks for them.

Found by their form, in Korean text: phone numbers (libphonenumber knows Korea's, and those with a country code),
resident registration numbers, payment cards, e-mail addresses, Korean passports and car plates. Not found:
names, street addresses, dates of birth, accounts, and numbers spelled out in words (공일공).

The package `ko-pii` 1.22.15 leaves masks alone too, but on the cases of tests/corpus/test_personal_data.py it has a
precision of 0.89 and a recall of 0.88 (here both are 1), and takes 165 seconds for 10,000 dialogues (here 1.7).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date

from phonenumbers import Leniency, PhoneNumberMatcher, PhoneNumberType, number_type

from stages.corpus.dialogue import MASK_OR_SPEAKER

# What every kind below has; most texts have neither, and need no closer look.
_POSSIBLE = re.compile(r"@|\d{4}")
_TOKEN = re.compile(f"({MASK_OR_SPEAKER.pattern})")

_DASH = r"[-–—.]"
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
_RESIDENT = re.compile(
    rf"(?<!\d)(?<!\d{_DASH})(\d\d)(\d\d)(\d\d)( ?{_DASH} ?| ?)([1-8])(\d{{6}}|\*{{6}})(?![\d*])(?!{_DASH}\d)"
)
_GAP = rf"(?: ?{_DASH} ?| ?)"
_CARD = re.compile(
    rf"(?<!\d)(?<!\d{_DASH})(?:(?:2[2-7]|3[05689]|[4569]\d)\d\d(?:{_GAP}\d{{4}}){{3}}|3[47]\d\d{_GAP}\d{{6}}{_GAP}\d{{5}})"
    rf"(?!\d)(?!{_DASH}\d)"
)
_PASSPORT = re.compile(r"(?<![A-Za-z0-9-])[MSRGD](?:\d{8}|\d{3}[A-Z]\d{4})(?![A-Za-z0-9])(?!-\w)")
_REGION = "서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충북|충남|전북|전남|경북|경남|제주"
# Some of a plate's letters count things elsewhere: 12조 3000억, 30도 1000미터, 105호 1204호.
_UNIT = "원|년|억|천|만 ?원|명|개|호|평|달러|불|엔|유로|위안|미터|킬로|포인트|[a-z㎏㎞㎡%]"
_PLATE = re.compile(
    rf"(?:(?:{_REGION}) ?)?(?<![\d.,:-])\d{{2,3}} ?"
    r"[가나다라마바사아자하거너더러머버서어저허고노도로모보소오조호구누두루무부수우주배] ?\d{4}"
    rf"(?![\d:-])(?![.,]\d)(?! ?(?:{_UNIT}))"
)
_LAST_GROUP = re.compile(r"\D(?:\d{4}|\d{8})$")
_ONE_PIECE = re.compile(r"\+?\d+$")
_MOBILE = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)
_COMPANIES = (PhoneNumberType.UAN, PhoneNumberType.TOLL_FREE, PhoneNumberType.PREMIUM_RATE)


def mask_personal_data(text: str) -> tuple[str, Counter[str]]:
    """Put the corpus's masks in the place of personal data; masks and speaker tags stay as they are.

    Masking what is masked changes nothing.

    Returns:
        The masked text, and how often each kind was found, by the name of its mask, as in {"PhoneNumber": 1}.
    """
    found: Counter[str] = Counter()
    left = _POSSIBLE.search(text) is not None
    while left:  # a mask may set free a number that touched what it replaced
        before = text
        for kind, spans in _KINDS.items():
            text = _mask(kind, spans, text, found)
        left = text != before
    return text, found


def _mask(kind: str, spans: Callable[[str], Iterator[tuple[int, int]]], text: str, found: Counter[str]) -> str:
    parts = _TOKEN.split(text)
    for place in range(0, len(parts), 2):
        part = parts[place]
        for start, end in reversed(list(spans(part))):
            part = f"{part[:start]}#{kind}#{part[end:]}"
            found[kind] += 1
        parts[place] = part
    return "".join(parts)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text))


def _resident_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Numbers that begin with a day of the calendar, in the century that the seventh digit names.

    Numbers given since October 2020 have no check digit, so it is asked for only where 13 digits stand without a
    separator, as those of a barcode do.
    """
    for match in _RESIDENT.finditer(text):
        year, month, day, gap, seventh, rest = match.groups()
        century = 1900 if seventh in "1256" else 2000
        digits = year + month + day + seventh + rest
        if _is_date(century + int(year), int(month), int(day)) and (gap or "*" in rest or _resident_check(digits)):
            yield match.span()


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _resident_check(digits: str) -> bool:
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    total = sum(weight * int(digit) for weight, digit in zip(weights, digits, strict=False))
    return int(digits[-1]) == (11 - total % 11) % 10


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        if _luhn([int(char) for char in match.group() if char.isdigit()]):
            yield match.span()


def _luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _phones(text: str) -> Iterator[tuple[int, int]]:
    """Numbers that can be dialled, in groups of which the last has four digits, or in one piece if mobile.

    Dates, accounts and order numbers are grouped otherwise. Numbers that only companies have are nobody's:
    1588-1234 and its like, 080 and 060.
    """
    for match in PhoneNumberMatcher(text, "KR", leniency=Leniency.VALID):
        kind = number_type(match.number)
        number = match.raw_string.removesuffix(match.number.extension or "").rstrip(" #~x-.")
        if number[0] in "(（" and not re.search("[)）]", number):  # what it opens is more than the number
            number = number[1:]
        if kind not in _COMPANIES and (_LAST_GROUP.search(number) or (kind in _MOBILE and _ONE_PIECE.match(number))):
            yield match.start + match.raw_string.index(number), match.end


def _passports(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _PASSPORT.finditer(text))


def _plates(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _PLATE.finditer(text))


# A resident number and a card could be taken for a phone number, so they come first.
_KINDS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "Email": _emails,
    "SSN": _resident_numbers,
    "CardNumber": _cards,
    "PhoneNumber": _phones,
    "PassportNumber": _passports,
    "CarNumber": _plates,
}
