from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.core.files import read_json, remove, replacing, sha256, write_json, write_text

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, **files: str) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


def test_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "scores.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["scores.txt"]


def test_folder_is_replaced_with_all_that_it_held(tmp_path: Path) -> None:
    target = tmp_path / "clean"
    fill(target, train="old", dev="old")
    with replacing(target) as temporary:
        fill(temporary, train="new")
        assert names(target) == ["dev", "train"]
    assert names(target) == ["train"]
    assert (target / "train").read_text() == "new"
    assert names(tmp_path) == ["clean"]


def test_file_and_folder_take_each_others_place(tmp_path: Path) -> None:
    target = tmp_path / "predictions"
    target.write_text("a file")
    with replacing(target) as temporary:
        fill(temporary, dev="new")
    assert names(target) == ["dev"]
    with replacing(target) as temporary:
        temporary.write_text("a file again")
    assert target.read_text() == "a file again"


def test_folders_above_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "metrics" / "data" / "note.txt", "new")
    assert (tmp_path / "metrics" / "data" / "note.txt").read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_what_was_there(tmp_path: Path, kind: str, error: type[BaseException]) -> None:
    target = tmp_path / "adapter"
    if kind == "file":
        target.write_text("old")
    elif kind == "folder":
        fill(target, weights="old")
    with pytest.raises(error), replacing(target) as temporary:
        fill(temporary, weights="half")
        raise error
    assert names(tmp_path) == ([] if kind == "nothing" else ["adapter"])
    if kind == "file":
        assert target.read_text() == "old"
    elif kind == "folder":
        assert (target / "weights").read_text() == "old"


def test_leftover_of_a_killed_run_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from stages.core.files import replacing\n"
        "with replacing(Path('adapter')) as temporary:\n"
        "    temporary.mkdir()\n"
        "    (temporary / 'half').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path) == [".adapter.tmp"]
    with replacing(target) as temporary:
        fill(temporary, weights="new")
    assert names(tmp_path) == ["adapter"]
    assert names(target) == ["weights"]


def test_link_is_replaced_and_what_it_points_at_is_kept(tmp_path: Path) -> None:
    """With `cache.type = symlink`, an output is a link into DVC's cache."""
    cache = tmp_path / "cache"
    fill(cache, file="old")
    fill(cache / "folder", weights="old")
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.symlink_to(cache / "file")
    folder.symlink_to(cache / "folder")
    write_text(file, "new")
    with replacing(folder) as temporary:
        fill(temporary, weights="new")
    assert (file.read_text(), (folder / "weights").read_text()) == ("new", "new")
    assert not file.is_symlink()
    assert not folder.is_symlink()
    assert ((cache / "file").read_text(), (cache / "folder" / "weights").read_text()) == ("old", "old")


def test_remove(tmp_path: Path) -> None:
    fill(tmp_path / "folder", file="text")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert names(tmp_path) == ["folder"]
    remove(tmp_path / "folder" / "file")
    remove(tmp_path / "folder")
    remove(tmp_path / "folder")
    assert names(tmp_path) == []


def test_text_is_utf8_with_lf(tmp_path: Path) -> None:
    write_text(tmp_path / "note.txt", "가나\n다\n")
    assert (tmp_path / "note.txt").read_bytes() == b"\xea\xb0\x80\xeb\x82\x98\n\xeb\x8b\xa4\n"


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    value = {"word": {"rouge1": 44.5, "final": None}, "beams": [1, 4], "instruction": "요약하세요.\n짧게.", "a": {}}
    write_json(path, value)
    assert path.read_bytes().decode() == (
        "{\n"
        '  "word": {\n'
        '    "rouge1": 44.5,\n'
        '    "final": null\n'
        "  },\n"
        '  "beams": [\n'
        "    1,\n"
        "    4\n"
        "  ],\n"
        '  "instruction": "요약하세요.\\n짧게.",\n'
        '  "a": {}\n'
        "}\n"
    )
    assert read_json(path) == value


def test_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"final": 1})
    with pytest.raises(TypeError):
        write_json(path, {"final": {1, 2}})
    assert read_json(path) == {"final": 1}
    assert names(tmp_path) == ["metrics.json"]


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk_leaves_what_was_there_and_is_one_line(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "clean"
    if kind == "file":
        target.write_text("old")
    else:
        fill(target, train="old")
    with pytest.raises(UserError) as full, replacing(target) as temporary:
        fill(temporary, train="half")
        Path("/dev/full").write_text("the rest")
    assert str(full.value) == f"{target}: No space left on device; free some space and run it again"
    assert names(tmp_path) == ["clean"]
    assert (target if kind == "file" else target / "train").read_text() == "old"


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as read_only, replacing(tmp_path / "metrics.json") as temporary:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(temporary))
    assert str(read_only.value) == f"{tmp_path}/metrics.json: Read-only file system; work where you may write"


def test_a_stage_that_may_write_no_more_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "data" / "sample", tmp_path / "data" / "sample")
    script = (
        "import resource, runpy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "runpy.run_module('stages.ingest', run_name='__main__')\n"
    )
    stage = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert (stage.returncode, stage.stderr) == (
        1,
        "error: data/ingested: File too large; raise the limit (ulimit -f) and run it again\n",
    )
    assert names(tmp_path) == ["data", "params.yaml"]
    assert names(tmp_path / "data") == ["sample"]
