from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.core.errors import UserError
from stages.core.params import flat, read_yaml
from stages.finishing import grid
from stages.finishing.grid import as_options, changed, combinations, experiment_name, read_grids
from tests.tiny_project import ROOT

PARAMS = read_yaml(ROOT / "params.yaml")


def test_examples() -> None:
    assert doctest.testmod(grid) == (0, 3)


def test_the_repositorys_own_grids_are_seven_runs_of_one_change_each() -> None:
    made = combinations(read_grids(ROOT / "sweep.yaml"), dict(flat(PARAMS)))
    assert [len(changes) for changes in made] == [1] * 7
    for changes in made:
        changed(PARAMS, changes, "sweep.yaml")


def test_a_change_stands_where_its_key_does_and_nothing_else_changes() -> None:
    made = changed(PARAMS, {"lora.r": 32, "augment.speaker_swap.n": "50%"}, "sweep.yaml")
    assert made != PARAMS
    made["lora"]["r"], made["augment"]["speaker_swap"]["n"] = 16, "12.5%"
    assert made == PARAMS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora.rank": 8}, "my.yaml: lora.rank: params.yaml has no such key"),
        ({"lora.r": 0}, "my.yaml: lora.r = 0: allowed: an integer from 1 to 1024"),
    ],
)
def test_a_change_that_is_not_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        changed(PARAMS, changes, "my.yaml")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: []\n", "grid = []: unknown key; allowed: grids"),
        ("grids: []\n", "grids = []: allowed: a list of mappings from keys of params.yaml to lists of values"),
        (
            "grids:\n  - lora.r: 32\n",
            'grids = [{"lora.r": 32}]: allowed: a list of mappings from keys of params.yaml to lists of values',
        ),
        (
            "grids:\n  - lora.r: []\n",
            'grids = [{"lora.r": []}]: allowed: a list of mappings from keys of params.yaml to lists of values',
        ),
    ],
)
def test_a_file_that_holds_no_grids(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_grids(tmp_path / "sweep.yaml")
    assert str(error.value) == f"{tmp_path / 'sweep.yaml'}: {message}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: not found; write the lists to try into it, or name another"):
        read_grids(tmp_path / "none.yaml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


TEXTS = ["50%", "12.5%", "a b", "it's", "data/raw", "", "null", "1", "가", "a\\'b", "[x]", "a=b", "true"]


@given(value=VALUES | st.sampled_from(TEXTS))
def test_dvc_reads_a_value_as_it_was_meant(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("hydra") / "params.yaml"
    path.write_text("lora:\n  r: 16\n", encoding="utf-8")
    apply_overrides(path, list(as_options({"lora.r": value}))[1::2])
    assert YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) == {"lora": {"r": value}}


def test_names_tell_what_changes_and_are_names_to_git() -> None:
    assert experiment_name({}, "0123456789") == "sweep-as-it-is-01234567"
    assert experiment_name({"lora.r": 32}, "0123456789") == "sweep-r-32-01234567"
    name = experiment_name({"train.learning_rate": 1e-4, "augment.speaker_swap.n": "50%", "a.list": [1, 2]}, "ab")
    assert name == "sweep-learning-rate-0-0001-n-50-list-1-2-ab"
