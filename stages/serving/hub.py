"""Puts the adapter into a repository of the Hugging Face Hub: its weights, configuration, prompt and model card.

What goes there is listed by name, so that nothing else that lies in the folder does, above all no pickled weights.
"""

from __future__ import annotations

from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # documented there

from stages.core.env_file import load_env_file
from stages.core.errors import UserError
from stages.models.prompt import PROMPT_FILE

FILES = ("README.md", "adapter_config.json", "adapter_model.safetensors", PROMPT_FILE)
"""What an adapter is; its licence stands in the model card."""
TOKENS = "https://huggingface.co/settings/tokens"


def adapter_files(folder: Path) -> list[Path]:
    """The files that are pushed.

    Raises:
        UserError: one of them is missing.
    """
    found = [folder / name for name in FILES]
    for path in found:
        if not path.is_file():
            raise UserError(f"{path}: not found; run `dvc repro train`")
    return found


def check_name(repo: str) -> None:
    """See that a name is one that a repository of the Hub can have.

    Raises:
        UserError: it is not.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError:
        owner = ""
    else:
        owner = repo.rpartition("/")[0]
    if not owner:
        raise UserError(f"--push {repo}: not the name of a repository; allowed: OWNER/NAME, as in my-team/summaries")


def listing(files: list[Path], repo: str, public: bool) -> str:
    """What would be pushed where: a line for each file, with its size in bytes."""
    lines = [f"{path.stat().st_size:>12,}  {path}" for path in files]
    return "\n".join([f"To {repo}, {'public' if public else 'private'}:", *lines])


def push(files: list[Path], repo: str, public: bool) -> str:
    """Commit files to the main branch of a repository, which is made where there is none yet.

    Returns:
        The repository's address.

    Raises:
        UserError: there is no token, it may not write there, the Hub cannot be reached or refuses, or a repository of
            that name is there and as visible as was not asked for.
    """
    load_env_file()
    token = get_token()
    if token is None:
        raise UserError(f"HF_TOKEN: not set; put a token that may write into .env ({TOKENS})")
    api = HfApi(token=token)
    try:
        if is_there(api, repo, public):
            address = f"{api.endpoint}/{repo}"
        else:
            address = str(api.create_repo(repo, private=not public))
        additions = [CommitOperationAdd(path.name, path) for path in files]
        api.create_commit(repo, additions, commit_message="Push the adapter")
    except UserError:
        raise
    except Exception as error:  # below the Hub's own errors are those of two transports, of which one is in Rust
        raise UserError(f"--push {repo}: {_why(error, repo)}") from None
    return address


def is_there(api: HfApi, repo: str, public: bool) -> bool:
    """Whether a repository exists.

    Raises:
        UserError: it does, and is private where `public` was asked for, or the other way round.
    """
    try:
        private = api.model_info(repo).private
    except RepositoryNotFoundError:
        return False
    if public and private:
        raise UserError(f"--push {repo}: is there and private; leave --public out, or change that on the Hub first")
    if not public and not private:
        raise UserError(f"--push {repo}: is there and public; add --public, or name another")
    return True


def _why(error: Exception, repo: str) -> str:
    """What went wrong, and what to do."""
    if isinstance(error.__cause__, (HfHubHTTPError, httpx2.TransportError)):
        error = error.__cause__  # as the upload of a large file wraps them
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 401:
            return "the Hub refuses HF_TOKEN; put a valid one into .env"
        if status in (403, 404):
            return f"HF_TOKEN may not write to {repo.partition('/')[0]}; put one that may into .env ({TOKENS})"
        return f"the Hub answers {status}: {error.server_message or 'no reason given'}; run it again"
    if isinstance(error, (OfflineModeIsEnabled, httpx2.TransportError)):
        return "the Hub is not to be reached; connect to it, without HF_HUB_OFFLINE, and run it again"
    reason = str(error).strip().partition("\n")[0]
    return f"the upload failed ({type(error).__name__}: {reason}); run it again"
