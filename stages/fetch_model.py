"""Fetch the base model and record what it is: `python -m stages.fetch_model` writes models/base.json."""

from __future__ import annotations

import logging
from pathlib import Path

from stages.common.errors import UserError, run_stage
from stages.common.files import write_json
from stages.common.params import load_params
from stages.common.registry import read_entry
from stages.common.weights import fetch

MANIFEST = Path("models/base.json")

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    entry = read_entry(params.model.name)
    if params.prompt.max_tokens > entry.max_length:
        raise UserError(
            f"params.yaml: prompt.max_tokens = {params.prompt.max_tokens}: "
            f"{params.model.name} takes at most {entry.max_length} tokens; lower it"
        )
    folder, identity = fetch(params.model.name, entry)
    write_json(MANIFEST, {"name": params.model.name, **entry.model_dump(exclude_none=True), **identity})
    logger.info("%s is in %s", params.model.name, folder)


if __name__ == "__main__":
    run_stage(main)
