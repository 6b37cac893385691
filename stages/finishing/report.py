"""What a sweep came to, as text: its table in Markdown, and the winner as a recipe."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from stages.core.params import Settings
from stages.finishing.grid import described, nested
from stages.finishing.winner import Line, choosing, telling


def verdict(line: Line) -> str:
    """What the settings gain over the run without changes, on the half of dev that chose nothing."""
    if line.gain is None:
        return "none, as it changes nothing"
    between = line.gain.interval
    certainty = "real" if line.gain.is_real else "may be chance"
    return f"{between.mean:+.2f} [{between.low:+.2f}, {between.high:+.2f}], p {line.gain.p:.4f}: {certainty}"


def as_table(lines: Sequence[Line], chosen: Line, objective: str, failed: Sequence[str]) -> str:
    """The page: what was chosen and why, and a line for each run.

    Args:
        failed: the names of experiments that have no scores.
    """
    scores = lines[0].run.scores
    as_good = [line for line in lines if line.is_as_good]
    text = [
        f"# A sweep of {len(lines)} settings",
        "",
        f"Scores are by `{objective}`, from 0 to 100. {len(choosing(scores))} rows of dev chose; the other "
        f"{len(telling(scores))} chose nothing and tell the gain, with a 95% interval of paired differences.",
        "",
        f"Chosen: **{described(chosen.run.changes)}**. Its gain: {verdict(chosen)}.",
    ]
    if len(as_good) > 1:
        text.append(
            f"{len(as_good)} settings are within one standard error of the best on the half that chooses. Of these, "
            "fewer repeats and a length near the references' were preferred; where these are alike, params.yaml as it "
            "is, else the one that trains on the fewest rows."
        )
    text += [
        "",
        "| settings | rows trained | half that chooses | other half | gain there | repeats | length | |",
        "|---|---:|---:|---:|---|---:|---:|---|",
        *(_row(line, is_chosen=line is chosen) for line in lines),
    ]
    if failed:
        text += ["", f"Failed: {', '.join(failed)}. `dvc queue logs NAME` says why; the next sweep tries them again."]
    return "\n".join(text) + "\n"


def _row(line: Line, *, is_chosen: bool) -> str:
    gain = verdict(line) if line.gain else ""
    note = "chosen" if is_chosen else "as good as the best" if line.is_as_good else ""
    return (
        f"| {described(line.run.changes)} | {line.run.rows_trained:,} | {line.choosing:.2f} | {line.telling:.2f} "
        f"| {gain} | {line.run.repeats:.0f}% | {line.run.length_ratio:.2f} | {note} |"
    )


def as_recipe(chosen: Line, tried: Mapping[str, Sequence[Any]], others: Settings, runs: int, objective: str) -> str:
    """The winner as a file of recipes/: each key that was tried, and what else is otherwise than in the sample.

    Args:
        tried: the values of each key, the present one first.
        others: values of further keys that a recipe sets; without them, those of the sample would be written back.
    """
    values = {key: chosen.run.changes.get(key, present) for key, (present, *_) in tried.items()}
    sections = _commented(nested(others | values), {key: _list(each) for key, each in tried.items()})
    file = io.StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump(sections, file)
    return (
        f"# Chosen by `make sweep` among {runs} settings; gain by {objective} on dev's other half: "
        f"{verdict(chosen)}\n\n{file.getvalue()}"
    )


def _list(values: Sequence[Any]) -> str:
    return f"tried: {', '.join(' '.join(str(value).split()) for value in values)}"


def _commented(section: Mapping[str, Any], comments: Mapping[str, str], parent: str = "") -> CommentedMap:
    made = CommentedMap()
    for key, value in section.items():
        dotted = f"{parent}{key}"
        if isinstance(value, Mapping) and value:
            made[key] = _commented(value, comments, f"{dotted}.")
        else:
            made[key] = value
        if dotted in comments:
            made.yaml_add_eol_comment(comments[dotted], key, column=0)
    return made
