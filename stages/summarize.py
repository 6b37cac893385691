"""Summarize dialogues of your own, with the adapter, the prompt and the decoding settings of the last run.

    python -m stages.summarize < dialogue.txt               one dialogue, from standard input
    python -m stages.summarize dialogue.txt                 or from a file
    python -m stages.summarize table.csv > summaries.csv    a table with the columns fname and dialogue

Each turn begins with `#Person1#:`, `#Person2#:` and so on. On a terminal one summary appears as it is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError, run_stage
from stages.core.params import load_params
from stages.corpus.tables import read_table
from stages.serving.summarizer import Summarizer


def read_dialogue(path: Path | None) -> str:
    """One dialogue as text, from a file or from standard input.

    Raises:
        UserError: there is no such file, or it is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
        return data.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a text file or a CSV table") from None
    except UnicodeDecodeError:
        raise UserError(f"{path or 'standard input'}: not UTF-8; save it as UTF-8") from None


def print_one(summarizer: Summarizer, dialogue: str) -> None:
    """Print a summary on one line; a terminal shows it as it grows."""
    shown = ""

    def show(text: str) -> None:
        nonlocal shown
        print(text[len(shown) :], end="", flush=True)
        shown = text

    if not sys.stdout.isatty():
        print(summarizer.stream(dialogue, lambda _: None))
        return
    summary = summarizer.stream(dialogue, show)
    # What a rule took back stays on the screen; the summary follows on a line of its own.
    print(summary[len(shown) :] if summary.startswith(shown) else f"\n{summary}")


def print_table(summarizer: Summarizer, path: Path) -> None:
    """Print a CSV with the columns fname and summary, a row for each dialogue of a table."""
    table = read_table(path, "test")
    rows = zip(table["fname"], table["dialogue"], strict=True)
    dialogues = [summarizer.clean(text, f"{path}: row {fname}") for fname, text in rows]
    frame = pd.DataFrame({"fname": table["fname"], "summary": summarizer.all(dialogues)})
    frame.to_csv(sys.stdout, index=False, lineterminator="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Summarize dialogues with the adapter of the last run.")
    parser.add_argument("path", type=Path, nargs="?", help="a text file with one dialogue, or a CSV; default: stdin")
    path = parser.parse_args().path
    summarizer = Summarizer.load(load_params())
    if path is not None and path.suffix.lower() == ".csv":
        print_table(summarizer, path)
    else:
        print_one(summarizer, summarizer.clean(read_dialogue(path), str(path or "standard input")))


if __name__ == "__main__":
    run_stage(main)
