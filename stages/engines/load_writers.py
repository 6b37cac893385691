"""What writes summaries in a run: models/adapter, the adapters of an ensemble, or vLLM on the merged model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.core import paths
from stages.core.errors import UserError
from stages.core.params import Decoding, Quantization
from stages.engines.prepacked_linear import pack_linears
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Writer
from stages.layers.fused_layer import fuse_to_read
from stages.models.families import family_of
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer


def load_writer(quantization: Quantization, *, merge: bool) -> TransformersWriter:
    """The base model with models/adapter, and the prompt that this adapter was trained with.

    Args:
        merge: on a CPU, add the adapter to the weights and prepack these, a quarter faster; nothing
            but generating can then be done with the model.
    """
    model = load_for_generation(paths.MANIFEST, paths.ADAPTER, quantization)
    if family_of(model.config).fused:
        fuse_to_read(model)
    if merge and model.device.type == "cpu":
        model.merge_adapter()
        pack_linears(model)
    return TransformersWriter(model, PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER)))


def load_writers(decoding: Decoding, quantization: Quantization, ensemble: Sequence[Path]) -> list[Writer]:
    """What `infer` writes with, models/adapter first; adapters share one base model.

    Raises:
        UserError: the parameters do not go together, or the engine is not there.
    """
    if decoding.rerank == "none" and ensemble:
        raise UserError("params.yaml: decoding.ensemble: needs decoding.rerank: mbr, which chooses among the adapters")
    if decoding.engine == "vllm":
        # vLLM is an extra, and only this engine needs it.
        from stages.engines.vllm_writer import VllmWriter

        if ensemble:
            raise UserError("params.yaml: decoding.ensemble: needs decoding.engine: transformers")
        return [
            VllmWriter(
                paths.MERGED_MODEL, PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
            )
        ]
    first = load_writer(quantization, merge=not ensemble)
    writers: list[Writer] = [first]
    if ensemble:
        first.adapter = "default"
        for number, folder in enumerate(ensemble):
            first.model.load_adapter(folder, f"ensemble{number}", autocast_adapter_dtype=False)
            builder = PromptBuilder(first.builder.tokenizer, PromptSettings.load(folder))
            writers.append(TransformersWriter(first.model, builder, f"ensemble{number}"))
        first.model.eval()
    return writers
