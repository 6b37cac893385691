from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn.functional import log_softmax

from stages import candidates, folds, infer, train, tune_decoding
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, remove, write_json
from stages.core.params import load_params
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import read_table, references
from stages.decoding.postprocess import process
from stages.engines.load_writers import load_writer
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.scoring.candidates import read_candidates
from stages.scoring.objective import Objective
from tests.test_train import Killed
from tests.tiny_project import configure

OUTPUTS = (paths.CANDIDATES, paths.CANDIDATE_SCORES)


def trained_folds() -> None:
    """A project with two folds, whose adapters and the run's own are trained, and candidates asked for."""
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        folds={"n": 2},
        train={"epochs": 1, "preview_samples": 0},
        candidates={"samples": 3, "num_beams": 2},
    )

    def in_turn(commands: Mapping[str, Sequence[str]], *args: object) -> None:
        for _, _, _, number in commands.values():
            folds.main([number])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "run_side_by_side", in_turn)
        patch.setattr(folds, "end_with_parent", lambda: None)
        folds.main([])
    train.main()


@pytest.fixture
def project(project_after: Callable[..., Path]) -> None:
    project_after(trained_folds)


def likelihood(writer: TransformersWriter, dialogue: str, text: str) -> float:
    """The mean log probability of a summary's tokens, from all logits of a row that stands alone."""
    prompt, completion = writer.builder.prompt_ids(dialogue), writer.builder.completion_ids(text)
    with torch.no_grad():
        logits = writer.model(input_ids=torch.tensor([prompt + completion])).logits[0].float()
    predicted = log_softmax(logits[len(prompt) - 1 : -1], dim=1)
    return predicted.gather(1, torch.tensor(completion)[:, None]).mean().item()


def test_candidates_of_a_row_come_from_the_adapter_that_has_not_seen_it(project: None) -> None:
    candidates.main()
    params = load_params()
    rows = read_candidates(paths.CANDIDATES)
    fold_rows = pd.read_csv(paths.FOLD_ROWS, dtype=str)
    of = dict(zip(fold_rows["fname"], fold_rows["fold"], strict=True))
    merged, dev = read_table(paths.MERGED, "train").set_index("fname"), read_table(paths.DEV, "dev")
    assert {row.fname: row.fold for row in rows if row.split == "train"} == of
    assert [(row.fname, row.fold) for row in rows if row.split == "dev"] == [(name, "") for name in dev["fname"]]
    texts = {**merged["dialogue"], **dict(zip(dev["fname"], dev["dialogue"], strict=True))}
    refs = {name: [text] for name, text in merged["summary"].items()}
    refs |= dict(zip(dev["fname"], references(dev), strict=True))
    objective = Objective("balanced")
    for adapter, fold in ((paths.FOLDS / "0", "0"), (paths.FOLDS / "1", "1"), (paths.ADAPTER, "")):
        model = load_for_generation(paths.MANIFEST, adapter, params.quantization)
        writer = TransformersWriter(model, PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(adapter)))
        for row in (row for row in rows if row.fold == fold):
            settings = DecodingSettings(params.decoding.max_new_tokens, num_beams=2)
            [written] = writer.candidates([texts[row.fname]], settings, Sampling(3, 1.0, params.seed))
            processed = [process(text, params.decoding.postprocess) for text in written]
            expected = [(text, number >= 2) for number, text in enumerate(processed) if text]
            assert [(each.text, each.sampled) for each in row.candidates] == expected
            for each in row.candidates:
                assert each.likelihood == pytest.approx(likelihood(writer, texts[row.fname], each.text), abs=1e-3)
            by_hand = objective.rows([each.text for each in row.candidates], [refs[row.fname]] * len(row.candidates))
            assert [fmean(each.scores.values()) for each in row.candidates] == pytest.approx(by_hand, abs=1e-3)
    report = read_json(paths.CANDIDATE_SCORES)
    assert (report["train"]["rows"], report["dev"]["rows"]) == (12, 5)
    assert report["train"]["candidates"] == sum(len(row.candidates) for row in rows if row.split == "train")
    assert not list(Path("models/partial").glob("*.jsonl"))


def test_a_killed_run_goes_on_without_writing_again(project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(decoding={"batch_size": 2})
    asked: list[str] = []
    write = TransformersWriter.candidates

    def counted(writer: TransformersWriter, dialogues: Sequence[str], *args: Any) -> list[list[str]]:
        asked.extend(dialogues)
        return write(writer, dialogues, *args)

    monkeypatch.setattr(TransformersWriter, "candidates", counted)
    candidates.main()
    whole, every = [path.read_bytes() for path in OUTPUTS], list(asked)
    for path in OUTPUTS:
        remove(path)
    asked.clear()

    def dies_after(dialogues: int) -> Callable[..., list[list[str]]]:
        def dying(*args: Any) -> list[list[str]]:
            if len(asked) >= dialogues:
                raise Killed
            return counted(*args)

        return dying

    for dialogues in (4, 12):
        with monkeypatch.context() as patch:
            patch.setattr(TransformersWriter, "candidates", dies_after(dialogues))
            with pytest.raises(Killed):
                candidates.main()
        assert not any(path.exists() for path in OUTPUTS)
    candidates.main()
    assert [path.read_bytes() for path in OUTPUTS] == whole
    assert sorted(asked) == sorted(every)


def test_without_candidates_nothing_is_loaded_and_outputs_are_empty(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stages.retraining.candidates", "stages.scoring.candidates"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it would fail
    candidates.main()
    assert paths.CANDIDATES.read_bytes() == b""
    assert read_json(paths.CANDIDATE_SCORES) == {}


def test_a_learned_reranker_from_candidates_to_predictions(project: None) -> None:
    """The weights that `tune_decoding` fits choose what `infer` writes, on a 4-bit base whose adapter is merged."""
    configure(quantization={"load_in_4bit": True, "compute_dtype": "auto"})
    candidates.main()
    learned = {"rerank": "learned", "samples": 3, "min_hangul": 0.0, "tune": False, "num_beams": 2}
    configure(decoding=learned)
    tune_decoding.main()
    fitted = read_json(paths.DECODING)["reranker"]
    assert fitted["cross_validated"]["rows"] == 12
    assert fitted["dev"]["rows"] == 5
    weights = {**dict.fromkeys(fitted["weights"], 0.0), "likelihood": 1.0}
    write_json(paths.DECODING, {**read_json(paths.DECODING), "reranker": {"weights": weights}})
    infer.main()
    params = load_params()
    writer = load_writer(params.quantization, merge=True)
    test = read_table(paths.TEST, "test")
    drawn = writer.candidates(test["dialogue"], DecodingSettings(8, num_beams=2), Sampling(3, 0.7, params.seed))
    texts = [[process(text, params.decoding.postprocess) for text in of] for of in drawn]
    values = [
        [likelihood(writer, dialogue, text) if text else -100 for text in of]
        for dialogue, of in zip(test["dialogue"], texts, strict=True)
    ]
    expected = [of[found.index(max(found))] for of, found in zip(texts, values, strict=True)]
    assert read_predictions(paths.PREDICTIONS / "test.csv", test["fname"]) == expected
    remove(paths.CANDIDATES)
    paths.CANDIDATES.write_text("")
    with pytest.raises(UserError, match=r"^data/candidates.jsonl: holds no candidates; set candidates.samples and run"):
        tune_decoding.main()
