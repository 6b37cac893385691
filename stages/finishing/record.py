"""The record beside a submission: all that it follows from and what it scores on dev, as JSON and to read.

It holds no times, so that the same run has the same record, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core.files import sha256
from stages.core.params import Settings, show
from stages.scoring.metrics import compared
from stages.scoring.score_table import REFITTED, SPLITS

Record = dict[str, Any]
"""As record.json has it."""


def hashes(files: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of files, by their names; those that are not there are left out."""
    return {path.as_posix(): sha256(path) for path in files if path.is_file()}


def differences(committed: Settings, present: Settings) -> dict[str, list[Any]]:
    """The parameters that are not those of the commit, each with its value there and its value here.

    >>> differences({"lora.r": 16, "seed": 1}, {"lora.r": 32, "seed": 1, "new": 0})
    {'lora.r': [16, 32], 'new': [None, 0]}
    """
    keys = dict.fromkeys([*committed, *present])
    return {key: [committed.get(key), present.get(key)] for key in keys if committed.get(key) != present.get(key)}


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Of metrics/eval/scores.json: final scores with their 95% intervals, repeats and length, for each scored split.

    After a refit, which learned dev, each split says whose scores it has.
    """
    return {
        split: {
            **({"adapter": scores[REFITTED][split]} if scores.get(REFITTED) else {}),
            "final": {
                name: [scores[split][name][bound] for bound in ("final", "final_low", "final_high")]
                for name in compared()
                if name in scores[split]
            },
            "repeats": scores[split]["checks"]["repeats"],
            "length_ratio": scores[split]["length_ratio"],
        }
        for split in SPLITS
        if scores.get(split)
    }


def as_text(name: str, record: Record) -> str:
    """The record to read, in Markdown."""
    base = record["base"]
    version = base.get("commit") or base.get("sha256") or base.get("revision") or ""
    facts = {
        "commit": record["commit"],
        "changed since": ", ".join(record["changed"]) or "nothing",
        "base model": f"{base['name']} {version}".strip(),
        **{f"adapter {where}": digest for where, digest in record["adapters"].items()},
        "submission.csv": f"{record['submission']['rows']} rows, {record['submission']['sha256']}",
    }
    parameters = {key: f"{show(was)} → {show(now)}" for key, (was, now) in record["params_changed"].items()}
    sections = [
        f"# Submission {name}\n",
        _table(facts),
        "\n## Scores\n",
        _scores(record["scores"]),
        "\n## Parameters that are not the commit's\n",
        _table(parameters) if parameters else "None. params.yaml beside this file has all.",
        "\n## Files that it was made from, by SHA-256\n",
        _table(record["data"]),
    ]
    return "\n".join(sections) + "\n"


def _scores(scores: Mapping[str, Any]) -> str:
    if not scores:
        return "None: neither dev nor test has references."
    rows: dict[str, list[str]] = {}
    for measured in scores.values():
        for name, (final, low, high) in measured["final"].items():
            rows.setdefault(name, []).append(f"{final:.2f} [{low:.2f}, {high:.2f}]")
        if "adapter" in measured:
            rows.setdefault("summarised by", []).append(measured["adapter"])
        rows.setdefault("repeats", []).append(f"{measured['repeats']:.0f}%")
        rows.setdefault("length, for one of the references", []).append(f"x {measured['length_ratio']:.2f}")
    return _lines(["", *scores], [[name, *cells] for name, cells in rows.items()])


def _table(facts: Mapping[str, str]) -> str:
    return _lines(["", ""], list(facts.items()))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
