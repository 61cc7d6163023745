# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what is installed of AMD's software: the driver amdgpu and ROCm. Pure: text in, facts out.

AMD writes the release that a package belongs to as the last number of its version: amdgpu-dkms
1:6.16.13.30300300-2325413.24.04 is the kernel module 6.16.13 of the driver 30.30.3, and hip-runtime-amd
7.2.53211.70203-90~24.04 is of ROCm 7.2.3 (versions as in repo.radeon.com, read on 2026-11-29).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.host_software import upstream

_NAMES = re.compile(
    r"^(?:amdgpu|amd-smi|rocm|roc[a-z]+|hip|hsa-|miopen|rccl|comgr|composablekernel|half$|libopenmpi|openmpi"
    r"|linux-headers|linux-modules-extra|kernel-devel|kernel-headers)"
)
_ROCM = re.compile(r"^(\d{1,2})(\d{2})(\d{2})$")
# It ends in 00, which the dates that others put there (mawk 1.3.4.20200120) never do.
_DRIVER = re.compile(r"^(\d{2})(\d{2})(\d{2})00$")
DRIVER_PACKAGE = "amdgpu-dkms"


@dataclass(frozen=True)
class Code:
    """A package's version: ``own`` is the software's, ``driver`` and ``rocm`` the release it is of, or None."""

    own: str
    driver: str | None
    rocm: str | None


def code_of(version: str) -> Code:
    """Take a package's version apart."""
    own, _dot, last = upstream(version).rpartition(".")
    driver, rocm = _DRIVER.match(last), _ROCM.match(last)
    if driver:
        return Code(own, _numbers(driver), None)
    return Code(own, None, _numbers(rocm)) if rocm else Code(upstream(version), None, None)


def _numbers(found: re.Match[str]) -> str:
    return ".".join(str(int(part)) for part in found.groups())


def is_amd(name: str, version: str) -> bool:
    """Whether a package belongs to AMD's software, or to what its module is built with."""
    code = code_of(version)
    return bool(_NAMES.match(name)) or code.driver is not None or code.rocm is not None


def installed_rocm(packages: Mapping[str, Mapping[str, Any]], info: str) -> str | None:
    """Version of ROCm: that of the package rocm-core, or what ``info`` (/opt/rocm/.info/version) says."""
    core = packages.get("rocm-core")
    if core:
        return code_of(str(core["version"])).rocm
    found = re.match(r"\s*(\d+\.\d+(?:\.\d+)?)", info)
    return found[1] if found else None
