"""The families of base models that are right here: one table, and what each needs that others do not.

A family is a transformers `model_type`, that of the text model: a multimodal wrapper stands in the row of the text
model that it holds, of which it is loaded, trained and exported. Each row is tested on a tiny random checkpoint against
transformers' own eager attention; what has no row is refused by name. To add one: a row here, and a checkpoint in
tests/models/test_families.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.params import show
from stages.models.quantizers import refuse_stored

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Family:
    """What is special about a family; a plain decoder of attention and MLP is none of it."""

    packed: bool = True
    """Whether rows can lie end to end in one sequence. A recurrent layer would carry its state from one row into the
    next (what keeps it from that is in packages that are not required), so such a model reads rows one by one."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """The implementation of transformers for rows that are padded or alone. Eager, where its own has no other, as with
    soft caps on scores and with attention sinks."""
    fused: bool = False
    """Whether its layers are attention and a gated MLP, each with a norm before and perhaps one after, and rotate
    halves of heads: `FusedLayer` can stand for them. Not for those of Gemma 4 that have experts or that hand on keys
    and values, see `stages.layers.layer_spec.stands_alone`."""
    wrappers: tuple[str, ...] = ()
    """Model types of multimodal models whose text part it is."""
    float16: bool = True
    """Whether it can compute in float16, whose largest number is 65,504. Of Gemma 3 270M what layers add up to reaches
    103,821 on the sample's dialogues, and its loss is no number then. vLLM refuses float16 to the same families but
    Gemma 4, whose training others saw fail in it (https://github.com/unslothai/unsloth/pull/5074)."""


FAMILIES: dict[str, Family] = {
    "llama": Family(fused=True),
    "mistral": Family(fused=True, wrappers=("mistral3",)),
    "qwen2": Family(fused=True),
    "qwen3": Family(fused=True),
    "gemma": Family(fused=True),
    "gemma2": Family(attention="eager", fused=True, float16=False),
    "gemma3_text": Family(fused=True, wrappers=("gemma3",), float16=False),
    "gemma4_text": Family(fused=True, wrappers=("gemma4",), float16=False),
    "gemma4_unified_text": Family(fused=True, wrappers=("gemma4_unified",), float16=False),
    "ministral": Family(),
    "ministral3": Family(wrappers=("mistral3",)),
    "exaone4": Family(),
    "hyperclovax": Family(),
    "gpt_neox": Family(),
    "phi3": Family(),
    "granite": Family(),
    "cohere": Family(),
    "cohere2": Family(),
    "olmo2": Family(),
    "olmo3": Family(),
    "glm4": Family(float16=False),
    "smollm3": Family(),
    "seed_oss": Family(),
    "gpt_oss": Family(attention="eager"),
    "lfm2": Family(packed=False),
    "qwen3_5_text": Family(packed=False, wrappers=("qwen3_5",)),
    "qwen3_next": Family(packed=False),
}

SCALED_LOGITS = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
"""Settings by which a model scales its logits after the output embedding; such a model computes them itself."""
VARYING_ROPE = ("dynamic", "longrope")
"""Kinds of rotary embedding that change for all rows of a batch with the longest one."""
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the names of classes end that have an output embedding."""
IN_A_WRAPPER = {r"^(model\.)?language_model\.(model\.)?(?!lm_head)": "model.", r"^language_model\.lm_head": "lm_head"}
"""The names of a text model's weights in a wrapper's checkpoint, of today's layout and of earlier ones."""


def family_of(config: PreTrainedConfig) -> Family:
    """The family of a loaded model."""
    return FAMILIES[config.get_text_config().model_type]


def reads_packed(config: PreTrainedConfig) -> bool:
    """Whether a model reads rows that lie end to end as it reads each of them alone."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    return family_of(text).packed and not any(kind.get("rope_type") in VARYING_ROPE for kind in kinds)


def scales_logits(config: PreTrainedConfig) -> bool:
    """Whether a model's logits are more than a product with its output embedding, and perhaps a soft cap on it."""
    text = config.get_text_config()
    return any(getattr(text, name, None) for name in SCALED_LOGITS)


def logit_softcap(config: PreTrainedConfig) -> float | None:
    """What a model's logits are kept below by a soft cap, if they are."""
    softcap: float | None = getattr(config.get_text_config(), "final_logit_softcapping", None)
    return softcap


def fused_families() -> list[str]:
    """The model types whose layers can be fused."""
    return [name for name, family in FAMILIES.items() if family.fused]


def refuse_unknown(folder: Path, where: str) -> None:
    """See by its config.json that a checkpoint is one that this repository trains.

    Args:
        where: the file and the setting that name the checkpoint, to begin the message with.

    Raises:
        UserError: it is of another family, cannot write, reads later tokens too, or its weights are quantized already.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{where}: the checkpoint has no config.json; name one in the layout of transformers")
    try:
        config: Any = read_json(folder / "config.json")
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{where}: its config.json is damaged, or no object in JSON; fetch the checkpoint again")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise UserError(f"{where}: its config.json has no model_type; {_allowed()}")
    if kind not in FAMILIES and not any(kind in family.wrappers for family in FAMILIES.values()):
        encodes = "an encoder-decoder, and " if config.get("is_encoder_decoder") else ""
        raise UserError(f"{where}: its model type {kind!r} is {encodes}not one that can be trained here; {_allowed()}")
    part = config.get("text_config") or {}
    if not isinstance(part, dict):
        raise UserError(f"{where}: text_config in its config.json is no object in JSON; fetch the checkpoint again")
    text = part.get("model_type")
    if text is not None and not any(text == name and kind in row.wrappers for name, row in FAMILIES.items()):
        raise UserError(
            f"{where}: its model type {kind!r} holds a {text!r}, which cannot be trained here; {_allowed()}"
        )
    given = config.get("architectures") or []
    classes = given if isinstance(given, list) else [given]
    if classes and not any(str(name).endswith(WRITERS) for name in classes):
        raise UserError(f"{where}: a {classes[0]} writes no text; name a checkpoint for causal language modelling")
    for key, value in (_ahead(config, kind) | _ahead(part, kind)).items():
        raise UserError(
            f"{where}: {key} = {show(value)} in its config.json: its tokens see later ones, which are not there yet "
            "when a text is written; name a checkpoint for causal language modelling"
        )
    refuse_stored(folder, where)


def text_config(folder: Path) -> tuple[PreTrainedConfig, bool]:
    """The configuration of a checkpoint's text model, and whether a wrapper's checkpoint holds it."""
    from transformers import AutoConfig  # of a second, which reading config.json need not wait for

    whole = AutoConfig.from_pretrained(folder)
    text: PreTrainedConfig = whole.get_text_config(decoder=True)
    if text is not whole:
        text.tie_word_embeddings = whole.tie_word_embeddings
    return text, text is not whole


def _ahead(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """The settings by which transformers lets the tokens of a text see later ones, and their values.

    The Gemmas read the first: a switch, but in Gemma 4 `all`, or `vision` for the tokens of an image. What makes the
    masks of all models reads the second, and takes null for a no.
    """
    both = config.get("use_bidirectional_attention")
    allowed = not both or (both == "vision" and kind.startswith("gemma4"))
    found = {} if allowed else {"use_bidirectional_attention": both}
    return found if config.get("is_causal", True) else found | {"is_causal": config["is_causal"]}


def _allowed() -> str:
    wrappers = (name for family in FAMILIES.values() for name in family.wrappers)
    return f"allowed: {', '.join(sorted({*FAMILIES, *wrappers}))}"
