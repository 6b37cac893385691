"""The check of wheels: on what an index lists, and through uv on a folder that stands for the index."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.utils import canonicalize_name

from ci.check_wheels import LOCK, MACHINES, SOURCES, main, missing, resolve
from stages.core.errors import UserError
from tests.clone import ROOT

MAC, ARM, X86 = (MACHINES[name] for name in ("macOS 14 on Apple silicon", "Linux on Arm", "Linux on x86"))


def package(*wheels: str, name: str = "a", **more: object) -> dict[str, object]:
    urls = [{"url": f"https://files.invalid/{wheel}.whl"} for wheel in wheels]
    return {"name": name, "version": "1", "wheels": urls, **more}


def test_a_wheel_of_python_alone_is_for_every_machine() -> None:
    assert [missing([package("a-1-py3-none-any")], machine, (3, 13)) for machine in (MAC, ARM, X86)] == [[], [], []]


@pytest.mark.parametrize(
    ("wheel", "machines"),
    [
        ("a-1-cp312-cp312-macosx_11_0_arm64", ["macOS 14 on Apple silicon"]),
        ("a-1-cp312-cp312-macosx_15_0_arm64", []),  # newer than the macOS that torch asks for
        ("a-1-cp312-cp312-macosx_11_0_x86_64", []),
        ("a-1-cp39-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64", ["Linux on Arm"]),
        ("a-1-py3-none-manylinux_2_24_x86_64", ["Linux on x86"]),
        ("a-1-cp312-cp312-manylinux_2_34_x86_64", []),  # newer than the glibc that torch asks for
        ("a-1-cp312-cp312-manylinux1_x86_64", ["Linux on x86"]),
        ("a-1-cp312-cp312-musllinux_1_2_x86_64", []),
        ("a-1-cp313-cp313-manylinux_2_28_aarch64", []),  # of another Python
        ("a-1%2Blocal-py3-none-manylinux2014_x86_64", ["Linux on x86"]),
    ],
)
def test_a_wheel_is_for_its_machine_and_its_python(wheel: str, machines: list[str]) -> None:
    assert [name for name, machine in MACHINES.items() if not missing([package(wheel)], machine, (3, 12))] == machines


def test_a_marker_leaves_a_package_out() -> None:
    linux = package("a-1-py3-none-manylinux2014_x86_64", marker="sys_platform == 'linux'")
    assert [missing([linux], machine, (3, 11)) for machine in (MAC, ARM, X86)] == [[], ["a==1"], []]
    old = package("a-1-cp312-cp312-manylinux2014_x86_64", marker="python_version < '3.13'")
    assert [missing([old], X86, python) for python in ((3, 11), (3, 12), (3, 13))] == [["a==1"], [], []]


def test_a_source_counts_where_it_needs_no_compiler() -> None:
    assert missing([package(sdist={"url": "a-1.tar.gz"})], MAC, (3, 11)) == ["a==1"]
    assert missing([package(name="rouge-score", sdist={"url": "a-1.tar.gz"})], MAC, (3, 11)) == []
    assert missing([package(name="rouge-score")], MAC, (3, 11)) == ["rouge-score==1"]


def test_the_sources_are_those_of_pins() -> None:
    pins = {canonicalize_name(line.split("==")[0]) for line in (ROOT / LOCK).read_text(encoding="utf-8").splitlines()}
    assert pins >= SOURCES


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an empty folder that uv takes for the index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_PYTHON", sys.executable)
    return folder


def add_wheel(index: Path, stem: str, requires: str = "") -> None:
    name, version, *_ = stem.split("-")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    with ZipFile(index / f"{stem}.whl", "w") as wheel:
        wheel.writestr(f"{name}-{version}.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {stem.split('-', 2)[2]}\n")
        wheel.writestr(f"{name}-{version}.dist-info/RECORD", "")


def test_a_lock_that_installs_everywhere(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_wheel(index, "a-1-py3-none-any", "Requires-Dist: b==2; sys_platform == 'linux'\n")
    for architecture in ("x86_64", "aarch64"):
        add_wheel(index, f"b-2-py3-none-manylinux_2_28_{architecture}")
    LOCK.write_text("a==1\n", encoding="utf-8")
    assert [found["name"] for found in resolve(LOCK)] == ["a", "b"]
    main()
    assert capsys.readouterr().out.splitlines() == [
        f"{name}, Python 3.{minor}: every package has a file" for name in MACHINES for minor in (11, 12, 13)
    ]


def test_a_pin_without_a_file_is_named_with_the_machine(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-macosx_14_0_arm64", "cp312-abi3-macosx_14_0_arm64"):
        add_wheel(index, f"a-1-{tag}")
    LOCK.write_text("a==1\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == (
        "requirements.lock: choose other versions, or add markers that leave those packages out there"
    )
    lacking = [line for line in capsys.readouterr().out.splitlines() if line.endswith(": no file for a==1")]
    assert [line.split(":")[0] for line in lacking] == [
        *("Linux on x86, Python 3.12", "Linux on x86, Python 3.13"),
        *("Linux on Arm, Python 3.11", "Linux on Arm, Python 3.12", "Linux on Arm, Python 3.13"),
    ]


def test_a_pin_that_the_index_lacks_is_one_line(index: Path) -> None:
    LOCK.write_text("a==1\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value).startswith("requirements.lock: ")
    assert "a was not found in the cache" in str(caught.value)
    assert "\n" not in str(caught.value)
