"""Answer conversations by a language model, several at once; no answer is asked for twice."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.llm.answer_store import Answer, Answers, Message, Request, tell_apart
from stages.llm.api_key import read_key
from stages.llm.budget import Usage, check_budget, estimate, has_prices, reached_limit
from stages.llm.client import Client, Refused
from stages.llm.openai_api import OpenAIApi
from stages.llm.refusals import Refusals

RAMP = 0.01
"""Seconds between the first requests: a burst is what rate limits refuse, and its answers come back in a burst too."""

log = logging.getLogger(__name__)


def is_dry_run(stage: str) -> bool:
    """Read the command line of a stage that asks: whether it is to say what it would ask for, and ask for nothing."""
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}")
    parser.add_argument(
        "--dry-run", action="store_true", help="print how many requests, tokens and what cost a run takes; ask nothing"
    )
    return bool(parser.parse_args().dry_run)


def ask(
    stage: str,
    conversations: Iterable[list[Message]],
    settings: Llm,
    answers: Answers,
    fields: Sequence[str] = (),
) -> Iterator[str | None]:
    """Answer each conversation, from `answers` or by the server, whose answers are added to `answers`.

    Args:
        stage: the section of `augment` that asks, for the progress bar and the messages.
        conversations: the messages of each request. They are gone through twice and never held all at once, unless
            they are a list, or an iterator, which becomes one.
        settings: `augment.llm`. A key is read only where an answer is missing.
        answers: where answers are kept.
        fields: the texts that the JSON object of an answer holds; a server that can is held to them.

    Returns:
        One text per conversation, in their order, each read from `answers` when its turn comes; `answers.used()` has
        more of each. One that was cut off at max_tokens twice is among them, and of one that was refused what there
        is, mostly nothing; None stands for one that is not answered for lack of a key.

    Raises:
        UserError: there is no key and `augment.llm.without_key` is stop, the server cannot be reached or refuses most
            or all, or a limit of `augment.llm` is reached; what was answered is kept.
    """
    check_budget(settings)
    if isinstance(conversations, Iterator):
        conversations = list(conversations)
    answers.use((key, request.sample) for key, request in _requests(conversations, settings))
    refused = answers.refusals()
    again = refused if settings.ask_refused_again else 0
    missing = sum(1 for _ in answers.missing()) + again
    key = _find_key(stage, settings, missing) if missing else None
    if missing and (key or not settings.api_key_env):
        proven = answers.usage().answers > refused
        if again:
            answers.forget_refusals()
        server = Client(OpenAIApi(settings, key, fields), settings, proven)
        with tqdm(total=missing, desc=stage, unit="request") as progress:
            waiting = _waiting(conversations, settings, answers)
            asyncio.run(_ask_all(waiting, server, settings, answers, progress))
        _report(stage, missing, server, settings, answers)
    refused = answers.refusals()
    if refused:
        log.info("%s: %d requests are refused; augment.llm.ask_refused_again: true asks them again", stage, refused)
    cut_off = sum(answer is not None and answer.finish_reason == "length" for answer in answers.used())
    if cut_off:
        log.info("%s: %d answers are cut off at augment.llm.max_tokens = %d", stage, cut_off, settings.max_tokens)
    return (None if answer is None else answer.text for answer in answers.used())


def plan(stage: str, conversations: Iterable[list[Message]], settings: Llm, answers: Answers) -> str:
    """Say what `ask` would take, and ask for nothing."""
    check_budget(settings)
    kept = expected = Usage()
    for key, request in _requests(conversations, settings):
        if key in answers and not (settings.ask_refused_again and answers[key].refused):
            kept += answers[key].usage
        else:
            expected += estimate(request.messages, request.max_answer_tokens)
    limit = reached_limit(kept + expected, settings)
    remarks = [
        "" if has_prices(settings) else "no price is set (augment.llm.price_per_million_input and _output)",
        f"{limit} would stop it" if limit and expected.answers else "",
        "nothing was asked for",
    ]
    return (
        f"{stage}: {kept.answers + expected.answers} requests, {kept.answers} answered already, "
        f"{expected.answers} to be asked for: about {expected.describe(settings)}; {'; '.join(filter(None, remarks))}"
    )


def _requests(conversations: Iterable[list[Message]], settings: Llm) -> Iterator[tuple[str, Request]]:
    """A request for each conversation, with its key."""
    return tell_apart(
        Request(settings.model, messages, settings.temperature, settings.max_tokens) for messages in conversations
    )


def _waiting(conversations: Iterable[list[Message]], settings: Llm, answers: Answers) -> Iterator[tuple[str, Request]]:
    """The requests in use that have no answer when their turn comes, with their keys."""
    numbered = enumerate(conversations)
    for wanted, key, sample in answers.missing():
        messages = next(messages for number, messages in numbered if number == wanted)
        yield key, Request(settings.model, messages, settings.temperature, settings.max_tokens, sample)


def _find_key(stage: str, settings: Llm, missing: int) -> str | None:
    name = settings.api_key_env
    if not name:
        return None
    key = read_key(name)
    if key is None and settings.without_key == "stop":
        raise UserError(
            f"{name} is not set and {missing} answers are to be asked for; "
            f"put it in .env (see .env.example), or set augment.{stage}.n: 0"
        )
    if key is None:
        log.warning(
            "%s: %s is not set: %d answers that data/answers does not hold are left out; "
            "put it in .env and run `dvc repro --force %s` to ask for them",
            stage,
            name,
            missing,
            stage,
        )
    return key


async def _ask_all(
    waiting: Iterator[tuple[str, Request]], server: Client, settings: Llm, answers: Answers, progress: tqdm
) -> None:
    """Let up to `concurrency` workers take the waiting requests, in order.

    Where one fails, the others send nothing new but end what is under way, so that what is paid for is kept; then
    the failure is raised.
    """
    failures: list[BaseException] = []
    refusals = Refusals(settings)
    spent = answers.usage()

    async def answer(key: str, request: Request) -> Answer:
        try:
            found = await server.answer(request)
        except Refused as refused:
            found = Answer(request.model, "", refused.reason, 0, 0, refused.words)
            refusals.hold(key, found)
        else:
            answers.add(key, found)
            refusals.count(found)
        return found

    async def work(number: int) -> None:
        nonlocal spent
        await asyncio.sleep(number * RAMP)
        while not server.stopping and reached_limit(spent, settings) is None:
            item = next(waiting, None)
            if item is None:
                return
            try:
                found = await answer(*item)
            except BaseException as failure:
                server.stopping = True
                failures.append(failure)
                raise
            spent += found.usage
            if server.faults:
                progress.set_postfix(retried=server.faults.total(), refresh=False)
            progress.update()

    async with server:
        workers = [work(number) for number in range(min(settings.concurrency, progress.total))]
        await asyncio.gather(*workers, return_exceptions=True)
    if failures:
        raise failures[0]
    refusals.keep(answers)


def _report(stage: str, missing: int, server: Client, settings: Llm, answers: Answers) -> None:
    """Say what was asked for, what went wrong on the way, and what the stage's answers took.

    Raises:
        UserError: a limit was reached before all were asked for.
    """
    spent = answers.usage()
    if server.faults:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(server.faults.items()))
        log.info("%s: %d requests were sent again: %s", stage, server.faults.total(), faults)
    left = sum(1 for _ in answers.missing())
    if left:
        raise UserError(
            f"{reached_limit(spent, settings)}: reached by {stage} with {spent.answers} of {spent.answers + left} "
            f"answers, {spent.describe(settings)}; what was answered is kept, raise it and run again to go on"
        )
    log.info("%s: %d answers, %d of them new: %s", stage, spent.answers, missing, spent.describe(settings))
