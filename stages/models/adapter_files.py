"""A LoRA adapter: the layers that get one, and its files, which repeat byte for byte."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from stages.core.errors import UserError
from stages.core.files import write_json

WEIGHTS = "adapter_model.safetensors"


def target_modules(chosen: str | list[str], model: PreTrainedModel) -> str | list[str]:
    """The layers that get an adapter, as PEFT takes them: any linear ones but the output embedding, which stays frozen.

    Raises:
        UserError: the model has no such layer of that name.
    """
    if chosen == "all-linear":
        return chosen
    names = [chosen] if isinstance(chosen, str) else chosen
    linear = _linear(model)
    for name in names:
        if not any(f".{path}".endswith(f".{name}") for path in linear):
            raise UserError(
                f"params.yaml: lora.target_modules = {name!r}: the model has no such linear layer; "
                f"allowed: all-linear, {_names(linear)}"
            )
    return names


def rank_pattern(chosen: Mapping[str, int], targets: str | list[str], model: PreTrainedModel) -> dict[str, int]:
    """The ranks of layers that get another than `lora.r`, as PEFT takes them: of two that match, the first.

    Args:
        chosen: ranks by a layer's name, or a regular expression for the end of its path.
        targets: what `target_modules` gave.

    Raises:
        UserError: a name is no regular expression, or matches no layer that gets an adapter, or only
            layers that a name before it matches.
    """
    layers = _linear(model)
    if targets != "all-linear":
        layers = [path for path in layers if any(f".{path}".endswith(f".{name}") for name in targets)]
    left = set(layers)
    for name in chosen:
        try:
            matches = {path for path in layers if re.match(rf"(.*\.)?({name})$", path)}
        except re.error as error:
            raise UserError(f"params.yaml: lora.rank_pattern = {name!r}: not a regular expression ({error})") from None
        if not matches:
            raise UserError(
                f"params.yaml: lora.rank_pattern = {name!r}: no layer of that name gets an adapter; "
                f"allowed: {_names(layers)}"
            )
        if matches.isdisjoint(left):
            raise UserError(
                f"params.yaml: lora.rank_pattern = {name!r}: a name before it takes its layers; put it first"
            )
        left -= matches
    return dict(chosen)


def _linear(model: PreTrainedModel) -> list[str]:
    """The paths of all linear layers but the output embedding."""
    head = model.get_output_embeddings()
    modules = [(path, module) for path, module in model.named_modules() if module is not head]
    return [path for path, module in modules if isinstance(module, torch.nn.Linear)]


def _names(paths: list[str]) -> str:
    return ", ".join(sorted({path.rpartition(".")[2] for path in paths}))


def save_adapter(model: PeftModel, folder: Path, base: str) -> None:
    """Write `adapter_model.safetensors` and a sorted `adapter_config.json` that names the base model as `base`.

    PEFT's own `save_pretrained` writes the target modules in the order of a set and the base model's path on this
    machine, so two equal trainings would differ.
    """
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(model)
    save_file(
        {name: weights[name].contiguous().cpu() for name in sorted(weights)},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    config: dict[str, Any] = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base, "inference_mode": True}
    write_json(folder / "adapter_config.json", {key: _plain(config[key]) for key in sorted(config)})


def load_weights(model: PeftModel, folder: Path) -> None:
    """Give a model's adapter, which is of the same layers and ranks, the weights that `save_adapter` wrote."""
    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else getattr(value, "value", value)
