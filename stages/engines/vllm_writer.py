"""Writes with vLLM, on the merged model that `python -m stages.export` leaves in models/merged.

    pip install -e '.[vllm]'

vLLM needs a GPU and brings its own torch, so it is an extra, and the tests run this module against a stand-in with the
signatures of vLLM's `LLM.generate` and `LLM.beam_search`. Settings that vLLM has not, such as lengths relative to the
dialogue, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.params import SEARCHED, Decoding, show
from stages.engines.batches import Limits, Tell
from stages.engines.chains import SAMPLED_FROM
from stages.engines.settings import DecodingSettings, active
from stages.engines.writer import Sampling
from stages.models.prompt import PromptBuilder

ROWS = 512
"""Dialogues given at once. vLLM makes batches of its own; in ours a killed run loses what was under way."""


BEAMS = {"num_beams", "length_penalty"}
WITHOUT_BEAMS = {"repetition_penalty"}
"""The settings that vLLM has, by how it searches."""


class VllmWriter:
    """Writes with a merged model that vLLM holds.

    Raises:
        UserError: vLLM is not installed, or there is no merged model.
    """

    def __init__(self, folder: Path, builder: PromptBuilder) -> None:
        try:
            import vllm
        except ImportError:
            raise UserError(
                "params.yaml: decoding.engine = 'vllm': vLLM is not installed; run `pip install -e '.[vllm]'`"
            ) from None
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: no merged model; run `python -m stages.export`")
        self.vllm = vllm
        self.builder = builder
        self.engine: Any = vllm.LLM(model=str(folder), seed=0, enable_prefix_caching=True)

    def prepare(self, dialogues: Sequence[str]) -> list[int]:
        return [len(self.builder.prompt_ids(dialogue)) for dialogue in dialogues]

    def limits(self, decoding: Decoding) -> Limits:
        return Limits(ROWS)

    def write(self, dialogues: Sequence[str], settings: DecodingSettings, limits: Limits, tell: Tell) -> list[str]:
        candidates = self.candidates(dialogues, settings)
        tell(len(dialogues))
        return [texts[0] for texts in candidates]

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        _refuse_what_vllm_has_not(settings)
        searched = self._beams(dialogues, settings) if settings.num_beams > 1 else self._generate(dialogues, settings)
        drawn = self._sample(dialogues, settings, sampling) if sampling else [[] for _ in dialogues]
        return [[*best, *more] for best, more in zip(searched, drawn, strict=True)]

    def samples(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling, limits: Limits
    ) -> list[list[str]]:
        _refuse_what_vllm_has_not(settings)
        return self._sample(dialogues, settings, sampling)

    def _sample(self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling) -> list[list[str]]:
        return self._generate(
            dialogues,
            settings,
            n=sampling.count,
            temperature=sampling.temperature,
            top_k=SAMPLED_FROM,
            seed=sampling.seed,
        )

    def _generate(self, dialogues: Sequence[str], settings: DecodingSettings, **how: Any) -> list[list[str]]:
        params = self.vllm.SamplingParams(
            **{"temperature": 0.0, **how},
            max_tokens=settings.max_new_tokens,
            repetition_penalty=settings.repetition_penalty,
            stop_token_ids=[self.builder.stop_id],
        )
        outputs = self.engine.generate(self._prompts(dialogues), params, use_tqdm=False)
        return [[self.builder.summary(completion.token_ids) for completion in output.outputs] for output in outputs]

    def _beams(self, dialogues: Sequence[str], settings: DecodingSettings) -> list[list[str]]:
        params = self.vllm.BeamSearchParams(
            beam_width=settings.num_beams,
            max_tokens=settings.max_new_tokens,
            length_penalty=settings.length_penalty,
        )
        prompts = self._prompts(dialogues)
        outputs = self.engine.beam_search(prompts, params)
        # A sequence begins with its prompt.
        return [
            [self.builder.summary(sequence.tokens[len(prompt["prompt_token_ids"]) :]) for sequence in output.sequences]
            for prompt, output in zip(prompts, outputs, strict=True)
        ]

    def _prompts(self, dialogues: Sequence[str]) -> list[dict[str, list[int]]]:
        return [{"prompt_token_ids": self.builder.prompt_ids(dialogue)} for dialogue in dialogues]


def _refuse_what_vllm_has_not(settings: DecodingSettings) -> None:
    obeyed, search = (BEAMS, "beam search") if settings.num_beams > 1 else (WITHOUT_BEAMS, "greedy search")
    for name, value in active(settings).items():
        if name not in obeyed:
            raise UserError(
                f"metrics/eval/decoding.json: {name} = {show(value)}: vLLM's {search} has no such setting; "
                f"set decoding.engine: transformers, or tune_{name}: [{show(SEARCHED[name])}]"
            )
