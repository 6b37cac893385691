"""Fetch the base model and record what it is: `python -m stages.fetch_model` writes models/base.json."""

from __future__ import annotations

import logging

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import write_json
from stages.core.params import load_params
from stages.models.download import fetch
from stages.models.families import refuse_unknown
from stages.models.registry import read_entry

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    entry = read_entry(params.model.name)
    if params.prompt.max_tokens > entry.max_length:
        raise UserError(
            f"params.yaml: prompt.max_tokens = {params.prompt.max_tokens}: "
            f"{params.model.name} takes at most {entry.max_length} tokens; lower it"
        )
    name = params.model.name
    folder, identity = fetch(name, entry, lambda folder: refuse_unknown(folder, f"models.yaml: {name}"))
    write_json(paths.MANIFEST, {"name": name, **entry.model_dump(exclude_none=True), **identity})
    logger.info("%s is in %s", name, folder)


if __name__ == "__main__":
    run_stage(main)
