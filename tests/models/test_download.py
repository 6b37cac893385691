from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from stages.core.errors import UserError
from stages.models.download import fetch, locate
from stages.models.registry import LocalEntry, PackageEntry, read_entry
from tests.fake_hub import FakeHub, Workspace
from tests.tiny import build_tiny_checkpoint

ROOT = Path(__file__).parents[2]
CHECKPOINT = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
ENTRY: dict[str, Any] = {
    "source": "package",
    "package": "tiny_gguf",
    "file": "tiny.gguf",
    "repo": "tests/tiny-gguf",
    "revision": "main",
    "prompt": "plain",
    "max_length": 2048,
    "licence": "apache-2.0",
}
Install = Callable[[str], Path]

TEXT = "#Person1#: 안녕하세요? 오늘 3시에 봐요.</s>"

# Bodies of `assemble(target)` in a package that carries the GGUF file: as it should be, and as it may go wrong.
JOINS = "(here / 'calls').open('a').write('assemble\\n'); shutil.copy(here / 'tiny.gguf', target)"
JOINS_OTHER_BYTES = "target.write_bytes(b'GGUF of another model')"
LACKS_A_PART = "raise FileNotFoundError('Missing chunk files: tiny.gguf.part02')"
LACKS_A_PACKAGE = "import tiny_gguf_part3"
STOPS_HALF_WAY = "target.write_bytes(b'GGUF'); (here / 'calls').touch(); time.sleep(60)"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tiny_gguf(checkpoint: Path) -> Path:
    """The tiny checkpoint as llama.cpp would have it, with its matrices in 8 bits."""
    path = checkpoint.parent / "tiny.gguf"
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    model = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].__getitem__))
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(model["vocab"]) - 3))
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        data = tensor.float().numpy()
        for projection, count in (("q_proj", heads), ("k_proj", config["num_key_value_heads"])):
            if projection in name:
                # llama.cpp rotates neighbouring rows of a head, transformers the two halves of one.
                data = data.reshape(count, 2, -1, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
        target = names.get_name(name, try_suffixes=(".weight",))
        assert target
        if data.ndim == 1:
            writer.add_tensor(target, data)
        else:
            quantized = gguf.quantize(np.ascontiguousarray(data), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(target, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder, with the working folder elsewhere, as in a queued experiment."""
    project = tmp_path / "project"
    elsewhere = tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DVC_ROOT", str(project))
    return project


def entry_of(gguf_file: Path) -> PackageEntry:
    return PackageEntry.model_validate(ENTRY | {"sha256": hashlib.sha256(gguf_file.read_bytes()).hexdigest()})


@pytest.fixture
def install(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs the package that carries the GGUF file, with one of the bodies above; returns its folder."""
    package = tmp_path / "packages" / "tiny_gguf"

    def install(assemble: str) -> Path:
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_gguf, package)
        (package / "__init__.py").write_text(
            "import shutil, time\nfrom pathlib import Path\n\nhere = Path(__file__).parent\n\n\n"
            f"def assemble(target):\n    {assemble}\n",
            encoding="utf-8",
        )
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.delitem(sys.modules, "tiny_gguf", raising=False)
        return package

    return install


def weights(project: Path) -> list[str]:
    """What lies in the folder of unpacked models, without the locks that wait there for the next run."""
    return sorted(path.name for path in (project / "models" / "weights").iterdir() if path.suffix != ".lock")


def test_package_is_unpacked_exactly(project: Path, checkpoint: Path, tiny_gguf: Path, install: Install) -> None:
    install(JOINS)
    entry = entry_of(tiny_gguf)
    folder, identity = fetch("tiny", entry)
    assert folder == project / "models" / "weights" / f"tiny-{entry.sha256[:12]}"
    assert weights(project) == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == CHECKPOINT
    assert identity == {
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in CHECKPOINT}
    }

    original, unpacked = load_file(checkpoint / "model.safetensors"), load_file(folder / "model.safetensors")
    assert unpacked.keys() == original.keys()
    for name, tensor in original.items():
        assert unpacked[name].dtype == torch.bfloat16
        # 8 bits leave each block of 32 weights 127 steps to its largest, and bfloat16 rounds to 8 bits once more.
        torch.testing.assert_close(unpacked[name], tensor, rtol=2**-8, atol=float(tensor.abs().max()) / 254)
    ids = [AutoTokenizer.from_pretrained(path)(TEXT).input_ids for path in (checkpoint, folder)]
    assert ids[0] == ids[1]
    assert str(project).encode() not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_package_is_unpacked_once(project: Path, tiny_gguf: Path, install: Install) -> None:
    """Queued experiments start side by side: one unpacks, the others wait for it."""
    package = install(JOINS)
    entry = entry_of(tiny_gguf)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(fetch("tiny", entry)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 3
    assert len(set(folders)) == 1
    assert (package / "calls").read_text() == "assemble\n"


def test_two_projects_get_the_same_bytes(
    tmp_path: Path, tiny_gguf: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(JOINS)
    identities = []
    for name in ("one", "another"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        identities.append(fetch("tiny", entry_of(tiny_gguf))[1])
    assert identities[0] == identities[1]


def test_manifest_brings_the_package_back(project: Path, tiny_gguf: Path, install: Install) -> None:
    """models/base.json may come out of DVC's cache on a machine that has never fetched the model."""
    install(JOINS)
    entry = entry_of(tiny_gguf)
    folder, identity = fetch("tiny", entry)
    shutil.rmtree(folder)
    assert locate({"name": "tiny", **entry.model_dump(exclude_none=True), **identity}) == folder
    assert fetch("tiny", entry) == (folder, identity)


@pytest.mark.parametrize(
    ("assemble", "message"),
    [
        (
            JOINS_OTHER_BYTES,
            "models.yaml: tiny: tiny.gguf has another SHA-256 than the registry; "
            "pip install --force-reinstall tiny-gguf",
        ),
        (
            LACKS_A_PART,
            "models.yaml: tiny_gguf: Missing chunk files: tiny.gguf.part02; pip install --force-reinstall tiny-gguf",
        ),
        (
            LACKS_A_PACKAGE,
            "models.yaml: tiny_gguf: No module named 'tiny_gguf_part3'; pip install --force-reinstall tiny-gguf",
        ),
    ],
    ids=["other bytes", "a part lacks", "a package lacks"],
)
def test_broken_package(project: Path, tiny_gguf: Path, install: Install, assemble: str, message: str) -> None:
    install(assemble)
    with pytest.raises(UserError) as error:
        fetch("tiny", entry_of(tiny_gguf))
    assert str(error.value) == message
    assert weights(project) == []


def test_killed_half_way_counts_for_nothing(project: Path, tiny_gguf: Path, install: Install) -> None:
    package = install(STOPS_HALF_WAY)
    entry = entry_of(tiny_gguf)
    script = (
        "from stages.models.registry import PackageEntry\n"
        "from stages.models.download import fetch\n"
        f"fetch('tiny', PackageEntry.model_validate({entry.model_dump()}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(package.parent)])}
    running = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (package / "calls").exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    folder = f"tiny-{entry.sha256[:12]}"
    assert weights(project) == [f".{folder}.tmp"]

    install(JOINS)
    fetch("tiny", entry)
    assert weights(project) == [folder]
    assert sorted(path.name for path in (project / "models" / "weights" / folder).iterdir()) == CHECKPOINT


def test_hub_copy_stands_in_for_the_package(tmp_path: Path, project: Path, tiny_gguf: Path, install: Install) -> None:
    entry = entry_of(tiny_gguf)
    workspace = Workspace(tmp_path)
    workspace.choose("tiny", tiny=entry.model_dump(exclude_none=True))
    with FakeHub() as hub:
        commit = hub.commit(ENTRY["repo"], {"tiny.gguf": tiny_gguf.read_bytes(), "README.md": b"# Tiny"})
        done = workspace.python("-m", "stages.fetch_model", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "tiny_gguf is not installed; taking tests/tiny-gguf from the Hub"
    assert hub.fetched() == ["tiny.gguf"]
    assert {request.path for request in hub.requests} == {
        "/tests/tiny-gguf/resolve/main/tiny.gguf",
        f"/store/tests%2Ftiny-gguf/{commit}/tiny.gguf",
    }
    manifest = json.loads((workspace.folder / "models" / "base.json").read_text(encoding="utf-8"))

    install(JOINS)
    assert manifest == {"name": "tiny", **entry.model_dump(exclude_none=True), **fetch("tiny", entry)[1]}


def test_hub_copy_is_checked_too(tmp_path: Path, tiny_gguf: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.choose("tiny", tiny=entry_of(tiny_gguf).model_dump(exclude_none=True))
    with FakeHub() as hub:
        hub.commit(ENTRY["repo"], {"tiny.gguf": b"GGUF of another model"})
        done = workspace.python("-m", "stages.fetch_model", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 1
    assert done.stderr == (
        "tiny_gguf is not installed; taking tests/tiny-gguf from the Hub\n"
        "error: models.yaml: tiny: tiny.gguf has another SHA-256 than the registry; "
        "pip install --force-reinstall tiny-gguf\n"
    )
    assert weights(workspace.folder) == []
    assert not (workspace.folder / "models" / "base.json").exists()


def test_neither_package_nor_hub(tmp_path: Path, tiny_gguf: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.choose("tiny", tiny=entry_of(tiny_gguf).model_dump(exclude_none=True))
    done = workspace.python("-m", "stages.fetch_model", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert done.stderr == (
        "tiny_gguf is not installed; taking tests/tiny-gguf from the Hub\n"
        "error: models.yaml: tiny_gguf is not installed, and its second source fails: tests/tiny-gguf: revision main "
        "is not in the Hub's cache, and the Hub is not to be reached; connect to it once, or pip install tiny-gguf\n"
    )
    assert weights(workspace.folder) == []


def local_entry(path: str) -> LocalEntry:
    return LocalEntry(source="local", path=path, prompt="plain", max_length=2048, licence="apache-2.0")


@pytest.mark.parametrize("path", ["checkpoints/tiny", "~/tiny", "{tmp_path}/tiny"])
def test_local_folder(
    project: Path, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A path in the registry starts at the project, at the home folder or at the root of the file system."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = path.format(tmp_path=tmp_path)
    folder = project / Path(path).expanduser()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(checkpoint)
    entry = local_entry(path)
    found, identity = fetch("tiny", entry)
    assert found == folder
    assert sorted(identity["files"]) == CHECKPOINT
    assert locate({"name": "tiny", **entry.model_dump(exclude_none=True), **identity}) == folder


def test_local_folder_that_is_no_checkpoint(project: Path) -> None:
    with pytest.raises(UserError) as error:
        fetch("tiny", local_entry("tiny"))
    assert str(error.value) == "models.yaml: path = 'tiny': no config.json there; name a checkpoint's folder"
    (project / "tiny").mkdir()
    (project / "tiny" / "config.json").write_text("{}")
    (project / "tiny" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError) as error:
        fetch("tiny", local_entry("tiny"))
    assert str(error.value) == (
        "models.yaml: tiny: no safetensors weights; other formats can run code and are not loaded"
    )


@pytest.mark.slow
def test_embedded_model(project: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package: 270 million weights."""
    # Its 800,000 fields are read once: transformers would read them for the configuration, tokenizer and weights anew.
    monkeypatch.setattr(gguf, "GGUFReader", cache(gguf.GGUFReader))
    caplog.set_level(logging.INFO)
    entry = read_entry("gemma3-270m", ROOT / "models.yaml")
    folder, identity = fetch("gemma3-270m", entry)
    assert folder.name == "gemma3-270m-a5fd3b62230a"
    assert sorted(identity["files"]) == CHECKPOINT
    assert "Unpacking gemma-3-270m-q4_k_m.gguf to safetensors" in caplog.messages
    tensors = load_file(folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == 268_098_176
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "#Person1#: 안녕하세요? 오늘 3시에 봐요."
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
