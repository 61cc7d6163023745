# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the builds of vLLM need of a host: one row for each release where something changed.

The rows of CUDA were read on 2026-11-24 from the metadata of the wheels on PyPI: the tag (glibc), Requires-Python, the
pinned torch, and the CUDA packages that this torch requires.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar


@dataclass(frozen=True)
class Release:
    """One row. ``python`` is the least version and the first that is too new, ``glibc`` the least version."""

    version: str
    cuda: str
    python: tuple[str, str]
    glibc: str
    quantizations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RocmRelease:
    """One row for the ROCm builds.

    ``build`` is what follows the + in the version of their wheels, ``rocm`` the version of ROCm that must be on the
    host, whose libraries the wheels' torch loads, and ``gfx`` the GPUs that they have code for.
    """

    version: str
    build: str
    rocm: str
    python: tuple[str, str]
    glibc: str
    gfx: tuple[str, ...]


Row = TypeVar("Row", Release, RocmRelease)


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

RELEASES = (
    Release("0.19", "12.8", ("3.10", "3.14"), "2.31"),
    Release("0.20", "13.0", ("3.10", "3.15"), "2.35"),
    Release("0.21", "13.0", ("3.10", "3.15"), "2.28"),
    Release("0.32", "13.0", ("3.11", "3.15"), "2.28"),
    Release("0.33", "13.0", ("3.11", "3.15"), "2.28", _QUANTIZATIONS_0_33),
)


# gfx90a MI200; gfx942 MI300; gfx950 MI350; gfx1100, gfx1101 RX 7900; gfx1200, gfx1201 RX 9000; gfx1150, gfx1151 Ryzen
# AI. The builds' PYTORCH_ROCM_ARCH (vLLM's docker/Dockerfile.rocm_base), as its installation page lists them from 0.14
# on.
_GFX = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1150", "gfx1151", "gfx1200", "gfx1201")
_PYTHON_3_12 = ("3.12", "3.13")
# Read on 2026-11-29. rocm700, Python and the first glibc: vLLM's docs/getting_started/installation/gpu.rocm.inc.md.
# The others: names of wheels on wheels.vllm.ai as public projects list them (0.22.1+rocm722 and 0.26.0+rocm723 are
# tagged cp312 manylinux_2_34, 0.28.0 to 0.30.0+rocm723 cp312 manylinux_2_39; 0.31.0 was announced with rocm723). Not
# seen, and taken from the neighbours: releases 0.19 to 0.21, whose nightly builds were rocm721, and 0.32 and 0.33.
ROCM_RELEASES = (
    RocmRelease("0.14", "rocm700", "7.0", _PYTHON_3_12, "2.35", _GFX),
    RocmRelease("0.19", "rocm721", "7.2", _PYTHON_3_12, "2.35", _GFX),
    RocmRelease("0.22", "rocm722", "7.2", _PYTHON_3_12, "2.34", _GFX),
    RocmRelease("0.26", "rocm723", "7.2", _PYTHON_3_12, "2.34", _GFX),
    RocmRelease("0.28", "rocm723", "7.2", _PYTHON_3_12, "2.39", _GFX),
)


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``580.95.05-1`` gives (580, 95, 5), ``v0.33.0rc1`` (0, 33, 0)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def release_of(version: str) -> Release | None:
    """The row for a version of vLLM: the newest that is not newer; None for releases before the table."""
    return _newest(RELEASES, version)


def rocm_release_of(version: str) -> RocmRelease | None:
    """The same for the ROCm builds."""
    return _newest(ROCM_RELEASES, version)


def _newest(table: Sequence[Row], version: str) -> Row | None:
    wanted = numbers(version)
    rows = [row for row in table if numbers(row.version) <= wanted]
    return rows[-1] if rows else None
