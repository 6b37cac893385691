"""Train as TRL does by default, on the tables of the last run: `python -m benchmarks.plain_trl` writes models/adapter.

Padded rows, PEFT's own layers over 4-bit weights, adapters in bfloat16 and no early stopping; rows, prompt, rank and
learning rate are those of params.yaml. The stages after training take the adapter as they take ours.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import set_seed

from benchmarks.quality import PLAIN, trainer_for
from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import read_json, replacing
from stages.core.params import load_params
from stages.models.adapter_files import save_adapter
from stages.training.data import read_training_data


def main() -> None:
    params = load_params()
    manifest = read_json(paths.MANIFEST)
    data = read_training_data(params, manifest)
    with TemporaryDirectory() as output:
        set_seed(params.seed)
        trainer = trainer_for(PLAIN, params, data.builder, data.rows, Path(output))
        set_seed(params.seed)
        trainer.train()
    with replacing(paths.ADAPTER) as adapter:
        adapter.mkdir()
        save_adapter(trainer.model, adapter, manifest.get("repo", manifest["name"]))
        data.builder.settings.save(adapter)


if __name__ == "__main__":
    run_stage(main)
