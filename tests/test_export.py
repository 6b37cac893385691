from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from stages import export, fetch_model, infer, train
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import remove, write_json
from stages.core.params import load_params
from stages.corpus.tables import read_table
from stages.decoding.postprocess import process
from stages.engines.settings import DecodingSettings
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.serving.merge_adapter import save_merged
from stages.serving.summarize import summarize
from tests.tiny_project import ROOT, build_project, configure

MERGED = Path("models/merged")
FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "prompt.json",
    "tokenizer.json",
    "tokenizer_config.json",
]

Trained = Callable[..., Path]
"""A folder with a project in which an adapter is trained with these `lora` settings; each is trained once."""


@pytest.fixture(scope="module")
def trained(tiny_checkpoint: Path, tiny_chat_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folders: dict[str, Path] = {}

    def run(**lora: Any) -> Path:
        if str(lora) not in folders:
            folder = folders[str(lora)] = tmp_path_factory.mktemp("trained")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.delenv("DVC_ROOT", raising=False)
                build_project({"plain": tiny_checkpoint, "chat": tiny_chat_checkpoint})
                configure(lora=lora, train={"epochs": 3, "preview_samples": 0})
                train.main()
        return folders[str(lora)]

    return run


@pytest.fixture
def project(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a trained adapter."""
    return enter(trained(), tmp_path, monkeypatch)


def enter(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(folder, copy)
    monkeypatch.chdir(copy)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return copy


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def summaries(model: PreTrainedModel, settings: DecodingSettings) -> list[str]:
    """What a model writes for the dialogues of dev."""
    builder = PromptBuilder(AutoTokenizer.from_pretrained(MERGED), PromptSettings.load(MERGED))
    dialogues = read_table(paths.DEV, "dev")["dialogue"].tolist()
    return summarize(model, builder, dialogues, settings, batch_size=1, label="test")


def unquantized() -> PreTrainedModel:
    """The base in bfloat16, with the adapter beside it."""
    quantization = load_params().quantization
    wanted = quantization.model_copy(update={"load_in_4bit": False, "compute_dtype": "bfloat16"})
    return load_for_generation(paths.MANIFEST, paths.ADAPTER, wanted)


@pytest.mark.parametrize(
    "lora", [{}, {"use_rslora": True, "rank_pattern": {"q_proj": 4}}, {"use_dora": True}], ids=["plain", "rs", "dora"]
)
def test_the_export_writes_the_same_summaries_without_peft(
    lora: dict[str, Any],
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = enter(trained(**lora), tmp_path, monkeypatch)
    capsys.readouterr()
    export.main(["--samples", "3"])
    printed = capsys.readouterr().out
    found = re.fullmatch(
        r"base and adapter  (\d+) of (\d+) tokens the same, 3 of 3 summaries; largest logit difference 0\.0\d\d\n"
        r"predictions       not compared: `dvc repro` writes data/predictions/dev\.csv\n",
        printed,
    )
    assert found, printed
    assert found[1] == found[2]
    assert sorted(contents(MERGED)) == FILES

    merged = AutoModelForCausalLM.from_pretrained(MERGED).eval()
    assert merged.dtype is torch.bfloat16
    assert not any("lora" in name for name, _ in merged.named_modules())
    settings = DecodingSettings(max_new_tokens=8)
    assert summaries(merged, settings) == summaries(unquantized(), settings)
    # Nothing of this machine is in it.
    places = [str(place).encode() for place in (project, Path.home(), ROOT)]
    assert not [name for name, content in contents(MERGED).items() for place in places if place in content]


def test_generate_alone_does_as_the_predictions(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = DecodingSettings(max_new_tokens=6, num_beams=2, length_penalty=0.7, repetition_penalty=1.1)
    write_json(paths.DECODING, {"chosen": asdict(settings)})
    infer.main()
    export.main([])
    merged = AutoModelForCausalLM.from_pretrained(MERGED).eval()
    tokenizer = AutoTokenizer.from_pretrained(MERGED)
    builder = PromptBuilder(tokenizer, PromptSettings.load(MERGED))
    dialogue = read_table(paths.DEV, "dev")["dialogue"][1]
    ids = torch.tensor([builder.prompt_ids(dialogue)])
    text = tokenizer.decode(merged.generate(ids)[0, ids.shape[1] :], skip_special_tokens=True)
    written = summaries(merged, settings)
    assert process(text) == written[1]

    predicted = pd.read_csv((paths.DEV_PREDICTIONS), keep_default_na=False)["summary"].tolist()
    same = sum(map(str.__eq__, predicted, written))
    assert f"predictions       {same} of 5 summaries the same\n" in capsys.readouterr().out


def test_a_second_export_replaces_the_first_with_the_same_bytes(project: Path) -> None:
    export.main(["--samples", "1", "--output", "exports/small"])
    first = contents(Path("exports/small"))
    export.main(["--samples", "1", "--output", "exports/small"])
    assert contents(Path("exports/small")) == first
    assert not MERGED.exists()


def test_an_export_without_the_adapter_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "fold", lambda model: model.unload())
    with pytest.raises(UserError) as error:
        export.main([])
    assert re.fullmatch(
        r"models/merged: not written: the export and models/adapter agree on \d+ of \d+ tokens, below 90%; "
        r"use models/adapter with its base instead",
        str(error.value),
    )
    assert sorted(path.name for path in Path("models").glob("*merged*")) == []


@pytest.mark.parametrize("part", ["fold", "agreement", "report"])
def test_an_interruption_leaves_the_earlier_export(part: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export.main(["--samples", "1"])
    before = contents(MERGED)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, part, interrupt)
    with pytest.raises(KeyboardInterrupt):
        export.main(["--samples", "1"])
    assert contents(MERGED) == before
    assert [path.name for path in Path("models").glob("*merged*")] == ["merged"]


def test_an_adapter_that_is_not_finite(project: Path) -> None:
    path = paths.ADAPTER / "adapter_model.safetensors"
    weights = load_file(path)
    weights[next(iter(weights))][0, 0] = torch.nan
    save_file(weights, path)
    with pytest.raises(UserError, match=r"^models/adapter: .* lower train\.learning_rate and run `dvc repro train`$"):
        export.main(["--samples", "1"])
    assert not MERGED.exists()


def test_before_training(project: Path) -> None:
    remove(paths.ADAPTER)
    with pytest.raises(UserError) as error:
        export.main([])
    assert str(error.value) == "models/adapter/adapter_config.json: not found; run `dvc repro train`"


def test_after_the_base_model_changed(project: Path) -> None:
    configure(model={"name": "chat"})
    fetch_model.main()
    with pytest.raises(UserError) as error:
        export.main([])
    assert str(error.value) == "models/adapter: trained on plain, and models/base.json is chat; run `dvc repro train`"


def test_the_exported_chat_template_keeps_the_date(tiny_chat_checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat_checkpoint)
    tokenizer.chat_template = "오늘은 {{ strftime_now('%Y년 %-m월 %d일') }}\n" + tokenizer.chat_template
    builder = PromptBuilder(tokenizer, PromptSettings("chat", "요약", 200, None, (), "2025-03-01"))
    model = AutoModelForCausalLM.from_pretrained(tiny_chat_checkpoint)
    save_merged(model, builder, DecodingSettings(max_new_tokens=8), tmp_path / "merged")
    messages = [{"role": "user", "content": "요약\n\n#Person1#: 안녕"}]
    exported = AutoTokenizer.from_pretrained(tmp_path / "merged")
    text = exported.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text.startswith("오늘은 2025년 3월 01일\n<|user|>")
    assert text == tokenizer.decode(builder.prompt_ids("#Person1#: 안녕"))
    assert builder.tokenizer.chat_template.startswith("오늘은 {{ strftime_now")


@pytest.mark.parametrize("output", ["models", ".", "models/adapter", "models/weights/plain", "params.yaml"])
def test_nothing_but_an_earlier_export_is_replaced(output: str, project: Path) -> None:
    with pytest.raises(UserError) as error:
        export.main(["--output", output])
    assert str(error.value) == f"--output {output}: is there and no earlier export; name a new folder"
    assert (paths.ADAPTER / "adapter_config.json").is_file()


def test_no_samples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export.main(["--samples", "0"])
    assert capsys.readouterr().err.endswith("argument --samples: 0: allowed: an integer of at least 1\n")
