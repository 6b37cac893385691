"""What asking a language model costs on our side: requests a second, CPU, memory, and what faults and kills cost.

    python -m benchmarks.llm [throughput] [overhead] [faults]

The servers are on loopback, each client in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
from openai import AsyncOpenAI

from stages.llm.answer_store import Answers, Message
from stages.llm.ask import ask
from tests.fake_openai import KEY, completion
from tests.llm_settings import llm_settings
from tests.test_llm_faults import run_with_kills
from tests.unreliable_openai import UnreliableOpenAI

ADMITTED = 64
"""Requests that a server works on at once."""
ROWS = 12_457
"""Training rows of the competition."""
SIZES = (1_000, 10_000, 100_000)
INSTRUCTION = "당신은 한국어 일상 대화를 다루는 숙련된 작가입니다. " * 15
DIALOGUE = "#Person1#: 안녕하세요, 오늘 회의는 몇 시에 시작하나요? " * 13

REPLY = completion("답").body.encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(REPLY), REPLY)


class Dialogues:
    """So many conversations of the usual length, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[Message]]:
        return (conversation(number) for number in range(self.count))


def conversation(number: int) -> list[Message]:
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": f"{number} {DIALOGUE}"}]


def serve(listener: socket.socket, delay: float) -> None:
    """Answer each request `delay` seconds after its turn has come, ADMITTED at once."""

    async def run() -> None:
        admitted = asyncio.Semaphore(ADMITTED)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                    length = next(line for line in head if line.startswith(b"content-length:"))
                    await reader.readexactly(int(length.partition(b":")[2]))
                    async with admitted:
                        await asyncio.sleep(delay)
                    writer.write(RESPONSE)
            writer.close()

        await (await asyncio.start_server(answer, sock=listener)).serve_forever()

    asyncio.run(run())


@contextlib.contextmanager
def server(delay: float) -> Iterator[str]:
    """The base URL of a server that answers after `delay` seconds, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        process = multiprocessing.Process(target=serve, args=(listener, delay))
        process.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        process.terminate()
        process.join()


def measure(client: Callable[[str, int], object], base_url: str, count: int) -> tuple[float, float, float]:
    """Run a client in a new process; return its seconds, CPU milliseconds a request and peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(client, base_url, count, theirs))
    process.start()
    result: tuple[float, float, float] = ours.recv()
    process.join()
    return result


def _measured(client: Callable[[str, int], object], base_url: str, count: int, result: Connection) -> None:
    os.environ["UPSTAGE_API_KEY"] = KEY
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        client(base_url, 10)  # loads what is loaded late
        cpu, start = time.process_time(), time.perf_counter()
        client(base_url, count)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result.send((seconds, cpu / count * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def ours(base_url: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = llm_settings(base_url=base_url, concurrency=ADMITTED)
        answers = Answers(Path(folder) / "answers.jsonl")
        for _ in ask("paraphrase", Dialogues(count), settings, answers, ["dialogue", "summary"]):
            pass


def drive(post: Callable[[dict[str, Any]], Awaitable[object]], count: int) -> Awaitable[object]:
    """Let ADMITTED workers send what `ask` sends, and do nothing with the replies."""
    waiting = iter(Dialogues(count))

    async def work() -> None:
        for messages in waiting:
            await post({"model": "solar-pro2", "messages": messages, "temperature": 0.7, "max_tokens": 2048})

    return asyncio.gather(*(work() for _ in range(ADMITTED)))


def bare_aiohttp(base_url: str, count: int) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:

            async def post(body: dict[str, Any]) -> object:
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    return json.loads(await response.read())

            await drive(post, count)

    asyncio.run(run())


def bare_httpx(base_url: str, count: int) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(timeout=60) as client:

            async def post(body: dict[str, Any]) -> object:
                return (await client.post(f"{base_url}/chat/completions", json=body)).json()

            await drive(post, count)

    asyncio.run(run())


def plain_openai(base_url: str, count: int) -> None:
    async def run() -> None:
        async with AsyncOpenAI(api_key=KEY, base_url=base_url) as client:
            await drive(lambda body: client.chat.completions.create(**body), count)

    asyncio.run(run())


def throughput() -> None:
    with server(delay=1.0) as base_url:
        seconds, cpu, _ = measure(ours, base_url, 40 * ADMITTED)
    print(
        f"server that answers in 1 s, {ADMITTED} at once: {40 * ADMITTED / seconds:.1f} requests/s of at most "
        f"{ADMITTED}, {cpu:.2f} ms CPU each"
    )


def overhead() -> None:
    with server(delay=0.0) as base_url:
        for client in (bare_aiohttp, bare_httpx, plain_openai):
            _, cpu, _ = measure(client, base_url, SIZES[1])
            print(f"{client.__name__}: {cpu:.2f} ms CPU a request")
        for count in SIZES:
            seconds, cpu, memory = measure(ours, base_url, count)
            rate = count / seconds
            print(f"ours, {count:,} requests: {cpu:.2f} ms CPU each, {rate:.0f}/s, {memory:.0f} MB at most")


def faults() -> None:
    start = time.perf_counter()
    with UnreliableOpenAI(share=0.3) as unreliable, tempfile.TemporaryDirectory() as folder:
        run_with_kills(unreliable, Path(folder) / "answers.jsonl", ROWS)
        again = unreliable.answered.total() - ROWS
        print(
            f"{ROWS:,} rows, 5 kills: {len(unreliable.requests):,} requests = {ROWS:,} answers + "
            f"{unreliable.injected.total():,} faults + {again} under way at a kill; "
            f"{time.perf_counter() - start:.0f} s"
        )


def main() -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    parts = {"throughput": throughput, "overhead": overhead, "faults": faults}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
