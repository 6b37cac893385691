"""A `python` and a `dvc` that have the heavy libraries imported already, for the commands of a test's clone.

Importing torch, transformers, peft and trl takes longer than what a stage does with the tiny model, and importing DVC
longer than what most of its commands do. So one process imports them, and is forked for each `dvc` and each
`python -m stages.NAME` or `benchmarks.NAME` that a clone runs. The stage itself, its modules and its working folder are
the clone's; everything else that is run with this `python` runs with the real one. Where the command is killed, so is
the fork with all that it has started, or alone with KILLED_ALONE in its environment.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pickle
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

LIBRARIES = (
    "torch",
    "torch.nn.attention.varlen",
    "transformers",
    "peft",
    "bitsandbytes",
    "trl",
    "trl.trainer.sft_trainer",
    "datasets",
    "dvclive",
    "pandas",
    "pandera.backends.pandas.builtin_checks",
    "pandera.pandas",
    "pandera.strategies.pandas_strategies",
    "phonenumbers",
    "kiwipiepy",
    "jinja2",
    "ruamel.yaml",
    "transformers.models.llama.modeling_llama",
    "dvc.api",
    "dvc.cli.parser",
    "dvc.repo",
    "dvc.repo.experiments.queue.celery",
    "dvc.repo.experiments.show",
    "dvc.repo.index",
    "dvc.repo.plots",
    "dvc.utils.hydra",
    "dvc_task.app",
    "dulwich.porcelain",
    "hydra",
    "pygit2",
    "hypothesis",  # by pandera
    "openai.resources.chat",
    "aiohttp",
)
READ_AT_IMPORT = ("HF_", "TRANSFORMERS_", "HUGGINGFACE_", "PYTHONHASHSEED", "OMP_")
"""The beginnings of the environment variables that Python or a library reads once, when it starts."""
COMMANDS = ("python", "dvc")
COMMAND = """#!{python} -SE
import array, json, os, socket, sys

words = ["-m", "dvc", *sys.argv[1:]] if os.path.basename(sys.argv[0]) == "dvc" else sys.argv[1:]
if words[:1] != ["-m"] or words[1] != "dvc" and not words[1].startswith(("stages.", "benchmarks.")):
    os.execv({python!r}, [{python!r}, *words])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([os.getcwd(), dict(os.environ), words[1:]]).encode()
server.sendmsg([len(request).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(request)
code = int(server.recv(8))
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""
"""What a clone finds as `python` and as `dvc`: it hands over its streams, and ends as the stage ends."""


def folder_of_python(environment: dict[str, str]) -> str:
    """A folder whose `python` and `dvc` start without importing libraries anew, for the PATH of this environment."""
    once = {key: value for key, value in environment.items() if key.startswith(READ_AT_IMPORT)}
    return _serve(tuple(sorted(once.items())))


@functools.cache
def _serve(once: tuple[tuple[str, str], ...]) -> str:
    folder = Path(tempfile.mkdtemp(prefix="python-"))
    address = str(folder / "socket")
    for name in COMMANDS:
        (folder / name).write_text(COMMAND.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            env={key: value for key, value in os.environ.items() if not key.startswith(READ_AT_IMPORT)}
            | {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}  # tensors need no new pages each time
            | dict(once),
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # which closes when the tests end, however they do
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    return str(folder)


def serve(listener: socket.socket) -> list[str]:
    """Fork for each command. Returns in the fork, with the command's words, its folder, environment and streams set."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        command, _ = listener.accept()
        if os.fork():
            command.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        words = _take_over(command)
        stage = os.fork()
        if not stage:
            os.setpgid(0, 0)
            command.close()
            return words
        with contextlib.suppress(OSError):  # it has done so itself
            os.setpgid(stage, stage)
        ended = threading.Event()
        threading.Thread(target=_kill_with, args=(command, stage, ended), daemon=True).start()
        _, status = os.waitpid(stage, 0)
        ended.set()
        with contextlib.suppress(OSError):  # the command was killed
            command.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def _kill_with(command: socket.socket, stage: int, ended: threading.Event) -> None:
    """Kill a stage when its command is killed, of which the socket tells."""
    command.recv(1)
    if not ended.is_set():
        (os.kill if "KILLED_ALONE" in os.environ else os.killpg)(stage, signal.SIGKILL)


def _take_over(command: socket.socket) -> list[str]:
    streams = array.array("i")
    size, ancillary, _, _ = command.recvmsg(8, socket.CMSG_SPACE(3 * streams.itemsize))
    streams.frombytes(ancillary[0][2])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = bytearray()
    while len(request) < int.from_bytes(size, "big"):
        request += command.recv(1 << 16)
    folder, environment, words = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return list(words)


def read_dictionaries() -> None:
    """Have Kiwi read what scores and spelling ask of its dictionaries: that takes longer than to train the tiny model.

    A fork loses threads, so these have none, and take a list of texts one by one: to the same morphemes.
    """
    import kiwipiepy

    class WithoutThreads(kiwipiepy.Kiwi):  # type: ignore[misc]
        def tokenize(self, text: str | Iterable[str], **options: Any) -> Any:
            tokenize = functools.partial(super().tokenize, **options)
            return tokenize(text) if isinstance(text, str) else map(tokenize, text)

        def analyze(self, text: str | Iterable[str], **options: Any) -> Any:
            analyze = functools.partial(super().analyze, **options)
            return analyze(text) if isinstance(text, str) else map(analyze, text)

    real, ready = kiwipiepy.Kiwi, []
    for options in ({}, {"load_typo_dict": False, "load_multi_dict": False}):
        ready.append((options, WithoutThreads(**options, num_workers=0)))
        ready[-1][1].tokenize("")

    def read(**options: Any) -> Any:
        asked = {name: value for name, value in options.items() if name != "num_workers"}
        return next((kiwi for known, kiwi in ready if known == asked), None) or real(**options)

    kiwipiepy.Kiwi = read


def read_yaml_once() -> None:
    """Have a command parse each text of YAML once: DVC reads each file up to a dozen times."""
    from ruamel.yaml import YAML

    real = YAML.load
    parsed = functools.cache(lambda text: pickle.dumps(real(YAML(typ="safe"), text)))

    def load(self: YAML, stream: Any) -> Any:
        known = isinstance(stream, str) and self.typ == ["safe"] and not self.pure
        return pickle.loads(parsed(stream)) if known else real(self, stream)

    YAML.load = load  # type: ignore[method-assign]


def write_locks_in_c() -> None:
    """Have DVC read and write dvc.lock in C, to the same bytes: Python takes a second for each stage that runs."""
    from dvc import dvcfile
    from dvc.utils.serialize._common import _modify_data
    from dvc.utils.serialize._yaml import parse_yaml
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.add_representer(OrderedDict, type(yaml.representer).represent_dict)

    def dump(data: Any, stream: TextIO) -> None:
        written = io.BytesIO()
        yaml.dump(data, written)
        stream.write(written.getvalue().decode())

    def modify(path: str, fs: Any = None) -> Any:
        return _modify_data(path, parse_yaml, dump, fs=fs) if path.endswith(".lock") else real(path, fs=fs)

    real, dvcfile.modify_yaml = dvcfile.modify_yaml, modify


def main() -> None:
    import transformers.conversion_mapping

    for name in LIBRARIES:
        importlib.import_module(name)
    transformers.conversion_mapping.get_checkpoint_conversion_mapping("llama")  # makes the table for all models
    read_dictionaries()
    read_yaml_once()
    write_locks_in_c()
    gc.freeze()
    sys.path[0] = ""
    module, *arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.path[:1] = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.executable = shutil.which("python") or sys.executable  # stages and DVC start further ones by it
    sys.argv = [module, *arguments]
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    if code is not None and not isinstance(code, int):
        sys.exit(str(code))
    # Python's own end but for one thing: libraries are not taken apart, which takes longer than most stages.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    main()
