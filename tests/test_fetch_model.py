from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.fake_hub import TOKEN, FakeHub, Files, Workspace
from tests.tiny import build_tiny_checkpoint

REPO = "tests/tiny-llama"
ENTRY = {
    "source": "hub",
    "repo": REPO,
    "revision": "main",
    "prompt": "plain",
    "max_length": 2048,
    "licence": "apache-2.0",
}
CHECKPOINT = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
LOAD = """
import json
from pathlib import Path
from stages.models.load import load_base
from stages.models.tokenizer import load_tokenizer
from stages.core.params import load_params

manifest = Path("models/base.json")
tokenizer = load_tokenizer(manifest)
model = load_base(manifest, load_params().quantization)
layer = model.model.layers[0].mlp.up_proj
print(json.dumps({
    "ids": tokenizer("안녕하세요").input_ids,
    "layer": type(layer).__name__,
    "type": layer.weight.quant_state.quant_type,
    "nested": layer.weight.quant_state.nested,
    "embedding": model.model.embed_tokens.weight[:2].tolist(),
}))
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.choose("tiny", tiny=ENTRY)
    return made


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def small_files(**changes: bytes) -> Files:
    """What the Hub path looks at: it never reads a weight."""
    return {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights", **changes}


def fetch(workspace: Workspace, hub: FakeHub, **environment: str) -> str:
    """Run the stage; returns what it said, its error included."""
    done = workspace.python("-m", "stages.fetch_model", **{"HF_ENDPOINT": hub.endpoint, **environment})
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr
    assert done.returncode == (1 if done.stderr.startswith("error: ") else 0)
    return done.stderr


def snapshot(workspace: Workspace, commit: str, repo: str = REPO) -> Path:
    return workspace.cache / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / commit


def manifest(workspace: Workspace) -> Any:
    return json.loads((workspace.folder / "models" / "base.json").read_text(encoding="utf-8"))


def test_hub_model_is_fetched_recorded_and_loaded(workspace: Workspace, hub: FakeHub, checkpoint: Path) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    unwanted = {
        "README.md": b"# Tiny",
        ".gitattributes": b"",
        "pytorch_model.bin": b"pickle",
        "tiny.gguf": b"GGUF",
        "modeling_tiny.py": b"raise SystemExit",
        "original/model.safetensors": b"the same weights again",
        "original/params.json": b"{}",
    }
    commit = hub.commit(REPO, files | unwanted)

    assert fetch(workspace, hub) == f"tiny is in {snapshot(workspace, commit)}\n"
    assert workspace.files() == ["models/base.json"]
    assert (workspace.folder / "models" / "base.json").read_text(encoding="utf-8") == (
        "{\n"
        '  "name": "tiny",\n'
        '  "prompt": "plain",\n'
        '  "max_length": 2048,\n'
        '  "licence": "apache-2.0",\n'
        '  "source": "hub",\n'
        '  "repo": "tests/tiny-llama",\n'
        '  "revision": "main",\n'
        f'  "commit": "{commit}"\n'
        "}\n"
    )
    assert hub.fetched() == CHECKPOINT
    assert sorted(path.name for path in snapshot(workspace, commit).iterdir()) == CHECKPOINT

    hub.stop()
    loaded = workspace.python("-c", LOAD, HF_ENDPOINT=hub.endpoint)
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout) == {
        "ids": AutoTokenizer.from_pretrained(checkpoint)("안녕하세요").input_ids,
        "layer": "Linear4bit",
        "type": "nf4",
        "nested": True,
        "embedding": load_file(checkpoint / "model.safetensors")["model.embed_tokens.weight"][:2].tolist(),
    }


def test_second_run_asks_for_the_commit_only(workspace: Workspace, hub: FakeHub) -> None:
    hub.commit(REPO, small_files())
    said = fetch(workspace, hub)
    hub.requests.clear()
    assert fetch(workspace, hub) == said
    assert [(request.method, request.path) for request in hub.requests] == [
        ("GET", f"/api/models/{REPO}/revision/main")
    ]


def test_cached_model_needs_no_network(workspace: Workspace, hub: FakeHub) -> None:
    commit = hub.commit(REPO, small_files())
    said = fetch(workspace, hub)
    first = manifest(workspace)
    hub.requests.clear()
    workspace.choose("tiny", tiny=ENTRY | {"revision": commit})
    assert fetch(workspace, hub, HF_HUB_OFFLINE="1") == said
    assert manifest(workspace) == first | {"revision": commit}
    workspace.choose("tiny", tiny=ENTRY)
    assert fetch(workspace, hub, HF_HUB_OFFLINE="1") == said
    assert hub.requests == []
    hub.stop()
    assert fetch(workspace, hub) == said
    assert manifest(workspace) == first


def test_branch_that_moved_on_gives_another_manifest(workspace: Workspace, hub: FakeHub) -> None:
    old = hub.commit(REPO, small_files())
    fetch(workspace, hub)
    new = hub.commit(REPO, small_files(**{"model.safetensors": b"better weights"}))
    assert old != new
    fetch(workspace, hub)
    assert manifest(workspace)["commit"] == new
    assert (snapshot(workspace, new) / "model.safetensors").read_bytes() == b"better weights"
    workspace.choose("tiny", tiny=ENTRY | {"revision": old})
    fetch(workspace, hub)
    assert manifest(workspace)["commit"] == old


def test_token_in_dotenv_opens_a_gated_model(workspace: Workspace, hub: FakeHub, tmp_path: Path) -> None:
    """A queued experiment runs in a copy without .env; $DVC_ROOT names the repository that has it."""
    commit = hub.commit(REPO, small_files())
    hub.gated.add(REPO)
    hub.accepted.add(REPO)
    root = tmp_path / "repository"
    root.mkdir()
    (root / ".env").write_text(f"HF_TOKEN={TOKEN}\n", encoding="utf-8")
    assert fetch(workspace, hub, DVC_ROOT=str(root)) == f"tiny is in {snapshot(workspace, commit)}\n"
    assert {(request.host, request.authorization) for request in hub.requests} == {
        ("127.0.0.1", f"Bearer {TOKEN}"),
        ("localhost", None),
    }
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != root / ".env"]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_gated_model_without_a_token(workspace: Workspace, hub: FakeHub) -> None:
    hub.commit(REPO, small_files())
    hub.gated.add(REPO)
    refused = f"error: models.yaml: {REPO}: gated; accept its terms on the Hub and put HF_TOKEN in .env\n"
    assert fetch(workspace, hub) == refused
    (workspace.folder / ".env").write_text(f"HF_TOKEN={TOKEN}\n", encoding="utf-8")
    assert fetch(workspace, hub) == refused
    assert workspace.files() == [".env"]


def test_token_that_the_hub_does_not_know(workspace: Workspace, hub: FakeHub) -> None:
    hub.commit(REPO, small_files())
    said = fetch(workspace, hub, HF_TOKEN="hf_expired")
    assert said == f"error: models.yaml: {REPO}: the Hub refuses HF_TOKEN; put a valid one in .env\n"


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": TOKEN}], ids=["anonymous", "with a token"])
def test_unknown_repository(workspace: Workspace, hub: FakeHub, token: dict[str, str]) -> None:
    assert fetch(workspace, hub, **token) == (
        f"error: models.yaml: {REPO}: no such repository, or private; check its name, and HF_TOKEN in .env\n"
    )
    assert workspace.files() == []


@pytest.mark.parametrize("revision", ["v2", "0" * 40])
def test_unknown_revision(workspace: Workspace, hub: FakeHub, revision: str) -> None:
    hub.commit(REPO, small_files())
    workspace.choose("tiny", tiny=ENTRY | {"revision": revision})
    said = fetch(workspace, hub)
    assert said == f"error: models.yaml: {REPO}: no revision {revision}; name a branch, tag or commit\n"
    assert workspace.files() == []


def test_name_that_is_no_repository(workspace: Workspace, hub: FakeHub) -> None:
    workspace.choose("tiny", tiny=ENTRY | {"repo": "https://huggingface.co/tests/tiny"})
    assert fetch(workspace, hub) == (
        "error: models.yaml: https://huggingface.co/tests/tiny: not the name of a repository; allowed: OWNER/NAME\n"
    )


@pytest.mark.parametrize("down", ["stopped", "offline"])
def test_nothing_cached_and_no_network(workspace: Workspace, hub: FakeHub, down: str) -> None:
    hub.commit(REPO, small_files())
    if down == "stopped":
        hub.stop()
    assert fetch(workspace, hub, HF_HUB_OFFLINE=str(int(down == "offline"))) == (
        f"error: models.yaml: {REPO}: revision main is not in the Hub's cache, and the Hub is not to be reached; "
        "connect to it once\n"
    )
    assert workspace.files() == []


def test_download_that_breaks_off_is_taken_up_again(workspace: Workspace, hub: FakeHub) -> None:
    commit = hub.commit(REPO, small_files())
    hub.store_is_down = True
    url = f"{hub.store}/tests%2Ftiny-llama/{commit}/model.safetensors"
    assert fetch(workspace, hub) == (
        f"error: models.yaml: {REPO}: the download failed "
        f"(HfHubHTTPError: Server error '500 Internal Server Error' for url '{url}'); run it again\n"
    )
    assert workspace.files() == []
    offline = fetch(workspace, hub, HF_HUB_OFFLINE="1")
    assert offline.startswith(f"error: models.yaml: {REPO}: revision main is not in the Hub's cache, ")
    hub.store_is_down = False
    assert fetch(workspace, hub) == f"tiny is in {snapshot(workspace, commit)}\n"


def test_pickled_weights_are_refused(workspace: Workspace, hub: FakeHub) -> None:
    hub.commit(REPO, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    assert fetch(workspace, hub) == (
        f"error: models.yaml: {REPO}: no safetensors weights; other formats can run code and are not loaded\n"
    )
    assert hub.fetched() == ["config.json"]
    assert workspace.files() == []


def test_longer_prompt_than_the_model_takes(workspace: Workspace, hub: FakeHub) -> None:
    workspace.choose("tiny", tiny=ENTRY | {"max_length": 1023})
    assert fetch(workspace, hub) == (
        "error: params.yaml: prompt.max_tokens = 1024: tiny takes at most 1023 tokens; lower it\n"
    )
    assert hub.requests == []


def test_model_that_the_registry_lacks(workspace: Workspace, hub: FakeHub) -> None:
    workspace.choose("solar", tiny=ENTRY, other=ENTRY)
    said = fetch(workspace, hub)
    assert said == 'error: params.yaml: model.name = "solar": not in models.yaml; allowed: other, tiny\n'


def test_entry_that_is_broken(workspace: Workspace, hub: FakeHub) -> None:
    workspace.choose("tiny", tiny=ENTRY | {"prompt": "chatml"})
    assert fetch(workspace, hub) == 'error: models.yaml: tiny.prompt = "chatml": allowed: plain, chat\n'


def test_failure_leaves_the_manifest_of_before(workspace: Workspace, hub: FakeHub) -> None:
    hub.commit(REPO, small_files())
    fetch(workspace, hub)
    before = manifest(workspace)
    workspace.choose("tiny", tiny=ENTRY | {"repo": "tests/none"})
    assert fetch(workspace, hub).startswith("error: ")
    assert manifest(workspace) == before
    assert workspace.files() == ["models/base.json"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "bart", "is_encoder_decoder": True},
            "its model type 'bart' is an encoder-decoder, and not one that can be trained here; allowed: cohere, ",
        ),
        (
            {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}},
            "its weights are quantized already (fp8); name the checkpoint that they were made from, ",
        ),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_before_its_weights_come(
    config: dict[str, Any], said: str, workspace: Workspace, hub: FakeHub
) -> None:
    hub.commit(REPO, small_files(**{"config.json": json.dumps(config).encode()}))
    refused = fetch(workspace, hub)
    assert refused.startswith(f"error: models.yaml: tiny: {said}")
    assert refused.count("\n") == 1
    assert hub.fetched() == ["config.json"]
    assert workspace.files() == []
