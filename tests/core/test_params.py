from __future__ import annotations

import ast
import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages import ingest
from stages.core import params
from stages.core.errors import UserError
from stages.core.params import load_params, show

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def changed(line: str, new: str) -> bytes:
    """params.yaml with other text in place of the one line that starts like this."""
    text, count = re.subn(f"^{line}.*$", lambda _: new, TEXT, flags=re.MULTILINE)
    assert count == 1, f"{line!r} starts {count} lines of params.yaml"
    return text.encode()


def changed_section(name: str, new: str) -> bytes:
    """params.yaml with other text in place of a whole section."""
    text, count = re.subn(f"^{name}:\n(  .*\n)+", lambda _: new, TEXT, flags=re.MULTILINE)
    assert count == 1, f"{count} sections {name} in params.yaml"
    return text.encode()


def line_of(start: str) -> int:
    return TEXT[: TEXT.index(f"\n{start}") + 1].count("\n") + 1


# Files that are wrong, as their bytes and as the message after "params.yaml".
BROKEN: dict[str, tuple[bytes, str]] = {
    "unknown key at the top": (
        changed("seed:", "seed: 42\nlimit: 8"),
        ": limit = 8: unknown key; allowed: seed, model, quantization, data, clean, check, augment, prompt, lora, "
        "train, folds, refit, candidates, reward, align, decoding, evaluate, gpus_per_experiment",
    ),
    "unknown key in a section": (
        changed("  r:", "  rank: 16"),
        ": lora.rank = 16: unknown key; allowed: r, alpha, dropout, target_modules, use_rslora, use_dora, "
        "plus_ratio, rank_pattern",
    ),
    "unknown key two sections deep": (
        changed("    few_shot:", "    few_shot: 3\n    topics: [식당, 병원]"),
        ': augment.synthesize.topics = ["식당", "병원"]: unknown key; allowed: n, few_shot, styles',
    ),
    "section indented too far": (
        changed_section("evaluate", "  evaluate:\n    morphemes: kiwi\n"),
        ': decoding.evaluate = {"morphemes": "kiwi"}: unknown key; allowed: engine, gpus, batch_size, '
        "max_tokens_per_batch, max_new_tokens, num_beams, length_penalty, repetition_penalty, min_length, max_length, "
        "stop_at_sentence, tune, tune_samples, tune_num_beams, tune_length_penalty, tune_repetition_penalty, "
        "tune_min_length, tune_max_length, tune_stop_at_sentence, tune_rerank, rerank, samples, temperature, "
        "ensemble, prompts, postprocess, min_hangul",
    ),
    "key that is a number": (
        changed("seed:", "seed: 42\n2024: 8"),
        ": 2024: not a text; allowed: seed, model, quantization, data, clean, check, augment, prompt, lora, "
        "train, folds, refit, candidates, reward, align, decoding, evaluate, gpus_per_experiment",
    ),
    "a day that no calendar has": (
        changed("  date:", '  date: "2026-02-30"'),
        ': prompt.date = "2026-02-30": allowed: a day such as "2024-07-26", in quotes',
    ),
    "a day without quotes": (
        changed("  date:", "  date: 2026-02-03"),
        ': prompt.date = "2026-02-03": allowed: a day such as "2024-07-26", in quotes',
    ),
    "missing key": (
        changed("  alpha:", ""),
        ": lora.alpha: missing; allowed: a number above 0",
    ),
    "missing key two sections deep": (
        changed("    model:", ""),
        ": augment.llm.model: missing; allowed: a text that is not empty",
    ),
    "missing section": (
        changed_section("evaluate", ""),
        ": evaluate: missing; allowed: a section with the keys objective, morphemes",
    ),
    "a single fold": (
        changed("  n: 0 # 2", "  n: 1"),
        ": folds.n = 1: allowed: 0, or an integer from 2 to 20",
    ),
    "section that is a number": (
        changed_section("lora", "lora: 16\n"),
        ": lora = 16: allowed: a section with the keys r, alpha, dropout, target_modules, use_rslora, use_dora, "
        "plus_ratio, rank_pattern",
    ),
    "section without keys": (
        changed_section("evaluate", "evaluate:\n"),
        ": evaluate = null: allowed: a section with the keys objective, morphemes",
    ),
    "true for an integer": (
        changed("  r:", "  r: true"),
        ": lora.r = true: allowed: an integer from 1 to 1024",
    ),
    "fraction for an integer": (
        changed("  r:", "  r: 8.0"),
        ": lora.r = 8.0: allowed: an integer from 1 to 1024",
    ),
    "text for an integer": (
        changed("  r:", '  r: "16"'),
        ': lora.r = "16": allowed: an integer from 1 to 1024',
    ),
    "list for an integer": (
        changed("  r:", "  r: [8, 16]"),
        ": lora.r = [8, 16]: allowed: an integer from 1 to 1024",
    ),
    "text for a number": (
        changed("  learning_rate: 2.0e-4", "  learning_rate: 2.0e-4f"),
        ': train.learning_rate = "2.0e-4f": allowed: a number above 0 and below 1',
    ),
    "true for a number": (
        changed("  dropout:", "  dropout: true"),
        ": lora.dropout = true: allowed: a number of at least 0 and below 1",
    ),
    "yes for true": (
        changed("  tune:", "  tune: yes"),
        ': decoding.tune = "yes": allowed: true or false',
    ),
    "one for true": (
        changed("  load_in_4bit:", "  load_in_4bit: 1"),
        ": quantization.load_in_4bit = 1: allowed: true or false",
    ),
    "number for a text": (
        changed("  source:", "  source: 2024"),
        ": data.source = 2024: allowed: a text that is not empty",
    ),
    "date for a text": (
        changed("  source:", "  source: 2024-11-22"),
        ': data.source = "2024-11-22": allowed: a text that is not empty',
    ),
    "empty text": (
        changed("  source:", '  source: ""'),
        ': data.source = "": allowed: a text that is not empty',
    ),
    "null value": (
        changed("  r:", "  r:"),
        ": lora.r = null: allowed: an integer from 1 to 1024",
    ),
    "below the range": (
        changed("  r:", "  r: 0"),
        ": lora.r = 0: allowed: an integer from 1 to 1024",
    ),
    "above the range": (
        changed("  r:", "  r: 1025"),
        ": lora.r = 1025: allowed: an integer from 1 to 1024",
    ),
    "negative count": (
        changed("  limit:", "  limit: -1"),
        ": data.limit = -1: allowed: an integer of at least 0",
    ),
    "end of a range that is left out": (
        changed("  learning_rate: 2.0e-4", "  learning_rate: 0"),
        ": train.learning_rate = 0: allowed: a number above 0 and below 1",
    ),
    "too large a seed": (
        changed("seed:", "seed: 4294967296"),
        ": seed = 4294967296: allowed: an integer of at least 0 and below 4294967296",
    ),
    "infinity": (
        changed("  epochs: 2", "  epochs: .inf"),
        ": train.epochs = Infinity: allowed: a number above 0",
    ),
    "not a number": (
        changed("  length_penalty:", "  length_penalty: .nan"),
        ": decoding.length_penalty = NaN: allowed: a number from -10 to 10",
    ),
    "wrong choice": (
        changed("  type:", "  type: int4"),
        ': quantization.type = "int4": allowed: nf4, fp4',
    ),
    "only choice": (
        changed("  morphemes:", "  morphemes: okt"),
        ': evaluate.morphemes = "okt": allowed: kiwi, mecab',
    ),
    "a boolean for a choice": (
        changed("  dequantize:", "  dequantize: false"),
        ": train.dequantize = false: allowed: auto, always, never",
    ),
    "a word for a number": (
        changed("  memory:", "  memory: much"),
        ': train.memory = "much": allowed: auto, or GiB of at least 0.5',
    ),
    "a word for a number of layers": (
        changed("  checkpointed_layers:", "  checkpointed_layers: most"),
        ': train.checkpointed_layers = "most": allowed: auto, all, or an integer of at least 0',
    ),
    "a rank that is a text": (
        changed("  rank_pattern:", "  rank_pattern: {q_proj: high}"),
        ': lora.rank_pattern = {"q_proj": "high"}: allowed: a mapping from names of layers to ranks, such as '
        "{q_proj: 32}",
    ),
    "empty list": (
        changed("  tune_num_beams:", "  tune_num_beams: []"),
        ": decoding.tune_num_beams = []: allowed: a list that is not empty, each an integer from 1 to 32",
    ),
    "item out of range": (
        changed("  tune_num_beams:", "  tune_num_beams: [1, 64]"),
        ": decoding.tune_num_beams = [1, 64]: allowed: a list that is not empty, each an integer from 1 to 32",
    ),
    "item of another type": (
        changed("  tune_length_penalty:", "  tune_length_penalty: [0.7, high]"),
        ': decoding.tune_length_penalty = [0.7, "high"]: allowed: a list that is not empty, '
        "each a number from -10 to 10",
    ),
    "unknown key of an entry": (
        changed("  extra:", "  extra: [{path: a.csv}, {path: b.csv, share: 50%}]"),
        ': data.extra.1.share = "50%": unknown key; allowed: path, rows',
    ),
    "missing key of an entry": (
        changed("  extra:", "  extra: [{rows: 50%}]"),
        ": data.extra.0.path: missing; allowed: the path of a .csv file",
    ),
    "wrong value of an entry": (
        changed("  extra:", "  extra: [{path: a.csv, rows: half}]"),
        ': data.extra.0.rows = "half": allowed: an integer of at least 0, or a share such as 20%',
    ),
    "a text for an entry": (
        changed("  extra:", "  extra: [a.csv]"),
        ': data.extra.0 = "a.csv": allowed: a section with the keys path, rows',
    ),
    "two files of one name": (
        changed("  extra:", "  extra: [{path: a/x.csv}, {path: b/x.csv}]"),
        ': data.extra = [{"path": "a/x.csv"}, {"path": "b/x.csv"}]: allowed: a list such as '
        "[{path: data/raw/english.csv, rows: 50%}], no two of one name; [] for none",
    ),
    "number for a list": (
        changed("  tune_num_beams:", "  tune_num_beams: 4"),
        ": decoding.tune_num_beams = 4: allowed: a list that is not empty, each an integer from 1 to 32",
    ),
    "wrong item where a text would do": (
        changed("  target_modules:", "  target_modules: [q_proj, 3]"),
        ': lora.target_modules = ["q_proj", 3]: allowed: all-linear, or a list of the names of layers',
    ),
    "name that no model can have": (
        changed("  name:", "  name: Qwen2.5"),
        ': model.name = "Qwen2.5": allowed: a key of models.yaml',
    ),
    "address without a scheme": (
        changed("    base_url:", "    base_url: localhost:8000/v1"),
        ': augment.llm.base_url = "localhost:8000/v1": allowed: an address such as http://localhost:8000/v1',
    ),
    "port that none can have": (
        changed("    base_url:", "    base_url: http://localhost:65536/v1"),
        ': augment.llm.base_url = "http://localhost:65536/v1": allowed: an address such as http://localhost:8000/v1',
    ),
    "key in place of its variable": (
        changed("    api_key_env:", "    api_key_env: up-Zk81vQ0x"),
        ': augment.llm.api_key_env = "up-Zk81vQ0x": allowed: the name of a variable such as UPSTAGE_API_KEY, '
        'or "" for a server that needs no key',
    ),
    "duplicate key": (
        changed("  r:", "  r: 16\n  r: 32"),
        f": not valid YAML: line {line_of('  r: 16') + 1}: "
        'found duplicate key "r" with value "32" (original value: "16")',
    ),
    "invalid YAML": (
        changed("seed:", "seed: [42"),
        f": not valid YAML: line {line_of('model:')}: expected ',' or ']', but got ':'",
    ),
    "tab": (
        changed("  r:", "\tr: 16"),
        f": not valid YAML: line {line_of('  r: 16')}: found character '\\t' that cannot start any token",
    ),
    "date that no calendar has": (
        changed("  source:", "  source: 2024-13-01"),
        ": not valid YAML: month must be in 1..12",
    ),
    "NUL": (
        changed("  source:", "  source: data\0sample"),
        ": not valid YAML: unacceptable character #x0000: special characters are not allowed",
    ),
    "empty file": (b"", ": holds no keys; restore it with `git checkout params.yaml`"),
    "only a list": (b"- seed: 42\n", ": holds no keys; restore it with `git checkout params.yaml`"),
    "not UTF-8": (TEXT.encode("cp949"), ": not UTF-8; save it as UTF-8"),
}


# Values that are allowed each for itself, by dotted key, and the message after "params.yaml: ".
CONTRADICTIONS: dict[str, tuple[dict[str, object], str]] = {
    "reranking that is weighed in no search": (
        {"decoding.tune": False, "decoding.tune_rerank": True},
        "decoding.tune_rerank = true: needs decoding.tune: true, which tries it on dev",
    ),
    "an ensemble without a choice": (
        {"decoding.ensemble": ["models/other"]},
        'decoding.ensemble = ["models/other"]: needs decoding.rerank: mbr, which chooses among them',
    ),
    "instructions without a choice": (
        {"decoding.prompts": ["요약:"]},
        'decoding.prompts = ["요약:"]: needs decoding.rerank: mbr, which chooses among them',
    ),
    "an ensemble on an engine of one adapter": (
        {"decoding.ensemble": ["models/other"], "decoding.rerank": "mbr", "decoding.engine": "vllm"},
        'decoding.ensemble = ["models/other"]: needs decoding.engine: transformers',
    ),
    "an ensemble of no folds": (
        {"decoding.ensemble": ["models/other", "folds"], "decoding.rerank": "mbr"},
        'decoding.ensemble = ["models/other", "folds"]: there are no folds; set folds.n',
    ),
    "a refit that the engine does not load": (
        {"refit.enabled": True, "decoding.engine": "vllm"},
        'decoding.engine = "vllm": it loads models/merged, and test is for models/refit; set transformers, or '
        "refit.enabled: false",
    ),
    "candidates without folds": (
        {"candidates.samples": 16},
        "candidates.samples = 16: there are no folds to write them; set folds.n",
    ),
    "an alignment without candidates": (
        {"align.objective": "ranking"},
        'align.objective = "ranking": there are no candidates; set candidates.samples',
    ),
    "a reranker that has nothing to learn from": (
        {"decoding.rerank": "learned"},
        'decoding.rerank = "learned": there are no candidates; set candidates.samples',
    ),
    "a learned reranker on an engine that reads no summaries": (
        {"decoding.rerank": "learned", "decoding.engine": "vllm", "candidates.samples": 16, "folds.n": 2},
        'decoding.rerank = "learned": needs decoding.engine: transformers',
    ),
    "a learned reranker where another is weighed": (
        {"decoding.rerank": "learned", "decoding.tune_rerank": True, "candidates.samples": 16, "folds.n": 2},
        "decoding.tune_rerank = true: weighs mbr; set it to false for decoding.rerank: learned",
    ),
    "a refit that nothing aligns": (
        {"align.objective": "dpo", "candidates.samples": 16, "folds.n": 2, "refit.enabled": True},
        "refit.enabled = true: what it trains is not aligned; set it to false, or align.objective: none",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_values_that_do_not_go_together_are_refused_before_any_work(case: str, tmp_path: Path) -> None:
    settings, message = CONTRADICTIONS[case]
    values = params.read_yaml(ROOT / "params.yaml")
    for dotted, value in settings.items():
        section, key = params.place_of(values, dotted)
        section[key] = value
    path = tmp_path / "params.yaml"
    YAML().dump(values, path)
    with pytest.raises(UserError) as error:
        load_params(path)
    assert str(error.value) == f"{path}: {message}"


def test_values_that_go_together_are_allowed(tmp_path: Path) -> None:
    values = params.read_yaml(ROOT / "params.yaml")
    values["folds"]["n"] = 2
    values["decoding"] |= {"tune_rerank": True, "ensemble": ["folds", "models/other"], "prompts": ["요약:"]}
    path = tmp_path / "params.yaml"
    YAML().dump(values, path)
    assert load_params(path).decoding.ensemble == ["folds", "models/other"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "data" / "sample", tmp_path / "data" / "sample")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(stage: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_parameters_of_the_repository() -> None:
    loaded = load_params(ROOT / "params.yaml")
    assert loaded.model.name == "gemma3-270m"
    assert (loaded.augment.paraphrase.n, loaded.augment.synthesize.n) == (24, 12)
    with pytest.raises(ValueError, match="frozen"):
        loaded.lora.r = 8


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file(case: str, workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, message = BROKEN[case]
    (workspace / "params.yaml").write_bytes(content)
    before = everything(workspace)
    with pytest.raises(UserError) as error:
        ingest.main()
    assert str(error.value) == f"params.yaml{message}"
    assert capfd.readouterr() == ("", "")
    assert everything(workspace) == before


@pytest.mark.parametrize(
    ("stage", "case"),
    [("ingest", "below the range"), ("merge", "unknown key in a section"), ("fetch_model", "not UTF-8")],
)
def test_broken_file_on_the_command_line(stage: str, case: str, workspace: Path) -> None:
    content, message = BROKEN[case]
    (workspace / "params.yaml").write_bytes(content)
    before = everything(workspace)
    done = command(stage)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: params.yaml{message}\n")
    assert everything(workspace) == before


def test_no_file(workspace: Path) -> None:
    done = command("ingest")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: params.yaml: not found; run from the repository's top folder\n"
    assert sorted(path.name for path in workspace.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("written", "number"),
    [("1e-05", 0.00001), ("1e-5", 0.00001), ("5E-6", 0.000005), ("0.00001", 0.00001), ("1.0e-05", 0.00001)],
)
def test_learning_rate_as_dvc_writes_it(written: str, number: float, tmp_path: Path) -> None:
    """`dvc exp run -S train.learning_rate=1e-5` writes 1e-05, which is a text to readers of YAML 1.1."""
    path = tmp_path / "params.yaml"
    path.write_bytes(changed("  learning_rate: 2.0e-4", f"  learning_rate: {written}"))
    assert load_params(path).train.learning_rate == number


@pytest.mark.parametrize(
    ("line", "written", "key", "value"),
    [
        ("seed:", "4294967295", "seed", 2**32 - 1),
        ("  warmup_ratio:", "0.5", "train.warmup_ratio", 0.5),
        ("  r:", "1024", "lora.r", 1024),
        ("  alpha:", "32", "lora.alpha", 32.0),
        ("  target_modules:", "[q_proj, v_proj]", "lora.target_modules", ["q_proj", "v_proj"]),
        ("  dequantize:", "never", "train.dequantize", "never"),
        ("  memory:", "23.5", "train.memory", 23.5),
        ("  memory:", "24", "train.memory", 24),
        ("  checkpointed_layers:", "12", "train.checkpointed_layers", 12),
        ("  checkpointed_layers:", "all", "train.checkpointed_layers", "all"),
        ("  rank_pattern:", "{q_proj: 32}", "lora.rank_pattern", {"q_proj": 32}),
        ("    base_url:", "http://localhost:8000", "augment.llm.base_url", "http://localhost:8000"),
        ("    base_url:", "http://localhost:65535/v1", "augment.llm.base_url", "http://localhost:65535/v1"),
    ],
)
def test_value_that_is_allowed(line: str, written: str, key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(changed(line, f"{line} {written}"))
    assert attrgetter(key)(load_params(path)) == value


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Windows editors write one."""
    path = tmp_path / "params.yaml"
    path.write_text("\ufeff" + TEXT, encoding="utf-8")
    assert load_params(path) == load_params(ROOT / "params.yaml")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_any_text_ends_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(UserError) as error:
        load_params(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_long_value_is_cut() -> None:
    assert show("가" * 78) == f'"{"가" * 78}"'
    assert show("가" * 79) == f'"{"가" * 76}...'
    assert show("two\nlines") == '"two\\nlines"'


def test_every_field_is_explained() -> None:
    """A field by the text under it, a section by the docstring of its class."""
    classes = [node for node in ast.parse(inspect.getsource(params)).body if isinstance(node, ast.ClassDef)]
    names = {node.name for node in classes}
    silent: list[str] = []
    explained = 0
    for node in classes:
        if not ast.get_docstring(node):
            silent.append(node.name)
        for statement, following in pairwise([*node.body, ast.Pass()]):
            if not isinstance(statement, ast.AnnAssign) or ast.unparse(statement.annotation) in names:
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                explained += 1
            else:
                silent.append(f"{node.name}.{ast.unparse(statement.target)}")
    assert silent == []
    assert explained > 50


def test_examples() -> None:
    assert doctest.testmod(params).failed == 0
