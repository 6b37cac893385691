"""What a sweep tries: the settings of a file of grids, each as the changes that it makes to params.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.core.errors import UserError
from stages.core.params import Params, Section, Settings, flat, place_of, read_yaml, validate


class Sweep(Section):
    """A file of grids."""

    grids: Annotated[
        list[Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]],
        Field(min_length=1, description="a list of mappings from keys of params.yaml to lists of values"),
    ]
    """Each is tried in all combinations of its values, while all else is as params.yaml has it."""


def read_grids(path: Path) -> list[dict[str, list[Any]]]:
    """The grids of a file.

    Raises:
        UserError: it is missing, or not in this form.
    """
    if not path.is_file():
        raise UserError(f"{path}: not found; write the lists to try into it, or name another file with --grids")
    return validate(Sweep, read_yaml(path), f"{path}: ").grids


def combinations(grids: Sequence[Mapping[str, Sequence[Any]]], present: Settings) -> list[Settings]:
    """The changes to the present values that the grids ask for, each once, in their order; nothing changed is none.

    >>> combinations([{"a": [1, 2]}, {"a": [2, 3], "b": [0]}], {"a": 1, "b": 5})
    [{'a': 2}, {'a': 2, 'b': 0}, {'a': 3, 'b': 0}]
    """
    found: list[Settings] = []
    for grid in grids:
        for values in product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            changes = {key: value for key, value in settings.items() if key not in present or present[key] != value}
            if changes and changes not in found:
                found.append(changes)
    return found


def changed(values: Mapping[str, Any], changes: Settings, where: str) -> dict[str, Any]:
    """The values of params.yaml with changes, checked as if they stood there.

    Args:
        where: what the changes are from, for the error.

    Raises:
        UserError: there is no such key, or its value is not allowed.
    """
    made = deepcopy(dict(values))
    known = dict(flat(values))
    for dotted, value in changes.items():
        if dotted not in known:
            raise UserError(f"{where}: {dotted}: params.yaml has no such key")
        section, key = place_of(made, dotted)
        section[key] = value
    validate(Params, made, f"{where}: ")
    return made


def nested(settings: Settings) -> dict[str, Any]:
    """Values by dotted key as the sections of a YAML file.

    >>> nested({"lora.r": 8, "lora.alpha": 16, "seed": 1})
    {'lora': {'r': 8, 'alpha': 16}, 'seed': 1}
    """
    made: dict[str, Any] = {}
    for dotted, value in settings.items():
        *sections, key = dotted.split(".")
        section = made
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return made


def described(changes: Settings) -> str:
    """Changes in a few words; `as it is` where there are none.

    >>> described({"lora.r": 32, "augment.speaker_swap.n": "50%"})
    'lora.r=32 augment.speaker_swap.n=50%'
    """
    return " ".join(f"{key}={_text(value)}" for key, value in changes.items()) or "as it is"


def experiment_name(changes: Settings, digest: str) -> str:
    """What DVC and Git call the experiment: in a word what it changes, and what tells it from any other."""
    words = [f"{key.rsplit('.', 1)[-1]}-{_text(value)}" for key, value in changes.items()] or ["as-it-is"]
    word = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(words))[:40].strip("-")
    return f"sweep-{word}-{digest[:8]}"


def as_options(changes: Settings) -> Iterator[str]:
    """The changes as options of `dvc exp run`."""
    for key, value in changes.items():
        yield from ("-S", f"{key}={_for_hydra(value)}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _for_hydra(value: Any) -> str:
    """A value as Hydra's grammar of overrides reads it (https://hydra.cc/docs/advanced/override_grammar/basic)."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return f"[{','.join(map(_for_hydra, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_for_hydra(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)
