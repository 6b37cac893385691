"""The kinds of noise that a page on the data counts, before cleaning and after: of rules and steps, by what one sees.

Counted apart from what the rules replace, so that a page shows what they leave.
"""

from __future__ import annotations

import re
from collections import Counter

from stages.corpus.dialogue import MASK_OR_SPEAKER

_TAG = r"(?:#(?:Person|사람)\d+#|#[A-Za-z가-힣]+(?: [A-Za-z가-힣]+){0,2}#)"

NOISE = {
    "literal \\n": r"\\n",
    "<br>": r"<br ?/?>",
    "carriage return": r"\r",
    "space before a newline": r"[ \t]+(?=\r?\n)",
    "doubled space": r"(?<=\S)[ \t]{2,}(?=\S)",
    "speaker inside a line": r"(?<=[^\n])(?<!\\n)(?<!<br>)#Person\d+#:",
    "other form of speaker": r"#사람\d+#|(?<!#)\bPerson\d+\b(?!#)",
    "orphan #": rf"(?!{_TAG})(?<!\$)#",
    "amount without digits": r"\$#,\d+",
    "digits behind a mask": r"(?<=[A-Za-z]#)\d+",
    "mask around a word": rf"(?!{MASK_OR_SPEAKER.pattern}|#사람\d){_TAG}",
    "curly quote": r"[“”‘’]",
    "… — – · ‹ ›": r"[…—–·‹›]",
    "full-width sign": r"[！-～]",
    "ㅋㅋ ㅎㅎ ㅠㅠ": r"[ㅋㅎㅠㅜ]{2,}",
    "stray jamo": r"(?<=[가-힣])[ㄱ-ㅎㅏ-ㅣ](?![ㄱ-ㅎㅏ-ㅣ])",
    "hanja": r"[一-鿿]+",
    "\\ for /": r"\\(?!n)",
    "* between digits": r"(?<=\d)\*(?=\d)",
}
"""The kinds of noise that occur in the competition's data and its translations, each with its pattern."""


def noise(text: str) -> Counter[str]:
    """Count the noise in a text, by kind; kinds that do not occur are left out."""
    # A tag that is no noise is consumed whole, as an empty find: no pattern may start at its last `#`.
    finds = {kind: re.findall(rf"({pattern})|{_TAG}", text) for kind, pattern in NOISE.items()}
    return +Counter({kind: sum(map(bool, found)) for kind, found in finds.items()})
