"""What writes summaries in a run: models/adapter, the adapters of an ensemble, or vLLM on the merged model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stages.core import paths
from stages.core.params import Decoding, Quantization
from stages.engines.prepacked_linear import pack_linears
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Writer
from stages.layers.fused_layer import fuse_to_read
from stages.models.families import family_of
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer


def load_writer(quantization: Quantization, *, merge: bool, adapter: Path = paths.ADAPTER) -> TransformersWriter:
    """The base model with an adapter, and the prompt that this adapter was trained with.

    Args:
        merge: on a CPU, add the adapter to the weights and prepack these, a quarter faster; nothing
            but generating can then be done with the model.
    """
    model = load_for_generation(paths.MANIFEST, adapter, quantization)
    if family_of(model.config).fused:
        fuse_to_read(model)
    if merge and model.device.type == "cpu":
        model.merge_adapter()
        pack_linears(model)
    return TransformersWriter(model, PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(adapter)))


def load_ensemble(
    quantization: Quantization, adapters: Sequence[Path], prompts: Sequence[str] = ()
) -> list[TransformersWriter]:
    """A writer for each adapter, in their order, on one base model; then all once more with each further instruction.

    Args:
        adapters: at least one.
        prompts: instructions, in place of the one that an adapter was trained with.
    """
    first, *others = adapters
    writers = [load_writer(quantization, merge=not others, adapter=first)]
    model = writers[0].model
    if others:
        writers[0].adapter = "default"
        for number, folder in enumerate(others):
            model.load_adapter(folder, f"ensemble{number}", autocast_adapter_dtype=False)
            builder = PromptBuilder(writers[0].builder.tokenizer, PromptSettings.load(folder))
            writers.append(TransformersWriter(model, builder, f"ensemble{number}"))
        model.eval()
    return [*writers, *(_instructed(writer, prompt) for prompt in prompts for writer in writers)]


def load_writers(
    decoding: Decoding, quantization: Quantization, ensemble: Sequence[Path], adapter: Path = paths.ADAPTER
) -> list[Writer]:
    """What `infer` writes with, `adapter` first.

    Raises:
        UserError: the engine is not there.
    """
    if decoding.engine == "vllm":
        # vLLM is an extra, and only this engine needs it.
        from stages.engines.vllm_writer import VllmWriter

        return [
            VllmWriter(
                paths.MERGED_MODEL, PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
            )
        ]
    return [*load_ensemble(quantization, [adapter, *ensemble], decoding.prompts)]


def _instructed(writer: TransformersWriter, instruction: str) -> TransformersWriter:
    settings = replace(writer.builder.settings, instruction=instruction)
    return TransformersWriter(writer.model, PromptBuilder(writer.builder.tokenizer, settings), writer.adapter)
