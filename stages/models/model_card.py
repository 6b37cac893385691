"""The README.md beside an adapter, as the Hub reads it: what it was trained on and how, and how to load it.

It repeats byte for byte with the adapter: no dates, no timings, no paths of this machine.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCardData
from ruamel.yaml import YAML

HUB_LICENCES = {"apache-2.0", "mit", "gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "cc-by-nc-4.0"}
"""Those of base models that the Hub knows by name (https://huggingface.co/docs/hub/repositories-licenses)."""

USAGE = """\
from pathlib import Path

from stages.engines.settings import DecodingSettings
from stages.serving.summarize import summarize
from stages.models.load import load_for_generation
from stages.models.tokenizer import load_tokenizer
from stages.core.params import load_params
from stages.models.prompt import PromptBuilder, PromptSettings

adapter, base = Path("models/adapter"), Path("models/base.json")
model = load_for_generation(base, adapter, load_params().quantization)
builder = PromptBuilder(load_tokenizer(base), PromptSettings.load(adapter))
dialogue = "#Person1#: 우산 가져왔어?\\n#Person2#: 아니, 비 온다는 말을 못 들었어."
print(summarize(model, builder, [dialogue], DecodingSettings(max_new_tokens=96), batch_size=1, label="summary")[0])
"""


@dataclass(frozen=True)
class Training:
    """What a training read, and how it ended."""

    rows: dict[str, int]
    """Training rows by source: original, paraphrase, speaker_swap, synthetic."""
    ending: str
    """How it ended: at which step, and how good that was, in a sentence."""
    parameters: dict[str, Any]
    """The sections of params.yaml that shape the adapter."""


def model_card(base: dict[str, Any], training: Training) -> str:
    """The text of README.md.

    Args:
        base: the base model's manifest, models/base.json.
    """
    return f"""\
---
{metadata(base)}
---

# A LoRA adapter that summarizes Korean dialogues

It turns an everyday dialogue, given as lines `#Person1#: ...`, into a summary of one or two Korean sentences.

- Base model: {_base(base)}, licence {base["licence"]}, which is the adapter's too.
- {training.ending}

## Use

The adapter stands on its own base model and reads the prompt in `prompt.json`. In the repository that trained it:

```python
{USAGE}```

`python -m stages.export` folds the adapter into its base, for transformers without PEFT and for vLLM.

## Training data

| source | rows |
|---|---|
{_table(training.rows)}

## Parameters

```yaml
{_yaml(training.parameters)}```
"""


def metadata(base: dict[str, Any]) -> str:
    """The card's YAML front matter. A base model in a folder is on no Hub, and is not named as if it were."""
    known = base["licence"] in HUB_LICENCES
    data = ModelCardData(
        base_model=base.get("repo"),
        language="ko",
        library_name="peft",
        license=base["licence"] if known else "other",
        license_name=None if known else base["licence"],
        pipeline_tag="text-generation",
        tags=["dialogue", "korean", "lora", "summarization"],
    )
    text: str = data.to_yaml()
    return text


def _base(base: dict[str, Any]) -> str:
    """The base model's name and, where a commit or a checksum tells it, its exact version."""
    name = f"[{base['repo']}](https://huggingface.co/{base['repo']})" if "repo" in base else base["name"]
    if "commit" in base:
        return f"{name} at commit `{base['commit']}`"
    if "sha256" in base:
        return f"{name}, `{base['file']}` with SHA-256 `{base['sha256']}`"
    return name


def _yaml(values: dict[str, Any]) -> str:
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000  # a long instruction stays one line
    yaml.dump(values, stream)
    return stream.getvalue()


def _table(rows: dict[str, int]) -> str:
    return "\n".join(f"| {source} | {rows[source]} |" for source in sorted(rows)) + f"\n| all | {sum(rows.values())} |"
