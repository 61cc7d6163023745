# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the CUDA builds of vLLM need of a host: one row for each release where something changed.

The rows were read on 2026-11-24 from the metadata of the wheels on PyPI: the tag (glibc), Requires-Python, the
pinned torch, and the CUDA packages that this torch requires.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Release:
    """One row. ``python`` is the least version and the first that is too new, ``glibc`` the least version."""

    version: str
    cuda: str
    python: tuple[str, str]
    glibc: str
    least_compute_capability: str
    quantizations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cuda:
    """A major version of CUDA: the least driver branch, and older ones that its compatibility package works on."""

    driver_branch: int
    compatible_branches: tuple[int, ...]


# NVIDIA, "CUDA Compatibility", "Minor Version Compatibility" (CUDA 12: 525.60.13, CUDA 13: 580.65.06), and the
# branches that NVIDIA_REQUIRE_CUDA of the image nvidia/cuda:13.0.2 admits; read on 2026-11-24.
CUDA = {
    "12": Cuda(525, ()),
    "13": Cuda(580, (535, 550, 565, 570, 575)),
}

# Least compute capability of a quantization method of the checkpoint. get_min_capability() in vLLM 0.33.0,
# model_executor/layers/quantization/: auto_awq.py:234, auto_gptq.py:183, experts_int8.py:43, fbgemm_fp8.py:67,
# fp8.py:147, fp_quant.py:64, humming.py:168, modelopt.py:450, 773, 1233 and 1654, moe_wna16.py:111, mxfp4.py:72,
# torchao.py:161, online/base.py:212; names in __init__.py:156-184. Checked at config/vllm.py:930. Where this is below
# what the release itself needs, the row of the release decides.
_QUANTIZATIONS_0_33 = {
    "awq": "7.5",
    "awq_marlin": "7.5",
    "auto_awq": "7.5",
    "fp8": "7.5",
    "fp8_per_tensor": "7.5",
    "fbgemm_fp8": "8.0",
    "fp_quant": "10.0",
    "modelopt": "8.0",
    "modelopt_fp4": "7.5",
    "modelopt_mxfp8": "8.0",
    "modelopt_mixed": "7.5",
    "experts_int8": "8.0",
    "mxfp4": "8.0",
    "mxfp8": "8.0",
    "torchao": "7.5",
    "humming": "7.5",
}

# CUDA 13 has no code for GPUs before Turing (CUDA 13.0 release notes, "Deprecated or Dropped Architectures"); vLLM's
# installation page for 0.19 asked for 7.0, and for 0.33 asks for 7.5.
RELEASES = (
    Release("0.19", "12.8", ("3.10", "3.14"), "2.31", "7.0"),
    Release("0.20", "13.0", ("3.10", "3.15"), "2.35", "7.5"),
    Release("0.21", "13.0", ("3.10", "3.15"), "2.28", "7.5"),
    Release("0.32", "13.0", ("3.11", "3.15"), "2.28", "7.5"),
    Release("0.33", "13.0", ("3.11", "3.15"), "2.28", "7.5", _QUANTIZATIONS_0_33),
)


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``580.95.05-1`` gives (580, 95, 5), ``v0.33.0rc1`` (0, 33, 0)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def release_of(version: str) -> Release | None:
    """The row for a version of vLLM: the newest that is not newer; None for releases before the table."""
    wanted = numbers(version)
    rows = [row for row in RELEASES if numbers(row.version) <= wanted]
    return rows[-1] if rows else None
