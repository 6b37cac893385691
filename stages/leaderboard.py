"""All runs on one page to sort: branches, tags and experiments, which differ from the best, and what they cost in time.

    python -m stages.leaderboard

The page, metrics/figures/leaderboard.html, needs no other file and no network. It is drawn from `dvc exp show` and from
what each revision has in Git or in DVC's cache, and says what a revision lacks. The same revisions make the same page.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import write_text
from stages.core.git import run_git
from stages.core.params import flat, load_params
from stages.core.revisions import WORKSPACE, open_revision
from stages.core.training_speeds import LOSSES, kept_speed
from stages.pages.leaderboard_page import Run, best_run, render_leaderboard
from stages.pages.loss_chart import Losses, read_curve
from stages.scoring.row_scores import from_csv

STASHES = ("refs/exps/celery/stash", "refs/exps/celery/failed")
"""Where DVC keeps queued and failed experiments."""
ENDED = "success"
DEV_LOSSES = Path("plots/metrics/eval/loss.tsv")
T = TypeVar("T")

Read = Callable[[Path], bytes]
"""A file's content in a revision; FileNotFoundError where it has none."""


def git(*arguments: str) -> str:
    """What a Git command prints.

    Raises:
        UserError: it fails, such as outside of a repository.
    """
    done = run_git(*arguments)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[0]}; run it in the repository's folder")
    return done.stdout


def baselines(refs: Sequence[str]) -> list[str]:
    """The commits that experiments began from, whether a branch still ends there or not.

    Args:
        refs: the names of Git's references.
    """
    recorded = [re.match(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/", ref) for ref in refs]
    stashed = "".join(git("log", "--walk-reflogs", "--format=%gs", ref) for ref in STASHES if ref in refs)
    return sorted(
        {found[1] + found[2] for found in recorded if found}
        | set(re.findall(r"dvc-exp:[0-9a-f]+:([0-9a-f]{40})", stashed))
    )


def experiments(refs: Sequence[str]) -> list[dict[str, Any]]:
    """What `dvc exp show --json` says: the workspace, then HEAD, the other baselines, branches and tags.

    Raises:
        UserError: DVC cannot tell.
    """
    revisions = [word for commit in ["HEAD", *baselines(refs)] for word in ("--rev", commit)]
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--all-branches", "--all-tags", *revisions]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["failed"]
        raise UserError(f"dvc exp show: {said[-1].removeprefix('ERROR: ')}; run `dvc exp show` to see more")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def read_runs(shown: Sequence[Mapping[str, Any]], commits: Mapping[str, str]) -> list[Run]:
    """Each commit and each unfinished experiment once; the workspace only where it is none of the others.

    Args:
        shown: what `experiments` gave.
        commits: by the name of Git's reference, in its order.
    """
    runs: dict[str, Run] = {}
    unfinished: list[Run] = []
    for commit in (each for each in shown if each["rev"] != WORKSPACE):
        refs = [
            ref for ref in commits if ref.startswith(("refs/heads/", "refs/tags/")) and commits[ref] == commit["rev"]
        ]
        kind = "commit" if not refs else "branch" if refs[0].startswith("refs/heads/") else "tag"
        names = [ref.split("/", 2)[2] for ref in refs] or [commit["rev"][:7]]
        runs[commit["rev"]] = read_run(commit, names, kind)
    for experiment in (each for baseline in shown for each in baseline["experiments"] or []):
        revision = experiment["revs"][0]
        name = experiment["name"] or revision["rev"][:7]
        state = (experiment["executor"] or {}).get("state", ENDED)
        known = runs.get(revision["rev"])
        if state != ENDED:
            unfinished.append(read_run(revision, [name], "experiment", state))
        elif known:  # a branch was made of it
            runs[revision["rev"]] = replace(known, name=f"{known.name}, {name}")
        else:
            runs[revision["rev"]] = read_run(revision, [name], "experiment")
    workspaces = [read_run(entry, [WORKSPACE], WORKSPACE) for entry in shown[:1]]
    others = [(run.params, run.scores) for run in runs.values()]
    # An experiment that runs in the workspace is listed by its own name, and has no commit yet.
    is_running = any(run.state == "running" and not run.commit for run in unfinished)
    new = [run for run in workspaces if not is_running and (run.params, run.scores) not in others]
    return [*new, *runs.values(), *unfinished]


def read_run(entry: Mapping[str, Any], names: Sequence[str], kind: str, state: str | None = None) -> Run:
    """What a revision has; a run that has not ended has no scores, whatever lies in its folder."""
    data = entry["data"] or {}
    run = Run(
        name=", ".join(names),
        kind=kind,
        state=state or ("unreadable" if entry["error"] else None),
        error=(entry["error"] or {}).get("msg", ""),
        commit="" if entry["rev"] == WORKSPACE else entry["rev"][:7],
        date=utc_date(data.get("timestamp")),
        params=dict(flat(values_of(data, "params", Path("params.yaml")))),
    )
    if run.state:
        return run
    read = Path.read_bytes if kind == WORKSPACE else open_revision(entry["rev"]).read
    rows, analyzer = read_as(from_csv, read, paths.ROW_SCORES) or ({}, "")
    training = read_as(json.loads, read, paths.TRAIN_HEADLINE) or {}
    machine = read_as(json.loads, read, paths.MACHINE) or {}
    steps = read_as(read_curve, read, paths.TRAIN_METRICS / LOSSES) or []
    speed = read_as(kept_speed, read, paths.TRAIN_METRICS / LOSSES)
    return replace(
        run,
        scores=read_as(json.loads, read, paths.EVAL_SCORES) or values_of(data, "metrics", paths.EVAL_METRICS),
        analyzer=analyzer,
        rows=rows.get("dev", {}),
        losses=Losses(steps, read_as(read_curve, read, paths.TRAIN_METRICS / DEV_LOSSES) or []),
        eval_loss=training.get("best", {}).get("eval_loss"),
        seconds=speed["seconds_per_step"] * len(steps) if speed else None,
        machine=machine.get("processor", "").partition(" (")[0],
    )


def values_of(data: Mapping[str, Any], what: str, path: Path) -> dict[str, Any]:
    """The params or metrics that a file holds, as `dvc exp show` has them; none where it could not read them."""
    found: dict[str, Any] = data.get(what, {}).get(path.as_posix(), {}).get("data") or {}
    return found


def utc_date(timestamp: str | None) -> str:
    """The day of a commit; DVC gives its time as this machine's clock has it."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).date().isoformat() if timestamp else ""


def read_as(parse: Callable[[str], T], read: Read, path: Path) -> T | None:
    """A file's content; None where a revision has no such file, or one that is damaged."""
    try:
        return parse(read(path).decode())
    except (FileNotFoundError, ValueError, StopIteration):
        return None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw all runs on one page to sort.")
    parser.add_argument("--output", type=Path, default=paths.LEADERBOARD, help=f"default: {paths.LEADERBOARD}")
    output = parser.parse_args(argv).output
    analyzer = load_params().evaluate.morphemes
    refs = git("for-each-ref", "--format=%(refname) %(objectname) %(*objectname)").splitlines()
    # Of a tag with a message the last is the commit.
    commits = {ref: objects[-1] for ref, *objects in map(str.split, refs)}
    runs = read_runs(experiments(list(commits)), commits)
    write_text(output, render_leaderboard(runs, analyzer))
    best = best_run(runs, analyzer)
    found = f"the best on dev is {best.name}, {best.headline:.2f}" if best else "none has scores"
    print(f"{output}: {len(runs)} runs, {found}")


if __name__ == "__main__":
    run_stage(main)
