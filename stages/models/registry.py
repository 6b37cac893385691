"""models.yaml: the base models that `model.name` can choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from stages.core.errors import UserError
from stages.core.params import Name, Positive, Section, read_yaml, show, validate
from stages.models.prompt_styles import STYLES

PromptStyle = Annotated[str, Field(pattern=f"^({'|'.join(STYLES)})$", description=", ".join(STYLES))]


class Entry(Section):
    """What every base model has, wherever its weights come from."""

    prompt: PromptStyle
    stop_token: Annotated[Name | None, Field(description="one of the tokenizer's tokens")] = None
    """Ends a summary; none means the tokenizer's own end of sequence."""
    max_length: Positive
    licence: Name


class PackageEntry(Entry):
    """A GGUF file carried by a Python package, with the Hub's copy of it as the second source."""

    source: Literal["package"]
    package: Name
    file: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits in lower case")]
    repo: Name
    revision: Name


class HubEntry(Entry):
    """A repository of the Hugging Face Hub with safetensors weights."""

    source: Literal["hub"]
    repo: Name
    revision: Name


class LocalEntry(Entry):
    """A folder with a checkpoint in the Hugging Face layout."""

    source: Literal["local"]
    path: Name


AnyEntry = PackageEntry | HubEntry | LocalEntry

_ENTRIES: dict[str, type[AnyEntry]] = {"package": PackageEntry, "hub": HubEntry, "local": LocalEntry}


def read_entry(name: str, path: Path = Path("models.yaml")) -> AnyEntry:
    """The registry's entry of one base model.

    Raises:
        UserError: the registry lacks the model, or its entry is not valid.
    """
    registry = read_yaml(path)
    if name not in registry:
        raise UserError(
            f"params.yaml: model.name = {show(name)}: not in {path}; allowed: {', '.join(map(str, registry))}"
        )
    values = registry[name]
    source = values.get("source") if isinstance(values, dict) else None
    kind = _ENTRIES.get(str(source))
    if kind is None:
        raise UserError(f"{path}: {name}.source = {show(source)}: allowed: {', '.join(_ENTRIES)}")
    return validate(kind, values, f"{path}: {name}.")
