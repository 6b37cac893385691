from __future__ import annotations

import json
import platform

import pytest

from stages.training.machine import describe_machine, processor

X86 = """\
processor\t: {number}
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: {model}
model name\t: One of Many
microcode\t: 0x1000{number}
flags\t\t: fpu avx2 {flags}

"""
ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd sve bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


@pytest.mark.parametrize(
    ("cpuinfo", "kind"),
    [
        (
            X86.format(number=0, vendor="AuthenticAMD", family=25, model=17, flags="avx512f avx512_bf16"),
            "AMD family 25 model 17 (AVX2, AVX-512, AVX-512 BF16)",
        ),
        (
            X86.format(number=0, vendor="GenuineIntel", family=6, model=143, flags="avx512f avx512_bf16 amx_bf16"),
            "Intel family 6 model 143 (AVX2, AVX-512, AVX-512 BF16, AMX BF16)",
        ),
        (ARM, "ARM implementer 0x41 part 0xd40 (SVE, BF16)"),
        ("", platform.machine()),
    ],
)
def test_kinds_of_processor(cpuinfo: str, kind: str) -> None:
    assert processor(cpuinfo) == kind


def test_what_differs_between_two_of_a_kind_is_left_out() -> None:
    one, other = (
        "".join(X86.format(number=n, vendor="AuthenticAMD", family=25, model=1, flags="") for n in numbers)
        for numbers in ((0, 1), (4, 5, 6))
    )
    assert processor(one) == processor(other) == "AMD family 25 model 1 (AVX2)"


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = describe_machine()
    assert list(found) == ["processor", "threads", "torch"]
    assert json.loads(json.dumps(found)) == found


def test_on_a_gpu_the_processor_beside_it_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert list(describe_machine()) == ["processor", "torch"]
    assert describe_machine()["processor"] == "NVIDIA H100 80GB HBM3"
