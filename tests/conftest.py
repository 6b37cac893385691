"""What several tests share."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest
import torch
from filelock import FileLock

from stages.core.files import write_json
from tests.clone import ROOT, Clone
from tests.fake_hub import FakeHub
from tests.fake_openai import KEY, FakeOpenAI
from tests.preloaded_python import LIBRARIES
from tests.tiny import build_tiny_checkpoint
from tests.tiny_project import build_project

LONGEST = (
    "test_readme.py",
    "test_submit.py",  # by the second process, while the first makes what these two and others begin with
    "test_experiments.py",
    "test_reproducibility.py",
    "test_sweep.py",
    "test_families.py",
    "test_train.py",
    "test_several_gpus.py",
    "test_download.py",
    "test_quiet.py",
    "test_folds.py",
    "test_train_parallel.py",
    "test_retraining.py",
    "test_ablation.py",
    "test_refit.py",
    "test_fetch_model.py",
    "test_hooks.py",
    "test_forges.py",
    "test_llm_faults.py",
    "test_infer.py",
)
"""The files that take minutes, of which one at the end would leave a worker alone with it."""


def pytest_configure() -> None:
    """Examples of property tests may take as long as a busy machine needs."""
    hypothesis.settings.register_profile("unhurried", deadline=None)
    hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Trainings force collections of garbage, which need not look through all that the libraries have made."""
    gc.freeze()


@pytest.fixture(scope="session")
def llm() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as llm:
        yield llm


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        yield running


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Clone:
    """A small copy of the repository in which `make repro` has run and its results are committed.

    Of several processes that test, the first to ask makes it, and each has a copy of its own.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own if worker_id == "master" else own.parent) / "first_run"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            clone = Clone(tmp_path_factory.mktemp("first_run") / "repository")
            clone.link_environment()
            clone.run("make", "repro")
            clone.commit("results")
            clone.folder.rename(shared)
    clone = Clone.copy(shared, tmp_path_factory.mktemp("finished") / "repository")
    clone.link_environment()
    return clone


@pytest.fixture(scope="session")
def lock(finished: Clone) -> bytes:
    """The dvc.lock that the copy's first run ended in."""
    _, results, *_ = finished.git("rev-list", "--reverse", "HEAD").split()
    return finished.git("show", f"{results}:dvc.lock").encode()


@pytest.fixture(scope="session")
def with_llm(finished: Clone, llm: FakeOpenAI) -> Clone:
    """The finished copy, its parameters pointing at a server on loopback whose key is in `.env`."""
    finished.edit("params.yaml", {"augment": {"llm": {"base_url": llm.base_url}}})
    (finished.folder / ".env").write_text(f"UPSTAGE_API_KEY={KEY}\n")
    finished.dvc("repro")
    finished.commit("a server on loopback")
    return finished


@pytest.fixture
def forkserver(monkeypatch: pytest.MonkeyPatch) -> ForkServerContext:
    """Starts processes as `spawn` does, but for what takes ten seconds in each: the libraries are imported once."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES, "stages.train", "stages.tune_decoding", "stages.infer"])
    return context


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A stage that runs in a test sets up logging for its process, which the next test is not to find."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The tiny model's products are too small to share; on a busy machine threads would wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture
def t4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU without bfloat16, flash attention and Triton, as far as PyTorch tells of one: nothing can run on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=7, minor=5))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a chat template."""
    return build_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_chat_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a chat template."""
    return build_tiny_checkpoint(tmp_path_factory.mktemp("tiny_chat"), chat=True)


@pytest.fixture(scope="session")
def tiny_manifest(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the tiny checkpoint, for tests that need no project around it."""
    manifest = tmp_path_factory.mktemp("manifest") / "base.json"
    write_json(manifest, {"name": "tiny", "source": "local", "path": str(tiny_checkpoint), "prompt": "plain"})
    return manifest


@pytest.fixture(scope="session")
def tiny_projects(
    tiny_checkpoint: Path, tiny_chat_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Folders with a project as tests/tiny_project.py builds it, in which functions have run; each is made once."""

    @cache
    def made(*functions: Callable[[], None]) -> Path:
        folder = tmp_path_factory.mktemp("project")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.delenv("DVC_ROOT", raising=False)
            build_project({"plain": tiny_checkpoint, "chat": tiny_chat_checkpoint})
            for function in functions:
                function()
        return folder

    return made


@pytest.fixture
def project_after(
    tiny_projects: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Makes the working folder a copy of the project that functions leave."""

    def enter(*functions: Callable[[], None]) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        return Path(shutil.copytree(tiny_projects(*functions), tmp_path, dirs_exist_ok=True))

    return enter


@pytest.fixture
def tiny_project(project_after: Callable[..., Path]) -> Path:
    """The working folder, with a project as tests/tiny_project.py builds it."""
    return project_after()
