"""What GitHub and GitLab run: by their linters, and script by script on a copy of the repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ruamel.yaml import YAML

from ci.loss_chart import chart
from stages.pages.loss_chart import read_curve
from tests.clone import ROOT, Clone

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCHEMA = ("check-jsonschema", "--builtin-schema")
KEY = "glpat-of-the-test"


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path)
    return loaded


TESTS, PULL_REQUEST = (load(ROOT / f".github/workflows/{name}.yml") for name in ("tests", "pull_request"))
GITLAB = load(ROOT / ".gitlab-ci.yml")


@pytest.mark.parametrize(
    "command",
    [
        ("actionlint",),
        (*SCHEMA, "vendor.github-workflows", *WORKFLOWS),
        (*SCHEMA, "custom.github-workflows-require-timeout", *WORKFLOWS),
        (
            *SCHEMA,
            "vendor.gitlab-ci",
            "--data-transform",
            "gitlab-ci",
            "--regex-variant",
            "nonunicode",
            ".gitlab-ci.yml",
        ),
    ],
)
def test_linters_find_nothing(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_to_commits() -> None:
    used = [
        line.split("uses: ")[1]
        for path in WORKFLOWS
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses: " in line
    ]
    assert len(used) == 8
    assert [line for line in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_only_the_job_that_runs_no_code_of_the_pull_request_may_write() -> None:
    assert (TESTS["permissions"], PULL_REQUEST["permissions"]) == ({"contents": "read"}, {"contents": "read"})
    jobs = {**TESTS["jobs"], **PULL_REQUEST["jobs"]}
    assert {name: job["permissions"] for name, job in jobs.items() if "permissions" in job} == {
        "comment": {"pull-requests": "write"}
    }
    assert [step["uses"].split("@")[0] for step in jobs["comment"]["steps"] if "uses" in step] == [
        "actions/download-artifact"
    ]
    # Of a fork's pull request no token may write. `pull_request_target` would hand one to its code.
    assert jobs["comment"]["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    assert list(PULL_REQUEST["on"]) == ["pull_request"]


def test_both_forges_run_the_same() -> None:
    assert scripts(TESTS["jobs"]["lint"]) == GITLAB["lint"]["script"]
    assert scripts(TESTS["jobs"]["test"]) == GITLAB["test"]["script"]
    assert scripts(PULL_REQUEST["jobs"]["sample"])[0] == GITLAB["sample"]["script"][0]
    pythons = TESTS["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert pythons == GITLAB["test"]["parallel"]["matrix"][0]["PYTHON_VERSION"] == ["3.11", "3.12", "3.13"]


@pytest.mark.parametrize("script", [*GITLAB["lint"]["script"], *GITLAB["test"]["script"]])
def test_make_has_what_tests_and_lint_call(script: str, clone: Clone) -> None:
    clone.run("bash", "-e", "-c", f"{script} --dry-run")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The repository with its recorded scores, on a branch where a parameter, a score and the machine changed."""
    clone = Clone(tmp_path_factory.mktemp("forge") / "repository", small=False)
    clone.link_environment()
    clone.edit("params.yaml", {"lora": {"r": 8}})
    metrics = json.loads(clone.bytes("metrics/eval/metrics.json"))
    metrics["dev"]["morpheme"]["final"] += 1
    (clone.folder / "metrics/eval/metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (clone.folder / "metrics/train/machine.json").write_text('{"processor": "another"}', encoding="utf-8")
    return clone


def test_the_comment_shows_what_changed(clone: Clone) -> None:
    before = json.loads(clone.git("show", "main:metrics/eval/metrics.json"))["dev"]["morpheme"]["final"]
    rank = YAML(typ="safe").load(clone.git("show", "main:params.yaml"))["lora"]["r"]
    variables = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": "main", "CI_JOB_URL": "https://forge.invalid/jobs/1"}
    run(clone, GITLAB["sample"]["script"][1:], BASE="target", **variables)
    text = clone.bytes("pull_request/comment.md").decode()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        ["Path", "Param", "target", "workspace"],
        *[row for row in rows if set("".join(row)) == {"-"}][:1],
        ["params.yaml", "lora.r", str(rank), "8"],
        ["Metric", "target", "workspace", "Change"],
        *[row for row in rows if set("".join(row)) == {"-"}][1:],
        ["dev.morpheme.final", f"{before:g}", f"{before + 1:g}", "1.0"],
    ]
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## The sample run beside `target`",
        "### Parameters",
        "### Scores",
    ]
    # The scores of the rows did not change, and by them runs are compared: two splits, and a line for each metric.
    metrics = len(clone.bytes("metrics/eval/rows.csv").decode().splitlines()[0].split(",")) - 3
    assert text.count("  1.0000  may be chance") == 2 * metrics
    assert text.endswith(
        "\nThe two ran on different kinds of machine. Rounding alone moves scores between them.\n\n"
        "[Plots](https://forge.invalid/jobs/1/artifacts/browse/pull_request): open index.html.\n"
    )
    assert '```mermaid\nxychart-beta\n    title "Loss on dev: target, then this run"\n    x-axis "step" ["' in text
    assert '<div id = "loss">' in clone.bytes("pull_request/index.html").decode()
    assert "pull_request" not in clone.git("status", "--porcelain")


def test_the_chart_has_the_steps_that_both_runs_have() -> None:
    ours = read_curve("step\tloss\n8\t2.5\n16\t2.25\n24\t2.125\n")
    assert chart({"main": [(16, 3.0), (24, 2.75), (32, 2.5)], "this run": ours}).splitlines()[2:-1] == [
        '    title "Loss on dev: main, then this run"',
        '    x-axis "step" ["16", "24"]',
        "    line [3.0000, 2.7500]",
        "    line [2.2500, 2.1250]",
    ]
    assert chart({"main": [(16, 3.0)], "this run": ours}) == ""


def test_without_a_change_the_comment_says_so(clone: Clone) -> None:
    clone.git("stash", "-q")
    shown = clone.run("make", "pr-comment").stdout
    clone.git("stash", "pop", "-q")
    assert shown.count("\nNo change.\n") == 2
    assert "machine" not in shown


def test_an_unknown_base_is_one_line_and_leaves_the_comment_alone(clone: Clone) -> None:
    done = clone.run("ci/comment.sh", "nowhere", check=False)
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == (
        "",
        "error: BASE = nowhere: no such revision; name the branch that this one goes into, as in BASE=origin/main\n",
    )


@pytest.mark.slow
def test_githubs_scripts(finished: Clone, tmp_path: Path) -> None:
    """The sample's, then the comment's, where a program that writes down its arguments stands for `gh`."""
    summary = tmp_path / "summary.md"
    run(finished, scripts(PULL_REQUEST["jobs"]["sample"]), BASE="target", GITHUB_STEP_SUMMARY=str(summary))
    assert finished.git("rev-parse", "target") == finished.git("rev-parse", "HEAD^1")
    finished.git("branch", "-q", "-D", "target")
    assert summary.read_text(encoding="utf-8") == finished.bytes("pull_request/comment.md").decode()
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\necho "$@"\ncat comment.md\n', encoding="utf-8")
    gh.chmod(0o755)
    (script,) = scripts(PULL_REQUEST["jobs"]["comment"])
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=finished.folder / "pull_request",
        env=finished.environment(
            PATH=f"{tmp_path}:/usr/bin:/bin", NUMBER="7", PLOTS="https://forge.invalid/artifacts/1"
        ),
        check=True,
        capture_output=True,
        text=True,
    )
    arguments, *text = done.stdout.splitlines()
    assert arguments == "pr comment 7 --edit-last --create-if-none --body-file comment.md"
    assert text[0] == "## The sample run beside `target`"
    assert text[-1] == "[Plots](https://forge.invalid/artifacts/1): unpack the download and open index.html."


class FakeGitLab(ThreadingHTTPServer):
    """Notes of merge request 7 of project 3 on loopback: user 1 is the token's."""

    def __init__(self, notes: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notes = notes


class _Handler(BaseHTTPRequestHandler):
    server: FakeGitLab

    def answer(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_one(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        notes = "/api/v4/projects/3/merge_requests/7/notes"
        if self.headers["PRIVATE-TOKEN"] != KEY:
            self.answer({"message": "401 Unauthorized"}, 401)
        elif path == "/api/v4/user":
            self.answer({"id": 1})
        elif path == notes and self.command == "GET":
            size, page = (int(part.split("=")[1]) for part in query.split("&"))
            self.answer(self.server.notes[size * (page - 1) : size * page])
        elif path == notes and self.command == "POST":
            self.server.notes.append({"id": 900, "author": {"id": 1}, **json.loads(body)})
            self.answer({}, 201)
        elif self.command == "PUT":
            (note,) = [note for note in self.server.notes if path == f"{notes}/{note['id']}"]
            note.update(json.loads(body))
            self.answer({})

    do_GET = do_POST = do_PUT = handle_one

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gitlab() -> Iterator[FakeGitLab]:
    others = [{"id": number, "author": {"id": 2}, "body": "## The sample run beside `main`"} for number in range(120)]
    with FakeGitLab(others) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def comment(server: FakeGitLab, folder: Path, body: str, token: str = KEY) -> subprocess.CompletedProcess[str]:
    """Run the script of GitLab's job with this comment."""
    (folder / "pull_request").mkdir(exist_ok=True)
    (folder / "pull_request/comment.md").write_text(body, encoding="utf-8")
    (script,) = GITLAB["comment"]["script"]
    variables = {"CI_API_V4_URL": f"http://127.0.0.1:{server.server_port}/api/v4", "GITLAB_TOKEN": token}
    return subprocess.run(
        ["bash", "-e", "-c", script.replace("ci/", f"{ROOT}/ci/").replace("python ", f"{sys.executable} ")],
        cwd=folder,
        env={**variables, "CI_MERGE_REQUEST_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7"},
        capture_output=True,
        text=True,
    )


def test_gitlab_keeps_one_comment(gitlab: FakeGitLab, tmp_path: Path) -> None:
    for body in ("## The sample run beside `main`\n점수 1\n", "## The sample run beside `main`\n점수 2\n"):
        done = comment(gitlab, tmp_path, body)
        assert done.returncode == 0, done.stderr
        assert gitlab.notes[120:] == [{"id": 900, "author": {"id": 1}, "body": body}]


def test_a_token_that_gitlab_refuses_is_one_line_without_the_token(gitlab: FakeGitLab, tmp_path: Path) -> None:
    done = comment(gitlab, tmp_path, "## The sample run\n", token="expired")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: GITLAB_TOKEN: http://127.0.0.1:{gitlab.server_port}/api/v4/user answered 401 Unauthorized; the token "
        "needs the scope api and the role Reporter, and may not be a protected variable\n"
    )
    assert len(gitlab.notes) == 120


def scripts(job: dict[str, Any]) -> list[str]:
    """The shell scripts of a job of GitHub's, in their order."""
    return [step["run"] for step in job["steps"] if "run" in step]


def run(clone: Clone, commands: list[str], **env: str) -> None:
    for command in commands:
        clone.run("env", *(f"{name}={value}" for name, value in env.items()), "bash", "-e", "-c", command)
