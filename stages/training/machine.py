"""The kind of machine that trained: what decides, beside settings and data, how sums are rounded."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import torch

_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "sve": "SVE",
    "bf16": "BF16",
}
"""The instructions that matrix products are chosen by, as Linux names them, the x86 ones and then ARM's."""


def describe_machine(processes: int = 1) -> dict[str, Any]:
    """The GPU and the version of torch; on a CPU its kind, the threads that share a sum, and the version.

    Nothing in it differs between two machines of a kind, such as a name of its own.

    Args:
        processes: that trained together; said where there were several.
    """
    together = {"processes": processes} if processes > 1 else {}
    if torch.cuda.is_available():
        return {"processor": torch.cuda.get_device_name(), **together, "torch": torch.__version__}
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpuinfo = ""
    threads = torch.get_num_threads()
    return {"processor": processor(cpuinfo), **together, "threads": threads, "torch": torch.__version__}


def processor(cpuinfo: str) -> str:
    """The kind of processor that Linux describes: its maker, family and model, and what of `_FEATURES` it has."""
    facts = dict(re.findall(r"^(\S[^\t:]*?)\s*: (.*)$", cpuinfo, re.MULTILINE))
    if "vendor_id" in facts:
        maker = _VENDORS.get(facts["vendor_id"], facts["vendor_id"])
        kind = f"{maker} family {facts.get('cpu family')} model {facts.get('model')}"
    elif "CPU implementer" in facts:
        kind = f"ARM implementer {facts['CPU implementer']} part {facts.get('CPU part')}"
    else:
        return platform.machine()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    features = [name for flag, name in _FEATURES.items() if flag in flags]
    return f"{kind} ({', '.join(features)})" if features else kind
