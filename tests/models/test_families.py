"""Every family of the table is right on a tiny random checkpoint, and every other is refused in one line."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.params import Quantization, load_params
from stages.engines.batches import Limits
from stages.engines.prefill import read_prefix, read_prompts, shared_prefix
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling
from stages.layers.lora_linear import use_lora_linear
from stages.layers.packed_attention import packed_attention, use_attention
from stages.layers.packed_rows import TrainingRow, pack
from stages.models.adapter_files import save_adapter
from stages.models.families import FAMILIES, reads_packed, refuse_unknown
from stages.models.load import load_base, load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.serving.merge_adapter import fold, save_merged
from stages.training.memory_plan import MemoryPlan, set_recomputed
from stages.training.trainer import SummaryTrainer, as_dataset
from stages.training.trl_settings import sft_config
from tests.tiny_families import CONFIGS, VOCABULARY, WRAPPED, build, text
from tests.tiny_project import ROOT

FLOAT32 = Quantization(load_in_4bit=False, type="nf4", double_quant=True, compute_dtype="float32", compute="bf16")
KINDS = [*CONFIGS, *WRAPPED]
LENGTHS = [(9, 5), (21, 4), (1, 2), (13, 9)]
"""Tokens of the prompt and of the completion, row by row: most are longer than the windows."""
DIALOGUES = ["#Person1#: 안녕, 오늘 뭐 해?", "#Person1#: 비 온대.\n#Person2#: 우산 챙길게.", "#Person1#: 네."]
GREEDY = DecodingSettings(max_new_tokens=6)
PENALISED = DecodingSettings(max_new_tokens=6, repetition_penalty=2.0)
"""Random weights repeat a token otherwise."""
BOTH = "use_bidirectional_attention"
BEAMS = DecodingSettings(max_new_tokens=6, num_beams=3)


def rows() -> list[TrainingRow]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(3, VOCABULARY, (prompt + end,), generator=generator).tolist() for prompt, end in LENGTHS]
    return [TrainingRow(ids[:prompt], ids[prompt:]) for ids, (prompt, _) in zip(drawn, LENGTHS, strict=True)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The manifest of a family's tiny checkpoint, by its name; each is built once."""

    @cache
    def manifest(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        build(kind, folder / "checkpoint")
        base = {"name": kind, "source": "local", "path": str(folder / "checkpoint"), "prompt": "plain"}
        write_json(folder / "base.json", base)
        return folder / "base.json"

    return manifest


def make_trainer(manifest: Path, folder: Path, **train: Any) -> SummaryTrainer:
    """A trainer with the stage's own settings, whose adapter already does something."""
    params = load_params(ROOT / "params.yaml")
    settings = {"batch_size": 4, "learning_rate": 1e-3, "optimizer": "sgd", "eval_steps": 1, "warmup_ratio": 0.0}
    params = params.model_copy(update={"train": params.train.model_copy(update=settings | train)})
    set_seed(1)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    trainer = SummaryTrainer(
        model=load_base(manifest, FLOAT32),
        args=sft_config(params, folder, eval_steps=1, dtype=torch.float32),
        train_dataset=as_dataset(rows()),
        eval_dataset=as_dataset(rows()[:2]),
        processing_class=load_tokenizer(manifest),
        peft_config=use_lora_linear(lora),
        preview=lambda step: preview(trainer.model),
    )
    trainer.use(MemoryPlan(1000, 0))
    return trainer


def preview(model: PeftModel) -> dict[str, float]:
    """A padded batch written by transformers, as the train stage's previews are."""
    ids, mask = torch.tensor([[0, 0, 7, 8], [5, 6, 7, 8]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    written = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=3, do_sample=False, pad_token_id=0)
    return {"written": float(written[:, 4:].sum())}


def eager_losses(model: PreTrainedModel, row: TrainingRow) -> torch.Tensor:
    """The loss of each token of a completion by all the logits of transformers' eager attention, the row alone."""
    logits = model(input_ids=torch.tensor([row.input_ids], device=model.device)).logits[0].float()
    completion = torch.tensor(row.completion_ids, device=model.device)
    return cross_entropy(logits[len(row.prompt_ids) - 1 : -1], completion, reduction="none")


def gradients(model: PeftModel) -> list[torch.Tensor]:
    found = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return found


def assert_near(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Equal to float32's precision, measured by the size of each."""
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-3 * other.norm() + 1e-6


def test_each_family_has_a_checkpoint() -> None:
    assert set(CONFIGS) == set(FAMILIES)
    assert set(WRAPPED) == {wrapper for family in FAMILIES.values() for wrapper in family.wrappers}


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_is_that_of_transformers(kind: str, manifest: Any, tmp_path: Path) -> None:
    """Its whole class, the multimodal one too, gives the same logits as the text part that is loaded."""
    whole = build(kind, tmp_path)
    base = load_base(manifest(kind), FLOAT32)
    assert base.config.model_type == WRAPPED.get(kind, kind)
    ids = torch.tensor([rows()[1].input_ids])
    with torch.no_grad():
        torch.testing.assert_close(base(input_ids=ids).logits, whole(input_ids=ids).logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_eager_attention_on_single_rows(
    kind: str, manifest: Any, tmp_path: Path
) -> None:
    trainer = make_trainer(manifest(kind), tmp_path)
    attention = trainer.base.config._attn_implementation
    use_attention(trainer.base, "eager")
    expected = torch.cat([eager_losses(trainer.model.train(), row) for row in rows()])
    torch.autograd.backward([expected.mean()])
    expected_gradients = gradients(trainer.model)
    use_attention(trainer.base, attention)
    assert expected.std() > 0.2
    assert sum(bool(gradient.any()) for gradient in expected_gradients) > 20
    for recomputed in (0, 3):
        trainer.use(MemoryPlan(1000, recomputed))
        loss = trainer.training_step(trainer.model, {"rows": rows()})
        torch.testing.assert_close(loss, expected.detach().mean(), rtol=1e-4, atol=1e-4)
        assert_near(gradients(trainer.model), expected_gradients)
    set_recomputed(trainer.base, 0)
    parts = [trainer.losses(pack([row])).detach() for row in rows()]
    torch.testing.assert_close(torch.cat(parts), expected.detach(), rtol=1e-3, atol=1e-3)
    if trainer.packs:
        torch.testing.assert_close(trainer.losses(pack(rows())).detach(), expected.detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_ends_in_the_same_adapter(kind: str, manifest: Any, tmp_path: Path) -> None:
    whole = make_trainer(manifest(kind), tmp_path, epochs=2.0)
    begun = [each.clone() for each in whole.model.parameters() if each.requires_grad]
    whole.train()
    resumed = make_trainer(manifest(kind), tmp_path, epochs=2.0)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    ends = [[each for each in one.model.parameters() if each.requires_grad] for one in (whole, resumed)]
    assert len(ends[0]) > 20
    assert all(map(torch.equal, *ends))
    assert not any(map(torch.equal, ends[0], begun))
    evaluated = [log["eval_written"] for log in whole.state.log_history if "eval_written" in log]
    assert len(evaluated) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_saved_adapter_export_and_what_the_engine_writes(kind: str, manifest: Any, tmp_path: Path) -> None:
    trainer = make_trainer(manifest(kind), tmp_path / "run")
    trained = trainer.model.eval()
    use_attention(trainer.base, "eager")
    (tmp_path / "adapter").mkdir()
    save_adapter(trained, tmp_path / "adapter", kind)
    model = load_for_generation(manifest(kind), tmp_path / "adapter", FLOAT32)
    builder = PromptBuilder(load_tokenizer(manifest(kind)), PromptSettings("plain", "요약", 200, None, ()))
    ids = torch.tensor([rows()[1].input_ids])
    with torch.no_grad():
        expected = trained(input_ids=ids).logits
        torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-3)

    prompts = [builder.prompt_ids(dialogue) for dialogue in DIALOGUES]
    with torch.no_grad():
        after = torch.stack([trained(input_ids=torch.tensor([prompt])).logits[0, -1] for prompt in prompts])
    read = read_prompts(model, prompts, read_prefix(model, shared_prefix(prompts)), room=2)
    torch.testing.assert_close(read.logits, after, rtol=1e-3, atol=1e-3)

    writer = TransformersWriter(model, builder)
    order = sorted(DIALOGUES, key=lambda text: -len(builder.prompt_ids(text)))
    for settings in (GREEDY, PENALISED, BEAMS):
        alone = [generate(trained, builder, text, settings) for text in order]
        assert settings != PENALISED or len(set(alone)) > 1
        assert writer.write(order, settings, Limits(rows=2), lambda done: None) == alone
        assert [texts[0] for texts in writer.candidates(DIALOGUES, settings)] == [
            alone[order.index(text)] for text in DIALOGUES
        ]
    save_merged(fold(model), builder, GREEDY, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert merged.config.model_type == WRAPPED.get(kind, kind)
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["gemma3_text", "lfm2"])
def test_samples_share_copies_of_their_prompt(kind: str, manifest: Any) -> None:
    """The ninth sample of a dialogue has a copy of its own, beside other dialogues or not."""
    model = load_for_generation(manifest(kind), None, FLOAT32)
    builder = PromptBuilder(load_tokenizer(manifest(kind)), PromptSettings("plain", "요약", 200, None, ()))
    order = sorted(DIALOGUES, key=lambda text: -len(builder.prompt_ids(text)))
    writer, drawn = TransformersWriter(model, builder), Sampling(count=9, temperature=0.5, seed=1)
    samples = writer.samples(order, GREEDY, drawn, Limits(rows=2))
    assert [len(texts) for texts in samples] == [9] * len(order)
    assert [texts[1:] for texts in writer.candidates(order, GREEDY, drawn)] == samples


def generate(model: PreTrainedModel, builder: PromptBuilder, dialogue: str, settings: DecodingSettings) -> str:
    """What transformers itself writes for one prompt."""
    ids = torch.tensor([builder.prompt_ids(dialogue)])
    with torch.inference_mode():
        written = model.generate(
            input_ids=ids,
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.num_beams,
            repetition_penalty=settings.repetition_penalty,
            do_sample=False,
            eos_token_id=builder.stop_id,
            pad_token_id=builder.pad_id,
        )[0, ids.shape[1] :].tolist()
    text: str = builder.tokenizer.decode(written, skip_special_tokens=True)
    return text


def described(folder: Path, **config: Any) -> Path:
    """A folder in which a checkpoint would lie, with its config.json alone."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "its model type 'gpt2' is not one that can be trained here; allowed: cohere, "),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "its model type 'bert' is not one that "),
        (
            {"model_type": "bart", "is_encoder_decoder": True},
            "its model type 'bart' is an encoder-decoder, and not one that can be trained here; allowed: ",
        ),
        ({"model_type": "exaone", "auto_map": {}}, "its model type 'exaone' is not one that can be trained here; "),
        ({"model_type": "mixtral"}, "its model type 'mixtral' is not one that can be trained here; "),
        (
            {"model_type": "mistral3", "text_config": {"model_type": "mistral4"}},
            "its model type 'mistral3' holds a 'mistral4', which cannot be trained here; allowed: ",
        ),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "llama"}},
            "its model type 'gemma3' holds a 'llama', which cannot be trained here; allowed: ",
        ),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            "a LlamaForSequenceClassification writes no text; name a checkpoint for causal language modelling",
        ),
        (
            {"model_type": "llama", "architectures": "LlamaForSequenceClassification"},
            "a LlamaForSequenceClassification writes no text; name a checkpoint for causal language modelling",
        ),
        (
            {"model_type": "gemma3", "text_config": "x"},
            "text_config in its config.json is no object in JSON; fetch the checkpoint again",
        ),
        (
            {"model_type": "gemma3", "text_config": {"model_type": ["x"]}},
            "its model type 'gemma3' holds a ['x'], which cannot be trained here; allowed: ",
        ),
        *[
            ({"model_type": kind, **config}, f"{said} in its config.json: its tokens see later ones, ")
            for kind, config, said in (
                ("gemma", {BOTH: True}, f"{BOTH} = true"),
                ("gemma2", {BOTH: True}, f"{BOTH} = true"),
                ("gemma3_text", {BOTH: True}, f"{BOTH} = true"),
                ("gemma3_text", {BOTH: "vision"}, f'{BOTH} = "vision"'),
                ("gemma3", {"text_config": {BOTH: True}}, f"{BOTH} = true"),
                ("gemma4_text", {BOTH: "all"}, f'{BOTH} = "all"'),
                ("gemma4", {"text_config": {BOTH: "all"}}, f'{BOTH} = "all"'),
                ("qwen2", {"is_causal": False}, "is_causal = false"),
                ("mistral3", {"text_config": {"is_causal": None}}, "is_causal = null"),
            )
        ],
        ({}, "its config.json has no model_type; allowed: "),
        ({"model_type": ["llama"]}, "its config.json has no model_type; allowed: "),
    ],
)
def test_what_has_no_row_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        refuse_unknown(described(tmp_path, **config), "models.yaml: mine")
    assert str(error.value).startswith(f"models.yaml: mine: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma", BOTH: None},
        {"model_type": "gemma3_text", BOTH: False},
        {"model_type": "gemma4_text", BOTH: "vision"},
        {"model_type": "gemma4", "text_config": {BOTH: "vision"}},
        {"model_type": "gemma4_unified", "text_config": {BOTH: "vision"}},
        {"model_type": "qwen2", "is_causal": True},
        {"model_type": "llama", "architectures": "LlamaForCausalLM"},
    ],
)
def test_what_is_causal_and_writes_is_not_refused(config: dict[str, Any], tmp_path: Path) -> None:
    refuse_unknown(described(tmp_path, **config), "models.yaml: mine")


@pytest.mark.parametrize("text", ["", '{"model_type": "lla', "[1]", "null"])
def test_a_damaged_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        refuse_unknown(tmp_path, "models.yaml: mine")
    assert str(error.value) == (
        "models.yaml: mine: its config.json is damaged, or no object in JSON; fetch the checkpoint again"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_a_row_is_not_refused(kind: str, manifest: Any) -> None:
    refuse_unknown(manifest(kind).parent / "checkpoint", "models.yaml: mine")


def test_a_manifest_of_an_earlier_fetch_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    described(tmp_path / "checkpoint", model_type="gpt2")
    (tmp_path / "checkpoint/model.safetensors").touch()
    write_json(tmp_path / "base.json", {"name": "kogpt2", "source": "local", "path": str(tmp_path / "checkpoint")})
    with pytest.raises(UserError) as error:
        load_base(tmp_path / "base.json", FLOAT32)
    assert str(error.value).startswith(f"{tmp_path / 'base.json'}: kogpt2: its model type 'gpt2' is not one that ")


def test_weights_that_the_checkpoint_lacks_are_not_made_up(manifest: Any, tmp_path: Path) -> None:
    checkpoint = manifest("llama").parent / "checkpoint"
    weights = load_file(checkpoint / "model.safetensors")
    del weights["lm_head.weight"]
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    save_file(weights, tmp_path / "checkpoint/model.safetensors", metadata={"format": "pt"})
    write_json(tmp_path / "base.json", {"name": "mine", "source": "local", "path": str(tmp_path / "checkpoint")})
    with pytest.raises(UserError) as error:
        load_base(tmp_path / "base.json", FLOAT32)
    assert str(error.value) == (
        f"{tmp_path / 'base.json'}: mine: the checkpoint lacks 1 weights, such as lm_head.weight"
    )


def test_what_attention_does_not_know_is_refused() -> None:
    query = torch.randn(1, 2, 3, 4)
    bounds = torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(UserError) as error:
        packed_attention(
            torch.nn.Identity(), query, query, query, None,
            cu_seq_lens_q=bounds, cu_seq_lens_k=bounds, max_length_q=3, max_length_k=3,
            position_bias=torch.zeros(3, 3), position_ids=bounds,
        )  # fmt: skip
    assert str(error.value) == (
        "models/base.json: Identity asks for position_bias, which attention here does not have; choose a base model "
        "of another family"
    )


def test_rows_lie_alone_where_the_longest_would_turn_the_others() -> None:
    turning = {"rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 16}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    assert reads_packed(text("phi3"))
    assert not reads_packed(text("phi3", rope_parameters={"rope_type": "longrope", **turning, **factors}))
    assert not reads_packed(text("llama", rope_parameters={"rope_type": "dynamic", **turning}))
    assert reads_packed(text("llama", rope_parameters={"rope_type": "linear", **turning}))
