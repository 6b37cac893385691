"""Holds what writes summaries, in this process or in one for each of several GPUs, and deals work to whichever is free.

Which GPU does a piece of work, and in what order they come, decides nothing but the time.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from stages.core.errors import UserError, silence_libraries

if TYPE_CHECKING:  # what engines import is for those who load one
    from stages.core.params import Decoding
    from stages.engines.batches import Limits, Tell
    from stages.engines.writer import Writer

W = TypeVar("W", covariant=True)
"""What writes."""
R = TypeVar("R")
P = ParamSpec("P")
GRACE = 30
"""Seconds that a process has to end by itself, and to end what it started, as vLLM does."""


class Workers(Protocol[W]):
    """One or several that hold the same."""

    def each(self, function: Callable[Concatenate[W, P], R], *arguments: P.args, **named: P.kwargs) -> list[R]:
        """Have each of them do the same: what each returns."""

    def deal(self, function: Callable[..., R], calls: Sequence[tuple[Any, ...]], tell: Tell) -> Iterator[tuple[int, R]]:
        """Do each call once, in any order: its number and what it returns, as they come.

        Args:
            function: of a module's top level. It is given what writes, then something to tell how many more rows are
                done, then a call's arguments.
        """


class Here(Generic[W]):
    """This process."""

    def __init__(self, held: W) -> None:
        self.held = held

    def each(self, function: Callable[Concatenate[W, P], R], *arguments: P.args, **named: P.kwargs) -> list[R]:
        return [function(self.held, *arguments, **named)]

    def deal(self, function: Callable[..., R], calls: Sequence[tuple[Any, ...]], tell: Tell) -> Iterator[tuple[int, R]]:
        for number, arguments in enumerate(calls):
            yield number, function(self.held, tell, *arguments)


class OnePerGpu(Generic[W]):
    """A process for each GPU, that has no other."""

    def __init__(self, processes: dict[Connection, tuple[str, BaseProcess]]) -> None:
        self.processes = processes

    def each(self, function: Callable[Concatenate[W, P], R], *arguments: P.args, **named: P.kwargs) -> list[R]:
        for connection in self.processes:
            self._send(connection, (_untold, (function, arguments, named)))
        return [self._receive(connection)[1] for connection in self.processes]

    def deal(self, function: Callable[..., R], calls: Sequence[tuple[Any, ...]], tell: Tell) -> Iterator[tuple[int, R]]:
        waiting = iter(enumerate(calls))
        busy: dict[Connection, int] = {}

        def give_work(connection: Connection) -> None:
            for number, arguments in islice(waiting, 1):
                self._send(connection, (function, arguments))
                busy[connection] = number

        for connection in self.processes:
            give_work(connection)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                is_told, value = self._receive(ready)
                if is_told:
                    tell(value)
                else:
                    number = busy.pop(ready)
                    give_work(ready)  # before this process sees to what is done
                    yield number, value

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send(message)
        except ConnectionError:
            while True:  # until what it said last, which is why it ended
                self._receive(connection)

    def _receive(self, connection: Connection) -> tuple[bool, Any]:
        """Whether it is a number of rows that are done, and that, or what a call returned.

        Raises:
            Exception: the one that ended the call.
            UserError: the process has ended.
        """
        try:
            kind, value = connection.recv()
        except (EOFError, ConnectionError):
            raise self._death(connection) from None
        if kind == "raised":
            raise value
        return kind == "told", value

    def _death(self, connection: Connection) -> UserError:
        gpu, process = self.processes[connection]
        process.join()
        code = process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return UserError(f"GPU {gpu}: what wrote there ended with {how}; what is done is kept for a new run")


@contextmanager
def workers(load: Callable[[], W], gpus: Sequence[str]) -> Iterator[Workers[W]]:
    """Load what writes: in this process, or in a process for each of several GPUs, which ends with this one.

    Args:
        load: of a module's top level, or a `partial` of one.
        gpus: by the names that CUDA_VISIBLE_DEVICES has for them.

    Raises:
        Exception: the one that loading ended with.
    """
    if len(gpus) < 2:
        here = Here(load())
        try:
            yield here
        finally:
            del here.held  # a GPU may not have room for what is loaded next
            gc.collect()
        return
    processes: dict[Connection, tuple[str, BaseProcess]] = {}
    try:
        for gpu in gpus:
            connection, process = _start(load, gpu)
            processes[connection] = gpu, process
        several = OnePerGpu[W](processes)
        several.each(_loaded)
        yield several
        for connection in processes:
            connection.close()
        for _, process in processes.values():
            process.join(GRACE)
    finally:
        for connection, (_, process) in processes.items():
            process.kill()
            process.join()
            connection.close()


def least_limits(workers: Workers[Sequence[Writer]], decoding: Decoding) -> Limits:
    """Limits that hold on each GPU, so that batches do not depend on which one works on them."""
    return min(workers.each(_limits, decoding), key=lambda limits: limits.tokens)


def _limits(writers: Sequence[Writer], decoding: Decoding) -> Limits:
    return writers[0].limits(decoding)


def _start(load: Callable[[], Any], gpu: str) -> tuple[Connection, BaseProcess]:
    # A fresh interpreter: CUDA does not survive a fork, and counts its GPUs once.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(load, theirs), name=f"GPU {gpu}")
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before it imports anything
    try:
        process.start()
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
    theirs.close()
    return ours, process


def _serve(load: Callable[[], Any], connection: Connection) -> None:
    """Do what comes through the connection, until that is closed or something raises."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent kills this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    silence_libraries()

    def tell(rows: int) -> None:
        connection.send(("told", rows))

    try:
        held = load()
        while (call := _next(connection)) is not None:
            function, arguments = call
            connection.send(("returned", function(held, tell, *arguments)))
    except Exception as error:
        with suppress(ConnectionError):  # nobody may listen any more
            connection.send(("raised", _sendable(error)))


def _next(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        return None


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The error with where it came from; as its text, where it cannot be pickled."""
    if isinstance(error, UserError):
        return error
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(where)
    error.add_note(where)
    return error


def _untold(held: Any, tell: Tell, function: Callable[..., R], arguments: Any, named: Any) -> R:
    return function(held, *arguments, **named)


def _loaded(held: Any) -> None:
    """Answers once all is loaded."""
