"""CONTRIBUTING.md names, for each kind of change, files that exist, and few enough of them."""

from __future__ import annotations

import re

import pytest

from tests.clone import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
KINDS = (
    "a kind of cleaning rule",
    "a base-model family",
    "a prompt style",
    "a decoding setting with its search",
    "a metric",
    "a quantiser",
    "an objective after training",
    "an LLM client",
)
FILES = dict(re.findall(r"^\| (an? [^|`]+) \| (`[^|]+) \|$", TEXT, re.MULTILINE))


def test_each_kind_of_change_has_its_files() -> None:
    assert tuple(FILES) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_change_touches_at_most_three_files_and_all_exist(kind: str) -> None:
    named = re.findall(r"`([^`]+)`", FILES[kind])
    assert 1 <= len(named) <= 3
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_other_path_exists_too() -> None:
    named = {name for name in re.findall(r"`((?:stages|tests|data)/[\w./]*)`", TEXT) if "NAME" not in name}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_layers_are_those_of_the_import_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\nlayers = [\n")[1].split("]")[0]
    layers = [set(re.findall(r"\w+", line)) for line in contract.strip().splitlines()]
    rows = TEXT.split("| packages of `stages/` |")[1].split("\n\n")[0].splitlines()[2:]
    assert [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in rows] == layers
