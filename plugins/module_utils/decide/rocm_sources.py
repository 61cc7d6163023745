# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where each distribution gets the driver amdgpu and ROCm from, and what their packages are called. Data.

Read on 2026-11-29. Repositories, suites and the driver's package: AMD's installation pages, ROCm/amdgpu-docs
(docs/install/detailed-install/package-manager/, docs/conf.py: Debian 13 takes noble, Debian 12 jammy) and
ROCm/rocm-install-on-linux (docs/install/install-methods/package-manager/). Headers: docs/install/detailed-install/
prerequisites.rst of the former. Packages of ROCm: what a public installer of vLLM 0.30.0+rocm723 on Ubuntu 24.04 found
that the wheels' torch links, and amd-smi-lib, by which vLLM and gpu_info find the GPUs; the names of OpenMPI's library:
packages.debian.org, packages.ubuntu.com. ``{kernel}`` is the running kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver_sources

SERVER = "https://repo.radeon.com"
KEY = "rocm/rocm.gpg.key"
# "ROCm Release Manager": seen in several public projects that pin it, since 2017.
FINGERPRINT = "CA8BB4727A47B4D09B4EE8969386B48A1A693C5C"
DRIVER = "amdgpu-dkms"
GROUPS = ("render", "video")


@dataclass(frozen=True)
class Distribution:
    """One release of a distribution. ``suite`` is apt's, of both repositories; None for dnf."""

    name: str
    manager: str
    suite: str | None
    headers: tuple[str, ...]
    packages: tuple[str, ...]


_ROCM = ("rocm-libs", "hip-runtime-amd", "rocminfo", "amd-smi-lib", "rocprofiler-sdk", "hsa-amd-aqlprofile")
_HEADERS_DEBIAN = ("linux-headers-{kernel}",)
_HEADERS_UBUNTU = ("linux-headers-{kernel}", "linux-modules-extra-{kernel}")
_HEADERS_RHEL = ("kernel-devel-matched", "kernel-headers")

DISTRIBUTIONS: Mapping[str, Distribution] = {
    "debian-12": Distribution("Debian 12", "apt", "jammy", _HEADERS_DEBIAN, (*_ROCM, "libopenmpi3")),
    "debian-13": Distribution("Debian 13", "apt", "noble", _HEADERS_DEBIAN, (*_ROCM, "libopenmpi40")),
    "ubuntu-22.04": Distribution("Ubuntu 22.04", "apt", "jammy", _HEADERS_UBUNTU, (*_ROCM, "libopenmpi3")),
    "ubuntu-24.04": Distribution("Ubuntu 24.04", "apt", "noble", _HEADERS_UBUNTU, (*_ROCM, "libopenmpi3t64")),
    "rhel-9": Distribution("RHEL 9 and kin", "dnf", None, _HEADERS_RHEL, (*_ROCM, "openmpi")),
}


def distribution_of(facts: Mapping[str, Any]) -> Distribution | None:
    """The row for ``id`` and ``version`` of /etc/os-release; None where it is not in the table."""
    return DISTRIBUTIONS.get(driver_sources.row_of(facts))


def repositories(
    distribution: Distribution, server: str, driver_version: str, rocm_version: str, release: str
) -> list[dict[str, Any]]:
    """AMD's two repositories: ``name``, ``description``, ``url`` and, for apt, ``suite``.

    ``release`` is the distribution's own version (9.6), which the driver's path has on RHEL.
    """
    if distribution.manager == "apt":
        driver = f"{server}/amdgpu/{driver_version}/ubuntu"
        rocm = f"{server}/rocm/apt/{rocm_version}"
    else:
        driver = f"{server}/amdgpu/{driver_version}/el/{release}/main/x86_64"
        rocm = f"{server}/rocm/el9/{rocm_version}/main"
    return [
        {"name": "amdgpu", "description": "AMD GPU driver", "url": driver, "suite": distribution.suite},
        {"name": "rocm", "description": "AMD ROCm", "url": rocm, "suite": distribution.suite},
    ]
