"""`augment.llm` for tests and benchmarks."""

from __future__ import annotations

from typing import Any

from stages.core.params import Llm, read_yaml
from tests.fake_openai import ROOT


def llm_settings(**changes: Any) -> Llm:
    """The repository's settings with some changed; `base_url` has to be among them."""
    defaults = read_yaml(ROOT / "params.yaml")["augment"]["llm"]
    return Llm(**(defaults | {"timeout": 20.0, "without_key": "stop"} | changes))
