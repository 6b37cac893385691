from __future__ import annotations

import csv
import json
import logging
import random
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stages import fetch_model, train
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, remove
from stages.core.fingerprint import stage_sources
from stages.core.params import load_params
from stages.core.shared_folder import in_use
from stages.corpus.tables import read_table, references
from stages.engines.settings import DecodingSettings
from stages.models.load import load_for_generation
from stages.models.prompt import Example, PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.serving.summarize import summarize
from stages.training import session
from stages.training.checkpoints import run_folder
from stages.training.data import prompt_settings, read_training_data, without_examples
from stages.training.processes import ALONE
from stages.training.schedule import duration
from stages.training.tracking import Speedometer
from tests.tiny_project import ROOT, configure, copy_of_the_code, end, kill, start_stage

CHECKPOINTS = Path("models/checkpoints")


class Killed(Exception):
    """Stands for the end of the process."""


def die_after_step(step: int) -> type[Speedometer]:
    """A callback that ends training after a step, before its evaluation and checkpoint."""

    class Dying(Speedometer):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            super().on_step_end(*args, **kwargs)
            if args[1].global_step == step:
                raise Killed

    return Dying


def outputs() -> dict[str, bytes]:
    """Every file that the stage declares as an output."""
    files = [
        path for folder in (paths.ADAPTER, paths.TRAINING_LOG) for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    return {str(path): path.read_bytes() for path in files}


def curve(name: str) -> dict[int, float]:
    """A curve's values by step."""
    with Path(f"models/training/plots/metrics/{name}.tsv").open(encoding="utf-8") as file:
        return {int(row["step"]): float(row[name.split("/")[1]]) for row in csv.DictReader(file, delimiter="\t")}


def metrics() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path("models/training/metrics.json").read_text(encoding="utf-8"))
    return read


def die(*args: object) -> None:
    raise Killed


def interrupted(monkeypatch: pytest.MonkeyPatch, name: str, replacement: object) -> None:
    """Train with a part of the stage replaced by one that fails."""
    with monkeypatch.context() as patch:
        patch.setattr(session if name == "Speedometer" else train, name, replacement)
        with pytest.raises(Killed):
            train.main()
    assert not paths.ADAPTER.exists()


Uninterrupted = Callable[[str], dict[str, bytes]]
"""The outputs of a training with the present settings, which have this name; trained once for all tests."""


@pytest.fixture(scope="module")
def uninterrupted() -> Uninterrupted:
    @cache
    def run(name: str) -> dict[str, bytes]:
        train.main()
        whole = outputs()
        remove(paths.ADAPTER)
        remove(paths.TRAINING_LOG)
        remove(paths.SPEED)
        return whole

    return run


@pytest.fixture
def overfitting(tiny_project: Path) -> None:
    """Settings with which the loss on dev soon rises again, so that training stops early."""
    configure(
        train={
            "learning_rate": 0.1, "epochs": 8, "eval_steps": 1, "early_stopping_patience": 3, "save_total_limit": 1,
            "preview_samples": 1,
        }
    )  # fmt: skip


def test_a_training_from_its_tables_to_its_adapter(tiny_project: Path) -> None:
    train.main()
    # 14 rows in batches of 4, twice: 8 steps, evaluated at every second.
    steps, evaluations = list(range(1, 9)), [2, 4, 6, 8]
    plots = ["train/loss", "train/grad_norm", "train/learning_rate"]
    scores = ["eval/rouge1", "eval/rouge2", "eval/rougeL", "eval/final"]
    assert sorted(outputs()) == sorted(
        [
            "models/adapter/README.md",
            "models/adapter/adapter_config.json",
            "models/adapter/adapter_model.safetensors",
            "models/adapter/prompt.json",
            "models/training/machine.json",
            "models/training/metrics.json",
            *(f"models/training/plots/metrics/{name}.tsv" for name in [*plots, *scores, "eval/loss"]),
            *(f"models/training/previews/step_{step:06d}.md" for step in evaluations),
        ]
    )
    assert {name: list(curve(name)) for name in plots} == dict.fromkeys(plots, steps)
    assert {name: list(curve(name)) for name in scores} == dict.fromkeys(scores, evaluations)
    loss = curve("eval/loss")
    assert list(loss) == evaluations
    assert loss[8] < loss[6] < loss[4] < loss[2]
    assert sum(list(curve("train/loss").values())[4:]) < sum(list(curve("train/loss").values())[:4])

    written = metrics()
    assert written["best"] == {"step": 8, "eval_loss": loss[8]}
    assert (written["rows"], written["step"]) == (14, 8)
    assert sorted(json.loads(paths.SPEED.read_text(encoding="utf-8"))) == [
        "matrix_rate_tflops",
        "peak_memory_gib",
        "seconds_per_step",
        "share_of_matrix_rate",
        "tokens_per_second",
    ]
    assert PromptSettings.load(paths.ADAPTER) == PromptSettings(
        "plain", load_params().prompt.instruction, 1024, None, ()
    )
    preview = Path("models/training/previews/step_000008.md").read_text(encoding="utf-8")
    dev = read_table(paths.DEV, "dev")
    assert [line for line in preview.splitlines() if line.startswith("## ")] == [
        f"## {dev['fname'][0]}",
        f"## {dev['fname'][2]}",
    ]
    # Nothing is left of the checkpoints, nor of this machine.
    assert list(CHECKPOINTS.iterdir()) == []
    places = [str(place).encode() for place in (tiny_project, Path.home(), ROOT)]
    assert not [name for name, content in outputs().items() for place in places if place in content]


def test_what_training_promises_at_a_given_speed(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two passes over the training rows, four over dev at a third of the time a token, and four previews."""
    data = read_training_data(load_params(), read_json(paths.MANIFEST))
    tokens, dev_tokens = (sum(map(len, rows)) for rows in (data.rows, data.dev_rows))
    monkeypatch.setattr(session, "measure", lambda trainer, rows, preview: (100.0, 15.0, 3 * 2**29))
    with caplog.at_level(logging.INFO):
        interrupted(monkeypatch, "train_from", die)
    promised = duration(2 * tokens / 100 + 4 * dev_tokens / 300 + 60)
    assert [message for message in caplog.messages if message.startswith("Training: ")] == [
        "Training: 14 rows in batches of 4, 2 epochs: 8 steps, evaluated and saved every 2 (4 times; stops after 2 "
        f"without a better loss); about {promised} and 1.5 GiB"
    ]


def test_the_learning_rate_rises_and_then_falls_as_a_cosine(tiny_project: Path) -> None:
    configure(train={"warmup_ratio": 0.25, "learning_rate": 0.004, "preview_samples": 0})
    train.main()
    rates = list(curve("train/learning_rate").values())
    expected = [0, 0.002, 0.004, 0.0037321, 0.003, 0.002, 0.001, 0.0002679]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_only_the_adapter_is_trained(tiny_project: Path) -> None:
    configure(train={"epochs": 1, "preview_samples": 0})
    before = {path.name: path.read_bytes() for path in Path("models/weights/plain").iterdir()}
    train.main()
    assert {path.name: path.read_bytes() for path in Path("models/weights/plain").iterdir()} == before
    weights = load_file(paths.ADAPTER / "adapter_model.safetensors")
    assert len(weights) == 28
    assert all(".lora_A." in name or ".lora_B." in name for name in weights)
    assert all(weight.any() for weight in weights.values())


def test_the_adapter_writes_what_the_preview_of_the_best_step_shows(overfitting: None) -> None:
    # In float32, as the 4-bit model of the preview rounds otherwise than the one that generates.
    configure(quantization={"load_in_4bit": False, "compute_dtype": "float32"}, train={"preview_samples": 2})
    train.main()
    params, dev = load_params(), read_table(paths.DEV, "dev")
    best = metrics()["best"]["step"]
    assert best < metrics()["step"]
    summaries = summarize(
        load_for_generation(paths.MANIFEST, paths.ADAPTER, params.quantization),
        PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER)),
        [dev["dialogue"][0], dev["dialogue"][2]],
        DecodingSettings(params.decoding.max_new_tokens),
        batch_size=1,
        label="test",
    )
    previews = [Path(f"models/training/previews/step_{step:06d}.md").read_text("utf-8") for step in (best, best + 1)]
    shown = [[line for line in text.splitlines() if line.startswith("- ")][::2] for text in previews]
    assert shown[0] == [f"- {summary}" for summary in summaries]
    assert shown[0] != shown[1]


@pytest.mark.parametrize("steps", [[1], [8], [3, 7]])
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    steps: list[int],
    tiny_project: Path,
    uninterrupted: Uninterrupted,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(lora={"dropout": 0.2})
    whole = uninterrupted("dropout")
    for step in steps:
        interrupted(monkeypatch, "Speedometer", die_after_step(step))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train.main()
    assert outputs() == whole
    assert list(CHECKPOINTS.iterdir()) == []
    last = (steps[-1] - 1) // 2 * 2
    said = [message for message in caplog.messages if message.startswith("Going on")]
    assert said == ([f"Going on from checkpoint-{last} of an interrupted training"] if last else [])


@pytest.mark.parametrize("epochs", [2, 1.4])
def test_interrupted_before_the_adapter_is_written(
    epochs: float,
    tiny_project: Path,
    uninterrupted: Uninterrupted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(train={"epochs": epochs}, lora={"dropout": 0.2})
    whole = uninterrupted("dropout" if epochs == 2 else "some epochs")
    interrupted(monkeypatch, "write_adapter", die)
    train.main()
    assert outputs() == whole
    # No step was left to time.
    assert not paths.SPEED.exists()


def test_of_two_processes_with_one_training_the_second_finds_it_done(
    tiny_project: Path, uninterrupted: Uninterrupted, caplog: pytest.LogCaptureFixture
) -> None:
    configure(lora={"dropout": 0.2})
    whole = uninterrupted("dropout")
    inputs = [paths.MERGED, paths.DEV, paths.MANIFEST, *stage_sources("train")]
    run = run_folder(session.decisive(session.with_lanes(load_params(), ALONE)), inputs)
    with in_use(run):  # as the second does while it waits
        train.main()
    remove(paths.ADAPTER)
    remove(paths.TRAINING_LOG)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train.main()
    assert "Going on from checkpoint-8 of an interrupted training" in caplog.messages
    assert outputs() == whole
    assert list(CHECKPOINTS.iterdir()) == []


def test_training_stops_early_and_keeps_the_best_step(overfitting: None) -> None:
    train.main()
    loss = curve("eval/loss")
    best = min(loss, key=lambda step: loss[step])
    assert max(loss) == best + 3 < 32
    assert loss[max(loss)] > loss[best] + 0.01
    assert metrics()["best"] == {"step": best, "eval_loss": loss[best]}
    assert evaluation_loss() == pytest.approx(loss[best], abs=5e-3)


def evaluation_loss() -> float:
    """The loss on dev of the adapter in models/adapter."""
    model = load_for_generation(paths.MANIFEST, paths.ADAPTER, load_params().quantization)
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
    dev = read_table(paths.DEV, "dev")
    losses = []
    for dialogue, refs in zip(dev["dialogue"], references(dev), strict=True):
        prompt, completion = builder.prompt_ids(dialogue), builder.completion_ids(refs[0])
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].float()
        losses.append(torch.nn.functional.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(completion)).item())
    return sum(losses) / len(losses)


def test_early_stopping_counts_on_after_an_interruption(
    overfitting: None, uninterrupted: Uninterrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted("overfitting")
    last = json.loads(whole["models/training/metrics.json"])["step"]
    interrupted(monkeypatch, "Speedometer", die_after_step(last))
    train.main()
    assert outputs() == whole


@pytest.mark.parametrize("limit", [1, 2])
def test_interrupted_after_an_early_stop(
    limit: int, overfitting: None, uninterrupted: Uninterrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a limit of 1 the best checkpoint alone is left at the end, with one of 2 also the last.
    whole = uninterrupted("overfitting")
    configure(train={"save_total_limit": limit})
    interrupted(monkeypatch, "write_adapter", die)
    train.main()
    assert outputs() == whole


def test_a_training_with_other_settings_starts_anew(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(monkeypatch, "Speedometer", die_after_step(3))
    changes: list[dict[str, Any]] = [{"lora": {"r": 8}}, {"prompt": {"max_tokens": 900}}, {"train": {"epochs": 3}}]
    for change in changes:
        configure(**change)
        with caplog.at_level(logging.INFO):
            interrupted(monkeypatch, "Speedometer", die_after_step(1))
    assert not [message for message in caplog.messages if message.startswith("Going on")]


def test_a_training_goes_on_whatever_changed_about_decoding_and_never_with_other_code(
    tiny_project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = copy_of_the_code(tmp_path_factory.mktemp("code"), monkeypatch)
    interrupted(monkeypatch, "Speedometer", die_after_step(3))

    def goes_on() -> bool:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            interrupted(monkeypatch, "Speedometer", die_after_step(3))
        return any(message.startswith("Going on from checkpoint-2") for message in caplog.messages)

    configure(decoding={"max_new_tokens": 9})
    with (code / "stages/engines/decode_loop.py").open("a", encoding="utf-8") as file:
        file.write("# another way to decode\n")
    assert goes_on()
    with (code / "stages/layers/chunked_loss.py").open("a", encoding="utf-8") as file:
        file.write("# another loss\n")
    assert not goes_on()
    assert goes_on()


def test_few_shot_examples_are_original_rows_held_out_with_their_copies(
    tiny_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configure(prompt={"few_shot": 3, "max_tokens": 1800}, train={"epochs": 1, "preview_samples": 0})
    with caplog.at_level(logging.INFO):
        train.main()
    table = read_table(paths.MERGED, "train").set_index("fname")
    examples = PromptSettings.load(paths.ADAPTER).examples
    assert len({example.fname for example in examples}) == 3
    for example in examples:
        row = table.loc[example.fname]
        assert (row["source"], row["dialogue"], row["summary"]) == ("original", example.dialogue, example.summary)
    copies = [fname for fname in table.index if fname.removesuffix(".swap") in {example.fname for example in examples}]
    assert metrics()["rows"] == 14 - len(copies)
    assert f"{len(copies)} of 14 rows held out: few-shot examples and copies of them" in caplog.messages


def test_augmented_rows_are_no_examples_and_copies_of_examples_no_training_rows() -> None:
    names = ["train_1", "train_2", "train_3", "train_1.swap", "train_2.para", "synthetic_0", "train_1.x"]
    sources = ["original", "original", "original", "speaker_swap", "paraphrase", "synthetic", "original"]
    names += ["english:train_3", "english:train_1_2", "english:train_2_1", "english:train_9"]
    sources += ["extra:english"] * 4
    table = pd.DataFrame({"fname": names, "source": sources, "dialogue": names, "summary": names})
    params = load_params(ROOT / "params.yaml")
    chosen = set()
    for seed in range(20):
        seeded = params.model_copy(update={"seed": seed, "prompt": params.prompt.model_copy(update={"few_shot": 2})})
        examples = prompt_settings(seeded, table, {"prompt": "plain"}).examples
        assert examples == prompt_settings(seeded, table.sample(frac=1), {"prompt": "plain"}).examples
        chosen |= {example.fname for example in examples}
    assert chosen == {"train_1", "train_2", "train_3", "train_1.x"}
    shown = (Example("train_1", "", ""), Example("train_3", "", ""))
    assert without_examples(table, shown)["fname"].tolist() == [
        "train_2", "train_2.para", "synthetic_0", "train_1.x", "english:train_2_1", "english:train_9",
    ]  # fmt: skip


def test_a_chat_model(tiny_project: Path) -> None:
    configure(model={"name": "chat"}, train={"epochs": 1})
    fetch_model.main()
    train.main()
    assert PromptSettings.load(paths.ADAPTER).style == "chat"
    assert curve("eval/loss")[4] < curve("eval/loss")[2]


@pytest.mark.parametrize("optimizer", ["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"])
def test_settings_for_little_memory(optimizer: str, tiny_project: Path) -> None:
    configure(
        train={
            "optimizer": optimizer, "epochs": 1, "max_tokens_per_batch": 64, "checkpointed_layers": "all",
            "dequantize": "never", "preview_samples": 0, "early_stopping_patience": 0,
        }
    )  # fmt: skip
    train.main()
    loss = curve("eval/loss")
    assert list(loss) == [2, 4]
    assert loss[4] < loss[2]


def test_one_row_and_fewer_steps_than_between_evaluations(tiny_project: Path) -> None:
    configure(train={"eval_steps": 100})
    table = paths.MERGED.read_text(encoding="utf-8").split("\ntrain_1,")[0] + "\n"
    paths.MERGED.write_text(table, encoding="utf-8")
    train.main()
    assert list(curve("train/loss")) == [1, 2]
    assert list(curve("eval/loss")) == [2]
    assert metrics()["best"]["step"] == 2


def test_long_dialogues_lose_turns_and_the_count_is_said(tiny_project: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(prompt={"max_tokens": 100}, train={"epochs": 1, "preview_samples": 0})
    with caplog.at_level(logging.INFO):
        train.main()
    assert "14 of 14 dialogues lose turns to prompt.max_tokens" in caplog.messages
    assert "5 of 5 dialogues lose turns to prompt.max_tokens" in caplog.messages


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lora": {"target_modules": ["q_projection"]}},
            "params.yaml: lora.target_modules = 'q_projection': the model has no such linear layer; allowed: "
            "all-linear, down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
        ),
        (
            {"prompt": {"few_shot": 8, "max_tokens": 200}},
            "params.yaml: prompt.max_tokens = 200: instruction and few-shot examples alone take N tokens; "
            "raise it, or lower prompt.few_shot",
        ),
        (
            {"quantization": {"compute_dtype": "float16"}},
            "params.yaml: quantization.compute_dtype = 'float16': needs a GPU; allowed: auto, bfloat16, float32",
        ),
    ],
)
def test_a_mistake_leaves_nothing_behind(change: dict[str, Any], message: str, tiny_project: Path) -> None:
    configure(**change)
    with pytest.raises(UserError) as error:
        train.main()
    assert re.sub(r"\d+ tokens", "N tokens", str(error.value)) == message
    assert outputs() == {}
    assert not paths.TRAINING_LOG.exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_bytes(tiny_project: Path) -> None:
    """SIGKILL, at moments that differ from one run of this test to the next, until training gets through."""
    configure(lora={"dropout": 0.2}, train={"epochs": 6, "early_stopping_patience": 2, "preview_samples": 1})
    end(start_stage("train"))
    whole = outputs()

    remove(paths.ADAPTER)
    remove(paths.TRAINING_LOG)
    kills = 0
    while kills < 4:
        stage = start_stage("train")
        checkpoints = len(list(CHECKPOINTS.glob("*/checkpoint-*")))
        while stage.poll() is None and len(list(CHECKPOINTS.glob("*/checkpoint-*"))) <= checkpoints:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        if stage.poll() is not None:
            break
        kill(stage)
        kills += 1
    end(start_stage("train"))
    assert kills > 0
    assert outputs() == whole
    assert list(CHECKPOINTS.iterdir()) == []
