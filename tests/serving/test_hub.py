"""Pushing an adapter through the real client of the Hub, to a server on loopback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import save_file

from stages import export
from stages.core import paths
from stages.core.errors import UserError
from tests.fake_hub import TOKEN, FakeHub
from tests.tiny_project import ROOT

REPO = "my-team/summaries"
SIZES = {"README.md": 39, "adapter_config.json": 3, "adapter_model.safetensors": 104, "prompt.json": 3}
LISTING = "".join(f"{size:>12}  models/adapter/{name}\n" for name, size in SIZES.items())


@pytest.fixture
def adapter(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an adapter, what may lie beside it, and a token in .env; the Hub is the one here."""
    folder = tmp_path / "workspace"
    monkeypatch.chdir(fill(folder))
    monkeypatch.setenv("HF_TOKEN", "")  # so that what .env says is taken back after the test
    for name in ("HF_TOKEN", "DVC_ROOT", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    close_session()
    return folder / paths.ADAPTER


def fill(folder: Path) -> Path:
    adapter = folder / paths.ADAPTER
    adapter.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    (adapter / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# Adapter\n")
    for name in ("adapter_config.json", "prompt.json"):
        (adapter / name).write_text("{}\n")
    save_file({"a": torch.arange(10.0)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.bin").write_bytes(b"pickle")
    (adapter / ".env").write_text("SECRET=1\n")
    (folder / ".env").write_text(f"HF_TOKEN={TOKEN}\n")
    return folder


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        export.main(["--push", REPO, *arguments])
    assert TOKEN not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("public", [False, True])
def test_the_adapter_alone_goes_into_a_new_repository(
    public: bool, adapter: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main(["--push", REPO, *["--public"][:public]])
    said = capsys.readouterr()
    visibility = "public" if public else "private"
    assert said.out == f"To {REPO}, {visibility}:\n{LISTING}Pushed: {hub.endpoint}/{REPO}\n"
    assert TOKEN not in said.err
    assert hub.files(REPO) == {name: (adapter / name).read_bytes() for name in SIZES}
    assert (REPO in hub.private) is not public
    # The store of large files is another host, which the token is not for; anybody may ask the Hub for its harnesses.
    asked = [request for request in hub.requests if request.path != "/api/agent-harnesses"]
    assert {(request.host, request.authorization) for request in asked} == {
        ("127.0.0.1", f"Bearer {TOKEN}"),
        ("localhost", None),
    }


def test_a_dry_run_asks_nobody(adapter: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    (adapter.parents[1] / ".env").unlink()
    export.main(["--push", REPO, "--dry-run"])
    assert capsys.readouterr().out == f"To {REPO}, private:\n{LISTING}"
    assert hub.requests == []


def test_a_second_push_changes_what_changed(adapter: Path, hub: FakeHub) -> None:
    export.main(["--push", REPO])
    hub.commit(REPO, hub.files(REPO) | {".gitattributes": b"*.safetensors filter=lfs"})
    hub.requests.clear()
    export.main(["--push", REPO])
    assert not [request.path for request in hub.requests if "/commit/" in request.path]
    (adapter / "prompt.json").write_text('{"style": "chat"}\n')
    export.main(["--push", REPO])
    assert sorted(hub.files(REPO)) == [".gitattributes", *sorted(SIZES)]
    assert hub.files(REPO)["prompt.json"] == b'{"style": "chat"}\n'


def test_a_repository_that_everybody_sees_is_written_to_only_if_asked_for(adapter: Path, hub: FakeHub) -> None:
    hub.commit(REPO, {})
    assert refused() == f"--push {REPO}: is there and public; add --public, or name another"
    hub.private.add(REPO)
    assert refused("--public") == (
        f"--push {REPO}: is there and private; leave --public out, or change that on the Hub first"
    )
    assert hub.files(REPO) == {}


def test_no_token(adapter: Path, hub: FakeHub) -> None:
    (adapter.parents[1] / ".env").write_text("OTHER=1\n")
    assert refused() == (
        "HF_TOKEN: not set; put a token that may write into .env (https://huggingface.co/settings/tokens)"
    )
    assert hub.requests == []


def test_a_token_that_the_hub_does_not_know(adapter: Path) -> None:
    (adapter.parents[1] / ".env").write_text("HF_TOKEN=hf_expired\n")
    assert refused() == f"--push {REPO}: the Hub refuses HF_TOKEN; put a valid one into .env"


@pytest.mark.parametrize("there", [False, True])
def test_no_right_to_write(there: bool, adapter: Path, hub: FakeHub) -> None:
    hub.owners.clear()
    if there:
        hub.commit(REPO, {})
        hub.private.add(REPO)
    assert refused() == (
        f"--push {REPO}: HF_TOKEN may not write to my-team; put one that may into .env "
        "(https://huggingface.co/settings/tokens)"
    )


@pytest.mark.parametrize("name", ["summaries", "https://huggingface.co/my-team/x", "my-team/a--b", "/x", "my team/x"])
def test_a_name_that_no_repository_has(name: str, adapter: Path, hub: FakeHub) -> None:
    with pytest.raises(UserError) as error:
        export.main(["--push", name, "--dry-run"])
    assert str(error.value) == (
        f"--push {name}: not the name of a repository; allowed: OWNER/NAME, as in my-team/summaries"
    )


def test_a_store_that_fails(adapter: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries again
    hub.store_is_down = True
    assert refused() == f"--push {REPO}: the Hub answers 503: The store is down; run it again"
    assert hub.files(REPO) == {}


def test_before_training(adapter: Path) -> None:
    (adapter / "README.md").unlink()
    assert refused("--dry-run") == "models/adapter/README.md: not found; run `dvc repro train`"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--public"], "arguments --public, --dry-run: only with --push OWNER/NAME"),
        (["--dry-run"], "arguments --public, --dry-run: only with --push OWNER/NAME"),
        (["--push", REPO, "--output", "x"], "argument --output: not allowed with argument --push"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        export.main(arguments)
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


@pytest.mark.parametrize("down", ["stopped", "offline"])
def test_no_network(down: str, adapter: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    if down == "stopped":
        hub.stop()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", down == "offline")
    assert refused() == (
        f"--push {REPO}: the Hub is not to be reached; connect to it, without HF_HUB_OFFLINE, and run it again"
    )
