"""What a run prints is ours: no warning of a library that a user can do nothing about, and one bar for one work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_project import ROOT, build_project

WARNS_AS_ON_A_CPU_WITH_AVX512_BF16 = """
import importlib.abc, logging, sys

class Warns(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "bitsandbytes.backends.cpu.ops":
            logging.getLogger(name).warning("Failed to load CPU gemm_4bit_forward: No module named 'kernels'")

sys.meta_path.insert(0, Warns())
"""
"""A sitecustomize.py: bitsandbytes says this while it is imported, on some machines."""
BAR = r"{name} *\d+%\|[^|]*\| {total}/{total}[^\r\n]*"
EVALUATION = r"Step \d: loss \d\.\d{4}, on dev \d\.\d{4}"
PREVIEW = r"## dev_\d\n- .*\n- reference: .*"


@pytest.fixture(scope="module")
def project(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a tiny project as a Git and DVC repository, as a clone is."""
    folder = tmp_path_factory.mktemp("quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        build_project({"plain": tiny_checkpoint})
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").touch()
        (folder / "site").mkdir()
        (folder / "site/sitecustomize.py").write_text(WARNS_AS_ON_A_CPU_WITH_AVX512_BF16)
        yield folder


def printed(project: Path, stage: str) -> str:
    """What a stage prints, on either stream, as a terminal shows it in the end; empty lines are left out."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DVC_ROOT", "PYTHONWARNINGS")}
    environment |= {"PYTHONPATH": f"{project / 'site'}:{ROOT}", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", f"stages.{stage}"]
    done = subprocess.run(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    text = done.stdout.decode("utf-8")  # not as text, where a carriage return would end a line
    assert done.returncode == 0, text
    return "".join(f"{line}\n" for line in map(terminal, text.split("\n")) if line)


def terminal(line: str) -> str:
    """A line as a terminal shows it: after a carriage return it writes over what stands there."""
    shown = ""
    for state in line.split("\r"):
        shown = state + shown[len(state) :]
    return shown.rstrip()


def assert_all(text: str, *lines: str) -> None:
    """The text has these lines and no other; each is a regular expression."""
    pattern = "".join(f"{line}\n" for line in lines)
    assert re.fullmatch(pattern, text), f"{text}\n{pattern}"


def test_the_base_model(project: Path) -> None:
    assert printed(project, "fetch_model") == f"plain is in {project}/models/weights/plain\n"


@pytest.mark.slow
def test_training_decoding_and_inference(project: Path) -> None:
    speed = r"\d+ tokens/s, \d+% of the matrix rate, \d+\.\d GiB"
    assert_all(
        printed(project, "train"),
        r"Memory: base dequantized once, .*",
        r"Training: 14 rows in batches of 4, 2 epochs: 8 steps, evaluated and saved every 2 .*; about .* GiB",
        *(4 * [EVALUATION, PREVIEW, PREVIEW]),
        rf"100%\|█+\| 8/8, 00:00 left, {speed}",
        rf"{speed}; the rate is \d+\.\d\d TFLOP/s, and a token takes 4 FLOP for each of [\d,]+ weights",
    )
    losses = (project / "models/training/plots/metrics/train/loss.tsv").read_text(encoding="utf-8").splitlines()
    assert len(losses) == 1 + 8
    assert_all(
        printed(project, "tune_decoding"),
        BAR.format(name="5 settings:", total=3),
        r"chosen on 3 dialogues: .*",
        r"cross-validated: .*",
    )
    assert_all(printed(project, "infer"), BAR.format(name="dev and test:", total=8))


@pytest.mark.parametrize(("arguments", "heard"), [((), False), (("-W", "default"), True)])
def test_deprecations_are_heard_where_python_is_told_so(arguments: tuple[str, ...], heard: bool) -> None:
    code = "import warnings\nfrom stages.core.errors import run_stage\n"
    code += "run_stage(lambda: warnings.warn('old', FutureWarning))"
    done = subprocess.run(
        [sys.executable, *arguments, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ("FutureWarning: old" in done.stderr) is heard
