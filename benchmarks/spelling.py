"""Precision, recall and speed of `stages.cleaning.spelling` against other offline ways to correct Korean.

    python -m benchmarks.spelling

On the sentences of tests/data/spelling.csv, and on the lines of the sample's dialogues and summaries. The packages
matchum and dadeum join in where they are installed.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from kiwipiepy import Kiwi

from stages.cleaning.misspellings import NEVER_RIGHT, SOMETIMES_RIGHT
from stages.cleaning.spelling import correct
from stages.core.params import load_params
from stages.corpus.dialogue import MASK_OR_SPEAKER

CASES = Path("tests/data/spelling.csv")
SAMPLE = Path("data/sample")
Corrector = Callable[[Sequence[str]], list[str]]


def ours(texts: Sequence[str]) -> list[str]:
    return [text for text, _ in correct(texts, load_params().clean.typo_threshold)]


def table_alone(texts: Sequence[str]) -> list[str]:
    """The table of misspellings without the language model."""
    results = []
    for text in texts:
        for pattern, replacement in (*NEVER_RIGHT, *SOMETIMES_RIGHT):
            text = pattern.sub(replacement, text)
        results.append(text)
    return results


def kiwi_typos(kiwi: Kiwi, typos: str) -> Corrector:
    """Write every word with a morpheme that Kiwi reads as a typo from its morphemes."""

    def corrected(texts: Sequence[str]) -> list[str]:
        return [apply(text, tokens) for text, tokens in zip(texts, kiwi.tokenize(texts, typos=typos), strict=True)]

    def apply(text: str, tokens: list) -> str:  # type: ignore[type-arg]
        for word in reversed(list(re.finditer(r"\S+", text))):
            own = [token for token in tokens if word.start() <= token.start < word.end()]
            if any(token.typo_cost for token in own):
                text = text[: word.start()] + kiwi.join(own) + text[word.end() :]
        return text

    return corrected


def correctors() -> dict[str, Corrector]:
    kiwi = Kiwi(num_workers=1)
    found: dict[str, Corrector] = {
        "ours": ours,
        "the table alone": table_alone,
        "Kiwi, typos basic": kiwi_typos(kiwi, "basic"),
        "Kiwi, typos basic_with_continual": kiwi_typos(kiwi, "basic_with_continual"),
        "Kiwi.space": lambda texts: list(kiwi.space(texts)),
    }
    if find_spec("matchum"):
        check = import_module("matchum").check
        found["matchum"] = lambda texts: [check(text).checked for text in texts]
    if find_spec("dadeum"):
        clean = import_module("dadeum").clean
        found["dadeum"] = lambda texts: [clean(text) for text in texts]
    return found


def sample_lines() -> list[str]:
    lines: dict[str, None] = {}
    for path in sorted(SAMPLE.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                texts = (text for name, text in row.items() if name.startswith(("dialogue", "summary")))
                lines |= dict.fromkeys(line for text in texts for line in text.split("\n"))
    return [line for line in lines if MASK_OR_SPEAKER.sub("", line).strip(" :")]


def main() -> None:
    with CASES.open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    wrong = [case for case in cases if case["kind"] != "clean"]
    clean = [case["text"] for case in cases if case["kind"] == "clean"]
    lines = sample_lines()
    print(f"{len(wrong)} sentences with errors, {len(clean)} clean; {len(lines)} lines of the sample")
    for name, corrector in correctors().items():
        corrector(["가"])
        answers = corrector([case["text"] for case in wrong])
        exact = sum(answer == case["expected"] for answer, case in zip(answers, wrong, strict=True))
        changed = sum(answer != case["text"] for answer, case in zip(answers, wrong, strict=True))
        false = sum(answer != text for answer, text in zip(corrector(clean), clean, strict=True))
        began = time.perf_counter()
        sampled = corrector(lines)
        speed = sum(map(len, lines)) / (time.perf_counter() - began)
        touched = sum(answer != line for answer, line in zip(sampled, lines, strict=True))
        print(
            f"{name:34} precision {exact / max(changed + false, 1):6.1%}, recall {exact / len(wrong):6.1%}, changed: "
            f"clean {false / len(clean):6.1%}, sample lines {touched:4}; {speed:10,.0f} characters/s"
        )


if __name__ == "__main__":
    main()
