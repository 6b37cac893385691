"""Repeat training rows with their speakers exchanged, in the dialogue and in the summary alike.

From data/checked/train.csv to data/augmented/speaker_swap.csv: `augment.speaker_swap.n` rows, chosen by seed,
each named after its origin (`train_7.swap`).

In the corpus every dialogue opens with #Person1#, a rule that `keep_first_speaker` keeps. Of three or more
speakers, the first keeps its tag and the others exchange theirs. Two speakers exchange tags, and then their
first two runs of turns trade places: what opened the dialogue now follows its own answer. Everything after
stands where it stood, so the speaker of the second run goes on speaking in the third.
"""

from __future__ import annotations

import logging
import random
import re
from itertools import chain, groupby

import pandas as pd

from stages.core import paths
from stages.core.amount import count_of
from stages.core.errors import run_stage
from stages.core.params import load_params
from stages.corpus.dialogue import SPEAKER, parse_turns, render_turns, speakers
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, write_table

log = logging.getLogger(__name__)

FIRST = "#Person1#"

# Numbers are read in English: 원, 세븐, 에잇, 나인, 텐, 일레븐 and 써틴 to 나인틴 end in a consonant.
_CONSONANT_FINAL = {1, 7, 8, 9, 10, 11, *range(13, 20)}

# After a consonant, after a vowel, and what may follow. Not listed, as they need no change: 인 and 입니다,
# and forms whose copula 이 may stay after a vowel (투이다, 투이고). 야 calls somebody, except before a full
# stop or a question mark, where it is the copula.
_PARTICLES = [
    ("은", "는", [""]),
    ("이", "가", [""]),
    ("을", "를", [""]),
    ("과", "와", ["", "의", "는", "도", "만"]),
    ("으로", "로", ["", "부터", "서", "는", "도", "만"]),
    ("이나", "나", [""]),
    ("이랑", "랑", ["", "은", "도"]),
    ("아", "야", [""]),
    ("이야", "야", [".", "?"]),
    ("이에요", "예요", [""]),
    ("이었", "였", ["다", "던", "다고", "다는", "습니다"]),
    ("이라", "라", ["", "고", "고는", "고도", "는", "면", "서", "며", "도"]),
    ("이란", "란", [""]),
]
_FORMS = {
    form + ending: (consonant + ending, vowel + ending)
    for consonant, vowel, endings in _PARTICLES
    for form in (consonant, vowel)
    for ending in endings
}
_LONGEST_FIRST = "|".join(re.escape(form) for form in sorted(_FORMS, key=len, reverse=True))
_TAG_AND_PARTICLE = re.compile(rf"({SPEAKER.pattern})(?:({_LONGEST_FIRST})(?!\w))?")


def relabel(text: str, labels: dict[str, str]) -> str:
    """Replace speaker tags, all at once; a particle attached to one takes the form that the new tag needs."""

    def replace(match: re.Match[str]) -> str:
        old, particle = match.groups(default="")
        new = labels.get(old, old)
        if new == old or not particle:
            return new + particle
        consonant, vowel = _FORMS[particle]
        return new + (consonant if int(new[len("#Person") : -1]) in _CONSONANT_FINAL else vowel)

    return _TAG_AND_PARTICLE.sub(replace, text)


def can_swap(dialogue: str, *, keep_first_speaker: bool) -> bool:
    """Whether there are speakers to exchange, and #Person1# can open the result where it has to."""
    tags = speakers(dialogue)
    if len(tags) < 2 or not keep_first_speaker:
        return len(tags) > 1
    return dialogue.startswith(f"{tags[0]}:") and (tags[0] == FIRST or tags[1:] == [FIRST])


def swap(dialogue: str, summary: str, *, keep_first_speaker: bool, rng: random.Random) -> tuple[str, str]:
    """Exchange the speakers of a row that `can_swap`; each that takes part gets the tag of another one."""
    tags = speakers(dialogue)
    if keep_first_speaker and len(tags) > 2:
        tags = tags[1:]
    circle = rng.sample(tags, len(tags))
    labels = dict(zip(circle, circle[1:] + circle[:1], strict=True))
    dialogue = relabel(dialogue, labels)
    if keep_first_speaker and not dialogue.startswith(FIRST):
        dialogue = trade_openings(dialogue)
    return dialogue, relabel(summary, labels)


def trade_openings(dialogue: str) -> str:
    """Let the first two runs of turns, each by one speaker, trade places."""
    runs = [list(run) for _, run in groupby(parse_turns(dialogue), key=lambda turn: turn.speaker)]
    first, second, *rest = runs
    return render_turns(list(chain(second, first, *rest)))


def swap_rows(table: pd.DataFrame, *, n: int, keep_first_speaker: bool, seed: int) -> pd.DataFrame:
    """Choose n rows by seed, or all where there are fewer; they keep the table's order."""
    fit = table[[can_swap(text, keep_first_speaker=keep_first_speaker) for text in table["dialogue"]]]
    if len(fit) < len(table):
        opening = f", or {FIRST} cannot open them" if keep_first_speaker else ""
        log.info("%d of %d rows left out: they have one speaker%s", len(table) - len(fit), len(table), opening)
    if n > len(fit):
        log.info("augment.speaker_swap.n = %d: all %d rows are taken, there are no more", n, len(fit))
    chosen = fit.sample(min(n, len(fit)), random_state=seed).sort_index()
    rng = random.Random(seed)
    pairs = [
        swap(dialogue, summary, keep_first_speaker=keep_first_speaker, rng=rng)
        for dialogue, summary in zip(chosen["dialogue"], chosen["summary"], strict=True)
    ]
    swapped = chosen.assign(
        fname=[f"{fname}.swap" for fname in chosen["fname"]],
        dialogue=[dialogue for dialogue, _ in pairs],
        summary=[summary for _, summary in pairs],
        source="speaker_swap",
    )
    return swapped.reindex(columns=AUGMENTED_COLUMNS, fill_value="")


def main() -> None:
    params = load_params()
    settings = params.augment.speaker_swap
    table = read_table(paths.TRAIN, "train")
    if settings.n == 0:
        log.info("augment.speaker_swap.n = 0: skipped, %s holds no rows", paths.SWAPS)
        swapped = pd.DataFrame(columns=AUGMENTED_COLUMNS)
    else:
        n = count_of(settings.n, len(table))
        swapped = swap_rows(table, n=n, keep_first_speaker=settings.keep_first_speaker, seed=params.seed)
        log.info("%s: %d rows with their speakers exchanged", paths.SWAPS, len(swapped))
    write_table(swapped, paths.SWAPS)


if __name__ == "__main__":
    run_stage(main)
