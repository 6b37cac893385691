"""Speed of scoring, with texts recombined from the sample's sentences: `python -m benchmarks.scoring`.

An evaluation of 499 dialogues with three references each, as large as the competition's dev table, in full:
scores at both levels, baselines, checks, intervals and the report. Then 100,000 pairs at morpheme level, three
references to a hypothesis and no text twice. The package `rouge` 1.0.1 scores some of the same pairs beside them.
At last what minimum Bayes risk takes among a dialogue's candidates: all pairs of them one by one, and all at once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rouge import Rouge

from stages.core.errors import UserError, run_stage
from stages.corpus.tables import Split, read_table, references
from stages.pages.evaluation_page import render_report
from stages.scoring.baselines import BASELINES
from stages.scoring.morphemes import as_analyzer, cut_with_kiwi, kiwi_morphemes, remembering
from stages.scoring.pairwise import PAIRS, finals
from stages.scoring.rouge import Scorer
from stages.scoring.scored_rows import measure, score_rows

SAMPLE = Path("data/sample")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
DIALOGUES = 499
SCORED = 100_000
SCORED_BY_THE_PACKAGE = 2_000
REFERENCES = 3
CANDIDATES = (17, 97, 291)
"""A greedy summary and 16 samples, or 96, and those of three adapters."""


def sample() -> tuple[list[str], list[str]]:
    """The sample's dialogues, and the sentences of its summaries."""
    tables = [read_table(SAMPLE / f"{split}.csv", split) for split in SPLITS]
    dialogues = [dialogue for table in tables for dialogue in table["dialogue"]]
    summaries = [summary for table in tables for row in references(table) for summary in row]
    return dialogues, [sentence for summary in summaries for sentence in re.split(r"(?<=[.])\s+", summary)]


def writer(sentences: Sequence[str]) -> Callable[[], str]:
    """Writes summaries of one to three sentences, always the same ones."""
    rng = random.Random(0)
    return lambda: " ".join(rng.sample(sentences, rng.randint(1, 3)))


@contextmanager
def timed(what: str) -> Iterator[None]:
    start, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} s of CPU", flush=True)


def evaluation(dialogues: Sequence[str], write: Callable[[], str]) -> None:
    rows = [dialogues[row % len(dialogues)] for row in range(DIALOGUES)]
    refs = [[write() for _ in range(REFERENCES)] for _ in rows]
    summaries, fnames = [write() for _ in rows], [f"dev_{row}" for row in range(DIALOGUES)]
    cut = remembering(cut_with_kiwi)
    morphemes = Scorer(as_analyzer(cut))
    scored = score_rows(fnames, rows, refs, summaries, fnames, morphemes)
    copied = {name: [extract(dialogue) for dialogue in rows] for name, extract in BASELINES.items()}
    baselines = {name: morphemes.rows(texts, refs) for name, texts in copied.items()}
    measure(scored, baselines)
    render_report({"dev": (scored, baselines)}, {"objective": "balanced", "chosen": {}}, cut)


def agreement(candidates: Sequence[str]) -> None:
    texts = Scorer(kiwi_morphemes).texts(candidates)
    with timed(f"{len(texts)} candidates: all pairs, one by one"):
        alone = [[[pair(ours, theirs).final for theirs in texts] for ours in texts] for pair in PAIRS]
    with timed(f"{len(texts)} candidates: all pairs at once"):
        together = [finals(texts, pair) for pair in PAIRS]
    if not np.array_equal(alone, together):
        raise UserError("the two give different scores")


def main() -> None:
    dialogues, sentences = sample()
    write = writer(sentences)
    kiwi_morphemes(["한 번 불러 둔다."])  # loads the analyzer
    with timed(f"an evaluation of {DIALOGUES} dialogues, {REFERENCES} references each"):
        evaluation(dialogues, write)

    hypotheses = [write() for _ in range(SCORED // REFERENCES + 1)]
    refs = [[write() for _ in range(REFERENCES)] for _ in hypotheses]
    scorer = Scorer(kiwi_morphemes)
    with timed(f"{len(refs) * REFERENCES:,} pairs: analysis"):
        scorer.texts([*hypotheses, *(reference for row in refs for reference in row)])
    with timed(f"{len(refs) * REFERENCES:,} pairs: scores"):
        scorer.rows(hypotheses, refs)

    pairs = [(hypothesis, reference) for hypothesis, row in zip(hypotheses, refs, strict=True) for reference in row]
    few = pairs[:SCORED_BY_THE_PACKAGE]
    ours, theirs = (kiwi_morphemes(texts) for texts in zip(*few, strict=True))
    with timed(f"{len(few):,} pairs: scores by the package rouge"):
        Rouge().get_scores(ours, theirs)

    for pair in PAIRS:
        finals(scorer.texts(["가.", "나."]), pair)  # compiles
    for count in CANDIDATES:
        agreement([write() for _ in range(count)])


if __name__ == "__main__":
    run_stage(main)
