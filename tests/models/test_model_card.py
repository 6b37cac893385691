from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from ruamel.yaml import YAML

from stages import train
from stages.core import paths
from stages.core.params import Params, load_params
from stages.models.model_card import Training, model_card
from tests.tiny_project import configure

PACKAGE = {
    "name": "gemma3-270m", "licence": "gemma", "source": "package", "repo": "owner/gemma", "revision": "main",
    "file": "gemma.gguf", "sha256": "ab" * 32,
}  # fmt: skip
HUB = {
    "name": "exaone-7b", "licence": "exaone", "source": "hub", "repo": "owner/exaone", "revision": "main",
    "commit": "c0ffee",
}  # fmt: skip
LOCAL = {"name": "mine", "licence": "mit", "source": "local", "path": "/home/someone/weights"}
ENDING = "Best step: 48, with a loss of 1.8799 on 16 dev dialogues."
TRAINING = Training({"speaker_swap": 16, "original": 64}, ENDING, {"lora": {"r": 16}})


@pytest.mark.parametrize(
    ("base", "licence", "line"),
    [
        (
            PACKAGE,
            {"base_model": "owner/gemma", "license": "gemma"},
            f"[owner/gemma](https://huggingface.co/owner/gemma), `gemma.gguf` with SHA-256 `{'ab' * 32}`, "
            "licence gemma, which is the adapter's too.",
        ),
        (
            HUB,
            {"base_model": "owner/exaone", "license": "other", "license_name": "exaone"},
            "[owner/exaone](https://huggingface.co/owner/exaone) at commit `c0ffee`, licence exaone, which is the "
            "adapter's too.",
        ),
        (LOCAL, {"license": "mit"}, "mine, licence mit, which is the adapter's too."),
    ],
)
def test_the_base_model_and_its_licence(base: dict[str, Any], licence: dict[str, str], line: str) -> None:
    card = ModelCard(model_card(base, TRAINING))
    assert card.data.to_dict() == {  # type: ignore[no-untyped-call]
        **licence,
        "language": "ko",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["dialogue", "korean", "lora", "summarization"],
    }
    assert f"- Base model: {line}\n" in card.text
    assert "/home/someone" not in card.text


def test_what_it_was_trained_on_and_how_it_ended() -> None:
    text = model_card(PACKAGE, TRAINING)
    assert "- Best step: 48, with a loss of 1.8799 on 16 dev dialogues.\n" in text
    assert "| original | 64 |\n| speaker_swap | 16 |\n| all | 80 |\n" in text
    assert "```yaml\nlora:\n  r: 16\n```\n" in text


def test_the_card_of_a_training(tiny_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(prompt={"few_shot": 1}, train={"epochs": 1, "preview_samples": 0})
    train.main()
    text = (paths.ADAPTER / "README.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL))

    params = load_params()
    shown = YAML(typ="safe", pure=True).load(blocks["yaml"])
    # What auto stood for decides the adapter.
    assert (shown["train"]["gradient_lanes"], params.train.gradient_lanes) == (1, "auto")
    shown["train"]["gradient_lanes"] = "auto"
    for silent in ("gpus", "preview_samples", "preview_max_new_tokens", "save_total_limit"):
        assert silent not in shown["train"]
        shown["train"][silent] = getattr(params.train, silent)
    assert Params.model_validate(params.model_dump() | shown) == params
    assert list(shown) == ["seed", "quantization", "prompt", "lora", "train"]
    rows = {source: int(n) for source, n in re.findall(r"^\| (\w+) \| (\d+) \|$", text, re.MULTILINE)}
    # One row is a few-shot example, held out with its copy if it has one.
    assert rows["original"] == 11
    assert rows["all"] == rows["original"] + rows["speaker_swap"]

    capsys.readouterr()
    exec(blocks["python"], {})
    (summary,) = capsys.readouterr().out.splitlines()
    assert summary
