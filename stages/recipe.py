"""Write a recipe's settings into params.yaml, and show what changed.

    python -m stages.recipe                 # the recipes that there are
    python -m stages.recipe fewshot_baseline

A recipe, recipes/NAME.yaml, holds just the keys that it wants otherwise, each with its reason. Comments and other
changes of params.yaml stay. What an earlier recipe has set and this one does not mention goes back to the sample's.
"""

from __future__ import annotations

import argparse
import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from stages.core.errors import UserError, run_stage
from stages.core.files import write_text
from stages.core.params import Params, Settings, flat, place_of, read_yaml, validate

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")
SAMPLE = "sample"
"""The recipe with every key that any other sets, at the values that fit the sample."""


def changes(present: Settings, recipe: Settings, others: Sequence[Settings], sample: Settings) -> Settings:
    """What a recipe makes of the present values: its own, and the sample's where another recipe's still stands.

    >>> changes({"a": 2, "b": 9}, {}, [{"a": 2, "b": 3}], {"a": 1, "b": 1})
    {'a': 1}
    """
    back = {
        key: sample[key]
        for other in others
        if stands(present, other, sample)
        for key, value in other.items()
        if key in sample and present.get(key) == value
    }
    return {key: value for key, value in (back | recipe).items() if present.get(key) != value}


def stands(present: Settings, recipe: Settings, sample: Settings) -> bool:
    """Whether a recipe was written, by half of what it has otherwise than the sample; of less, a user set it by hand.

    >>> stands({"a": 2, "b": 1, "c": 1}, {"a": 2, "b": 3, "c": 4}, {"a": 1, "b": 1, "c": 1})
    False
    """
    own = [key for key, value in recipe.items() if sample.get(key) != value]
    return 2 * len([key for key in own if present.get(key) == recipe[key]]) >= len(own)


def read_recipes(folder: Path) -> dict[str, Settings]:
    """All recipes by name."""
    return {path.stem: dict(flat(read_yaml(path))) for path in sorted(folder.glob("*.yaml"))}


def rewrite(text: str, settings: Settings) -> str:
    """A YAML text with other values at some of its keys; all else stays as it is.

    Raises:
        KeyError: there is no such key.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    values = yaml.load(text)
    for dotted, value in settings.items():
        section, key = place_of(values, dotted)
        if key not in section:
            raise KeyError(dotted)
        section[key] = _as_written(value)
        comment = section.ca.items.get(key, [None] * 3)[2]
        if comment:
            comment.start_mark.column = 0  # one space after the value, however long it is
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def _as_written(value: Any) -> Any:
    """A value as params.yaml has its kind: a list on one line, a small number such as 2.0e-4."""
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return YAML().load(np.format_float_scientific(value, trim="0", exp_digits=1))
    if not isinstance(value, list):
        return value
    row = CommentedSeq(value)
    row.fa.set_flow_style()
    return row


def title(path: Path) -> str:
    """What a recipe is for: its first line, a comment."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def apply(name: str, recipes: Mapping[str, Settings]) -> str:
    """Write a recipe into params.yaml.

    Returns:
        The difference, as lines that begin with - and +; empty where there is none.

    Raises:
        UserError: there is no such recipe, or it holds a key or value that params.yaml may not have.
    """
    if name not in recipes:
        raise UserError(f"recipe {name}: not in {RECIPES}; allowed: {', '.join(recipes)}")
    before = PARAMS.read_text(encoding="utf-8")
    others = [settings for other, settings in recipes.items() if other != name]
    wanted = changes(dict(flat(read_yaml(PARAMS))), recipes[name], others, recipes[SAMPLE])
    try:
        after = rewrite(before, wanted)
    except KeyError as error:
        raise UserError(f"{RECIPES / name}.yaml: {error.args[0]}: params.yaml has no such key") from None
    validate(Params, YAML(typ="safe", pure=True).load(after), f"{RECIPES / name}.yaml: ")
    write_text(PARAMS, after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(PARAMS), str(PARAMS), lineterm="", n=0)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.recipe", description="Write a recipe into params.yaml.")
    parser.add_argument("name", nargs="?", help="a file of recipes/, without its ending; none lists them")
    name = parser.parse_args(arguments).name
    recipes = read_recipes(RECIPES)
    if name is None:
        print("\n".join(f"{each:28} {title(RECIPES / f'{each}.yaml')}" for each in recipes))
        return
    difference = apply(name, recipes)
    print(difference or f"{PARAMS}: has all of recipe {name} already")


if __name__ == "__main__":
    run_stage(main)
