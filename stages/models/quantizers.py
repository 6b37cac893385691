"""How a frozen base is held in memory: one table, and what each way needs. `quantization.type` names a row.

To add one: a row here, its name in `stages.core.params.Quantization.type` and, where it has a linear layer of its own,
a row in `stages.layers.quantized_linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.params import Quantization, show

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Quantizer:
    """A way to hold weights.

    Attributes:
        config: what transformers quantizes by while it loads, made of the settings and the compute dtype.
        library: the package that does it; work that was begun with another version of it is begun anew.
    """

    config: Callable[[Quantization, torch.dtype], Any]
    library: str | None = None


def _bitsandbytes(settings: Quantization, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig  # of a second, which reading config.json need not wait for

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.type,
        bnb_4bit_use_double_quant=settings.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


QUANTIZERS: dict[str, Quantizer] = {
    "none": Quantizer(lambda settings, dtype: None),
    "nf4": Quantizer(_bitsandbytes, "bitsandbytes"),
    "fp4": Quantizer(_bitsandbytes, "bitsandbytes"),
}

LIBRARIES = tuple(sorted({each.library for each in QUANTIZERS.values() if each.library}))
"""The packages of all of them."""


def quantizer(settings: Quantization) -> Quantizer:
    """The row that the settings name: `none` where the base is held in the compute dtype."""
    return QUANTIZERS[settings.type if settings.load_in_4bit else "none"]


def quantizes(settings: Quantization) -> bool:
    """Whether weights are held in fewer bits than they are computed in."""
    return quantizer(settings) is not QUANTIZERS["none"]


OWN_FILES = {"hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files in which quantizers, above all earlier versions of them, say what they did where config.json does not."""


def stored(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of weights that are quantized already; empty where they are not."""
    config: dict[str, Any] = read_json(folder / "config.json")
    for part in (config, config.get("text_config") or {}):
        for key in ("quantization_config", "compression_config", "quantization"):  # the last is MLX's
            if found := part.get(key):
                return dict(found) if isinstance(found, dict) else {"quant_method": str(found)}
    return next(({"quant_method": method} for name, method in OWN_FILES.items() if (folder / name).is_file()), {})


def refuse_stored(folder: Path, where: str) -> None:
    """Refuse a checkpoint whose weights are quantized already, but for those of bitsandbytes in 4 bits.

    Args:
        where: the file and the setting that name the checkpoint, to begin the message with.

    Raises:
        UserError: it is.
    """
    found = stored(folder)
    if found and not found.get("load_in_4bit"):
        method = "bitsandbytes, 8 bits" if found.get("load_in_8bit") else found.get("quant_method", "unknown")
        raise UserError(
            f"{where}: its weights are quantized already ({method}); name the checkpoint that they were made from, "
            "which quantization.load_in_4bit quantizes when it is loaded"
        )


def refuse_other_settings(folder: Path, settings: Quantization, name: str) -> None:
    """See that a checkpoint whose weights are stored in 4 bits is to be held as it is stored.

    Raises:
        UserError: the settings ask for something else.
    """
    found = stored(folder)
    if not found:
        return
    as_stored = {
        "load_in_4bit": True,
        "type": found.get("bnb_4bit_quant_type", "fp4"),
        "double_quant": found.get("bnb_4bit_use_double_quant", False),
    }
    for key, value in as_stored.items():
        given = getattr(settings, key)
        if given != value:
            raise UserError(
                f"params.yaml: quantization.{key} = {show(given)}: the weights of {name} are stored in 4 bits; set "
                f"{show(value)}, or name the checkpoint that they were made from in models.yaml"
            )
