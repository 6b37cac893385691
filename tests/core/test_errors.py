from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import disk_failure

ROOT = Path(__file__).parents[2]


def run(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a stage with this body of `main`, in a process of its own."""
    script = (
        "import logging\n"
        "from stages.core.errors import UserError, run_stage\n\n"
        f"def main():\n    {body}\n\n"
        "run_stage(main)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
    )


def test_success_says_what_main_says() -> None:
    done = run("logging.getLogger('stages.clean').info('%d rows', 8)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "8 rows\n")


def test_user_error_is_one_line() -> None:
    done = run("raise UserError('data/raw/train.csv: row train_7: empty dialogue; 채우세요')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: data/raw/train.csv: row train_7: empty dialogue; 채우세요\n"


def test_user_error_comes_after_what_was_said() -> None:
    done = run("logging.info('8 rows'); raise UserError('no row is left')")
    assert (done.returncode, done.stderr) == (1, "8 rows\nerror: no row is left\n")


def test_user_error_that_another_one_caused_is_still_one_line() -> None:
    done = run("try: 1 / 0\n    except ZeroDivisionError: raise UserError('data.limit = 0: take more rows')")
    assert (done.returncode, done.stderr) == (1, "error: data.limit = 0: take more rows\n")


def test_terminal_without_korean_gets_the_error_too() -> None:
    done = run("raise UserError('행이 없음')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "error: \\ud589\\uc774 \\uc5c6\\uc74c\n")


def test_mistake_of_ours_keeps_its_traceback() -> None:
    done = run("1 / 0")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_libraries_keep_their_requests_to_themselves() -> None:
    done = run("[logging.getLogger(name).info('HTTP Request: GET') for name in ('httpx', 'httpx2', 'openai')]")
    assert (done.returncode, done.stderr) == (0, "")


FULL = "No space left on device; free some space and run it again"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("open('/dev/full', 'w').write('x' * 100_000)", f"output: {FULL}"),
        ("raise OSError(122, 'Disk quota exceeded')", "output: Disk quota exceeded; free some of your quota"),
    ],
)
def test_a_disk_that_refuses_is_one_line(body: str, line: str) -> None:
    done = run(body)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1


def test_output_that_a_full_disk_does_not_take_is_one_line() -> None:
    script = "from stages.core.errors import run_stage; run_stage(lambda: print('summary'))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
    assert (done.returncode, done.stderr) == (1, f"error: output: {FULL}\n")


@pytest.mark.parametrize(
    ("save", "line"),
    [
        (
            "safetensors.torch.save_file({'x': torch.zeros(10_000)}, path)",
            "output: File too large; raise the limit (ulimit -f) and run it again",
        ),
        (
            "torch.save({'x': torch.zeros(10_000)}, path)",
            "output: cannot be written whole; free some space and run it again",
        ),
    ],
)
def test_libraries_that_say_it_in_words_of_their_own(tmp_path: Path, save: str, line: str) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    imports = f"import resource, torch, safetensors.torch; path = {str(tmp_path / 'weights')!r}"
    done = run(f"{imports}; {limit}; {save}")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {line}\n")


def test_other_errors_are_no_disk_s() -> None:
    assert disk_failure(ValueError("what else"), "models/adapter") is None
    assert disk_failure(FileNotFoundError(2, "No such file", "x"), "models/adapter") is None


def into_closed_pipe(body: str, *arguments: str) -> tuple[int, str]:
    """Run a stage whose output is read up to the first line, as by `| head -1`; give its exit code and errors."""
    script = (
        "import argparse, subprocess, sys\n"
        "from stages.core.errors import UserError, run_stage\n\n"
        f"def main():\n    {body}\n\n"
        "print('first', flush=True)\n"
        "sys.stdin.read()\n"
        "run_stage(main)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},  # where argparse keeps it to itself
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as stage:
        assert stage.stdin and stage.stdout and stage.stderr
        assert stage.stdout.readline() == "first\n"
        stage.stdout.close()
        stage.stdin.close()
        said = stage.stderr.read()
    return stage.returncode, said


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("print('summary')", ()),
        ("[print('summary') for _ in range(100_000)]", ()),
        ("print('summary' * 100_000)", ()),
        ("argparse.ArgumentParser().parse_args()", ("--help",)),
    ],
)
def test_output_that_nobody_reads_any_more_ends_quietly(body: str, arguments: tuple[str, ...]) -> None:
    assert into_closed_pipe(body, *arguments) == (141, "")


def test_a_mistake_is_told_where_nobody_reads_the_output() -> None:
    assert into_closed_pipe("print('summary'); raise UserError('no row is left')") == (1, "error: no row is left\n")


def test_another_pipe_that_breaks_keeps_its_traceback() -> None:
    done = run("raise BrokenPipeError(32, 'Broken pipe')")
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError: [Errno 32] Broken pipe\n")
