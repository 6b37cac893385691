from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import recipe
from stages.core.errors import UserError
from stages.core.params import Params, flat, load_params
from stages.recipe import SAMPLE, read_recipes, rewrite
from tests.tiny_project import ROOT

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text() -> str:
    return Path("params.yaml").read_text(encoding="utf-8")


def test_the_repository_holds_the_sample_recipe(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.main([SAMPLE])
    assert text() == PARAMS
    assert capsys.readouterr().out == "params.yaml: has all of recipe sample already\n"


@pytest.mark.parametrize("name", sorted(read_recipes(ROOT / "recipes")))
def test_every_recipe_can_be_written_and_taken_back(name: str, project: Path) -> None:
    recipe.main([name])
    values = dict(flat(load_params(Path("params.yaml")).model_dump()))
    assert {key: values[key] for key in read_recipes(project / "recipes")[name]} == read_recipes(project / "recipes")[
        name
    ]
    recipe.main([SAMPLE])
    assert text() == PARAMS


def test_every_key_of_a_recipe_has_a_value_of_the_sample() -> None:
    recipes = read_recipes(ROOT / "recipes")
    assert set().union(*recipes.values()) == set(recipes[SAMPLE])


def test_the_difference_is_shown_and_all_else_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(PARAMS.replace("seed: 42", "seed: 7"), encoding="utf-8")
    Path("recipes/mine.yaml").write_text("# Mine\nlora:\n  r: 64 # why\n", encoding="utf-8")
    recipe.main(["mine"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["-  r: 16", "+  r: 64"]
    assert text() == PARAMS.replace("seed: 42", "seed: 7").replace("  r: 16\n", "  r: 64\n")


def test_another_recipe_takes_back_what_the_first_had_set_and_keeps_the_users_own(project: Path) -> None:
    recipe.main(["fewshot_baseline"])
    own = text().replace("  alpha: 32\n", "  alpha: 8\n")
    assert own != text()
    Path("params.yaml").write_text(own, encoding="utf-8")
    Path("recipes/mine.yaml").write_text("# Mine\ntrain:\n  epochs: 5\n", encoding="utf-8")
    recipe.main(["mine"])
    assert text() == PARAMS.replace("  alpha: 32\n", "  alpha: 8\n").replace("  epochs: 2\n", "  epochs: 5\n")


def test_a_users_own_value_stays_though_another_recipe_has_it_too(project: Path) -> None:
    """Rank 32 and this learning rate are those of recipes for larger models, which nobody has written here."""
    own = PARAMS.replace("  r: 16\n", "  r: 32\n").replace("  learning_rate: 2.0e-4\n", "  learning_rate: 1.0e-4\n")
    Path("params.yaml").write_text(own, encoding="utf-8")
    recipe.main(["few_rows"])
    values = dict(flat(load_params(Path("params.yaml")).model_dump()))
    assert (values["lora.r"], values["train.learning_rate"]) == (32, 1e-4)
    assert values["folds.n"] == 3


def test_recipes_are_listed_with_what_they_are_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(read_recipes(ROOT / "recipes"))
    assert all(len(line) <= 160 for line in lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lora:\n  rank: 8\n", "recipes/mine.yaml: lora.rank: params.yaml has no such key"),
        ("lora:\n  r: 0\n", "recipes/mine.yaml: lora.r = 0: allowed: an integer from 1 to 1024"),
    ],
)
def test_a_recipe_that_is_wrong_changes_nothing(content: str, message: str, project: Path) -> None:
    Path("recipes/mine.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        recipe.main(["mine"])
    assert str(error.value) == message
    assert text() == PARAMS


def test_an_unknown_recipe(project: Path) -> None:
    with pytest.raises(UserError, match=r"^recipe nothing: not in recipes; allowed: competition_14b, .*sample$"):
        recipe.main(["nothing"])


def test_a_rewritten_file_is_valid_and_keeps_every_comment() -> None:
    after = rewrite(PARAMS, {"decoding.postprocess": ["thinking"], "train.eval_steps": 21})
    assert Params.model_validate(YAML(typ="safe", pure=True).load(after)).train.eval_steps == 21
    assert "  postprocess: [thinking]\n" in after
    assert "  eval_steps: 21 # of an epoch; a count is one of steps\n" in after
    assert after.count("#") == PARAMS.count("#")
