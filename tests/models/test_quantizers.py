"""Checkpoints that are quantized already: used as they are stored, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import bitsandbytes as bnb
import pytest
import torch

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.params import Quantization
from stages.models.families import refuse_unknown
from stages.models.load import load_base
from stages.models.quantizers import LIBRARIES, QUANTIZERS, quantizes


def quantization(**values: Any) -> Quantization:
    defaults = {"load_in_4bit": True, "type": "nf4", "double_quant": True, "compute_dtype": "float32"}
    return Quantization.model_validate({**defaults, "compute": "bf16", **values})


@pytest.fixture(scope="module")
def four_bits(tiny_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a checkpoint that bitsandbytes has quantized, in bfloat16 otherwise."""
    folder = tmp_path_factory.mktemp("four_bits")
    load_base(tiny_manifest, quantization(compute_dtype="bfloat16")).save_pretrained(folder / "checkpoint")
    write_json(folder / "base.json", {"name": "small", "source": "local", "path": str(folder / "checkpoint")})
    return folder / "base.json"


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        computed: torch.Tensor = model.eval()(input_ids=torch.arange(3, 23)[None]).logits
    return computed


def test_each_type_of_the_parameters_has_a_row() -> None:
    assert {*get_args(Quantization.model_fields["type"].annotation), "none"} == set(QUANTIZERS)
    assert LIBRARIES == ("bitsandbytes",)
    assert [quantizes(quantization(load_in_4bit=four_bits)) for four_bits in (True, False)] == [True, False]


def test_a_checkpoint_in_4_bits_is_used_as_it_is_stored(four_bits: Path, tiny_manifest: Path) -> None:
    refuse_unknown(four_bits.parent / "checkpoint", "models.yaml: small")
    model = load_base(four_bits, quantization())
    assert isinstance(model.model.layers[0].mlp.up_proj, bnb.nn.Linear4bit)
    expected = logits(load_base(tiny_manifest, quantization()))
    assert expected.dtype == torch.float32
    torch.testing.assert_close(logits(model), expected, rtol=2e-2, atol=2e-2)
    assert torch.equal(logits(model.dequantize()), logits(load_base(four_bits, quantization())))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"load_in_4bit": False}, ("load_in_4bit = false", "true")),
        ({"type": "fp4"}, ('type = "fp4"', '"nf4"')),
        ({"double_quant": False}, ("double_quant = false", "true")),
    ],
)
def test_other_settings_than_a_checkpoint_in_4_bits_has(
    values: dict[str, Any], message: tuple[str, str], four_bits: Path
) -> None:
    with pytest.raises(UserError) as error:
        load_base(four_bits, quantization(**values))
    assert str(error.value) == (
        f"params.yaml: quantization.{message[0]}: the weights of small are stored in 4 bits; set {message[1]}, or name "
        "the checkpoint that they were made from in models.yaml"
    )


@pytest.mark.parametrize("place", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("method", ["fp8", "awq", "gptq", "compressed-tensors", "mxfp4"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_other_ways_are_refused(method: str, place: str, wrapped: bool, tmp_path: Path) -> None:
    config: dict[str, Any] = {"model_type": "llama", place: {"quant_method": method}}
    if wrapped:
        config = {"model_type": "gemma3", "text_config": {place: {"quant_method": method}}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError) as error:
        refuse_unknown(tmp_path, "models.yaml: small")
    assert str(error.value) == (
        f"models.yaml: small: its weights are quantized already ({method}); name the checkpoint that they were made "
        "from, which quantization.load_in_4bit quantizes when it is loaded"
    )


@pytest.mark.parametrize(
    ("file", "method"),
    [("hf_quant_config.json", "modelopt"), ("quantize_config.json", "gptq"), ("quant_config.json", "awq")],
)
def test_what_only_a_quantizers_own_file_tells_is_refused(file: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    refuse_unknown(tmp_path, "models.yaml: small")
    (tmp_path / file).write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^models\.yaml: small: its weights are quantized already \({method}\); "):
        refuse_unknown(tmp_path, "models.yaml: small")


@pytest.mark.parametrize(
    ("found", "method"), [({"quantization": {"bits": 4}}, "unknown"), ({"quantization_config": "awq"}, "awq")]
)
def test_other_forms_are_refused(found: dict[str, Any], method: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | found), encoding="utf-8")
    with pytest.raises(UserError, match=rf"its weights are quantized already \({method}\); "):
        refuse_unknown(tmp_path, "models.yaml: small")


def test_8_bits_of_bitsandbytes_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "llama", "quantization_config": {"load_in_8bit": True, "load_in_4bit": False}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"^models\.yaml: small: .* \(bitsandbytes, 8 bits\); name the checkpoint "):
        refuse_unknown(tmp_path, "models.yaml: small")
