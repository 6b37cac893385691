from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedModel, set_seed

from stages.core.errors import UserError
from stages.core.params import Quantization
from stages.models.adapter_files import rank_pattern, save_adapter, target_modules
from stages.models.load import load_base
from tests.tiny_project import ROOT

NF4 = Quantization(load_in_4bit=True, type="nf4", double_quant=True, compute_dtype="auto", compute="bf16")


def adapted(manifest: Path, modules: str | list[str] = "all-linear") -> PeftModel:
    """The tiny model with an adapter that already does something."""
    set_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(load_base(manifest, NF4), config)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        computed: torch.Tensor = model.eval()(input_ids=torch.arange(3, 43)[None].to(model.device)).logits
    return computed


def test_peft_loads_what_was_saved(tiny_manifest: Path, tmp_path: Path) -> None:
    model = adapted(tiny_manifest)
    save_adapter(model, tmp_path, "tiny")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    loaded = PeftModel.from_pretrained(load_base(tiny_manifest, NF4), tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.equal(logits(loaded), logits(load_base(tiny_manifest, NF4)))


def test_only_the_adapter_is_saved(tiny_manifest: Path, tmp_path: Path) -> None:
    save_adapter(adapted(tiny_manifest, ["q_proj", "v_proj"]), tmp_path, "tiny")
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert sorted(weights) == [
        f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{side}.weight"
        for layer in range(2)
        for module in ("q_proj", "v_proj")
        for side in "AB"
    ]


def test_the_configuration_is_sorted_and_names_no_folder(tiny_manifest: Path, tmp_path: Path) -> None:
    save_adapter(adapted(tiny_manifest), tmp_path, "google/tiny")
    text = (tmp_path / "adapter_config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert list(config) == sorted(config)
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == "google/tiny"
    assert (config["r"], config["lora_alpha"], config["peft_type"], config["task_type"]) == (4, 8, "LORA", "CAUSAL_LM")
    assert config["inference_mode"] is True
    folders = {str(Path.home()), str(ROOT), str(tmp_path), str(tiny_manifest.parent)}
    assert not [folder for folder in folders if folder in text]


def test_another_hash_seed_gives_the_same_bytes(tiny_manifest: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.models.test_adapter_files import adapted, save_adapter\n"
        "save_adapter(adapted(Path(sys.argv[1])), Path(sys.argv[2]), 'tiny')\n"
    )
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    save_adapter(adapted(tiny_manifest), here, "tiny")
    subprocess.run(
        [sys.executable, "-c", script, str(tiny_manifest), str(there)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
        check=True,
    )
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (here / name).read_bytes() == (there / name).read_bytes()


@pytest.mark.parametrize(
    ("chosen", "layers"),
    [("all-linear", 14), ("q_proj", 2), (["q_proj", "mlp.down_proj"], 4), (["layers.1.self_attn.v_proj"], 1)],
)
def test_target_modules(chosen: str | list[str], layers: int, tiny_manifest: Path, tmp_path: Path) -> None:
    model = load_base(tiny_manifest, NF4)
    save_adapter(adapted(tiny_manifest, target_modules(chosen, model)), tmp_path, "tiny")
    assert len(load_file(tmp_path / "adapter_model.safetensors")) == 2 * layers


@pytest.mark.parametrize("chosen", ["qproj", ["q_proj", "qproj"]])
def test_a_target_module_that_the_model_lacks(chosen: str | list[str], tiny_manifest: Path) -> None:
    with pytest.raises(UserError) as error:
        target_modules(chosen, load_base(tiny_manifest, NF4))
    assert str(error.value) == (
        "params.yaml: lora.target_modules = 'qproj': the model has no such linear layer; allowed: all-linear, "
        "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )


@pytest.mark.parametrize("chosen", [{}, {"q_proj": 2}, {r"layers\.1\.mlp\..*": 8}, {"1.self_attn.v_proj": 3}])
def test_a_rank_pattern_that_matches(chosen: dict[str, int], tiny_manifest: Path) -> None:
    assert rank_pattern(chosen, "all-linear", load_base(tiny_manifest, NF4)) == chosen


@pytest.mark.parametrize(
    ("chosen", "targets", "said"),
    [
        ({"q_proj": 2, "qproj": 4}, "all-linear", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"),
        ({"qproj": 4, "mlp": 4}, ["q_proj"], "q_proj"),
        ({"lm_head": 4}, "all-linear", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"),
        ({"up_proj": 4}, ["q_proj", "v_proj"], "q_proj, v_proj"),
    ],
)
def test_a_rank_pattern_that_matches_nothing(
    chosen: dict[str, int], targets: str | list[str], said: str, tiny_manifest: Path
) -> None:
    wrong = next(name for name in chosen if name != "q_proj")
    with pytest.raises(UserError) as error:
        rank_pattern(chosen, targets, load_base(tiny_manifest, NF4))
    assert str(error.value) == (
        f"params.yaml: lora.rank_pattern = {wrong!r}: no layer of that name gets an adapter; allowed: {said}"
    )


def test_a_rank_pattern_that_another_leaves_nothing_to(tiny_manifest: Path) -> None:
    base = load_base(tiny_manifest, NF4)
    with pytest.raises(UserError) as error:
        rank_pattern({"q_proj": 2, "layers.0.self_attn.q_proj": 4}, "all-linear", base)
    assert str(error.value) == (
        "params.yaml: lora.rank_pattern = 'layers.0.self_attn.q_proj': a name before it takes its layers; put it first"
    )
    chosen = {"layers.0.self_attn.q_proj": 4, "q_proj": 2}
    assert rank_pattern(chosen, "all-linear", base) == chosen


def test_a_rank_pattern_that_is_no_regular_expression(tiny_manifest: Path) -> None:
    with pytest.raises(UserError) as error:
        rank_pattern({"q_proj(": 2}, "all-linear", load_base(tiny_manifest, NF4))
    assert str(error.value).startswith("params.yaml: lora.rank_pattern = 'q_proj(': not a regular expression (")
