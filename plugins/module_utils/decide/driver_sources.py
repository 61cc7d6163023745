# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where each distribution gets an NVIDIA driver from, and what its packages are called. Data.

Read on 2026-11-24. Packages and streams: NVIDIA Driver Installation Guide 580 to 620, "Kernel Modules" and
"Compute-only and Desktop Installation". Fabric manager and IMEX: NVIDIA/gpu-driver-container, install.sh of each
distribution (no branch in the name from 580 on). Ubuntu's and Debian's own: packages.ubuntu.com, packages.debian.org.
In names, ``{branch}`` is the driver's branch and ``{kernel}`` the running kernel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SERVER = "https://developer.download.nvidia.com/compute/cuda/repos"
# NVIDIA's name of an architecture in its repositories, by `uname -m`.
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "sbsa"}
# Branches whose packages NVIDIA's repositories have without the branch in the name.
OLDEST_BRANCH = 580


@dataclass(frozen=True)
class Source:
    """Packages of one source. ``stream`` is a module stream of dnf; ``branches`` what it has, None for any."""

    open_modules: tuple[str, ...]
    proprietary_modules: tuple[str, ...]
    fabric_manager: tuple[str, ...]
    imex: tuple[str, ...]
    branches: tuple[int, ...] | None = None
    open_stream: str | None = None
    proprietary_stream: str | None = None


@dataclass(frozen=True)
class Distribution:
    """One release of a distribution. ``path`` is its folder on NVIDIA's server, where ``key_file`` lies too."""

    name: str
    manager: str
    path: str
    key_file: str
    fingerprint: str
    headers: tuple[str, ...]
    nvidia: Source
    own: Source | None


_FABRIC = ("nvidia-fabricmanager", "libnvidia-nscq")
_IMEX = ("nvidia-imex",)
# Compute only: no parts for a display.
_NVIDIA_DEBIAN = Source(
    ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"),
    ("nvidia-driver-cuda", "nvidia-kernel-dkms", "nvidia-persistenced"),
    _FABRIC,
    _IMEX,
)
_NVIDIA_UBUNTU = Source(("nvidia-open",), ("cuda-drivers",), _FABRIC, _IMEX)
_NVIDIA_RHEL = Source(
    ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced"),
    ("nvidia-driver-cuda", "kmod-nvidia-latest-dkms", "nvidia-persistenced"),
    _FABRIC,
    _IMEX,
    open_stream="nvidia-driver:{branch}-open",
    proprietary_stream="nvidia-driver:{branch}-dkms",
)


def _debian_own(branch: int) -> Source:
    return Source(
        ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ("nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
        (),
        (),
        branches=(branch,),
    )


_UBUNTU_OWN = Source(
    ("nvidia-headless-{branch}-server-open", "nvidia-utils-{branch}-server"),
    ("nvidia-headless-{branch}-server", "nvidia-utils-{branch}-server"),
    ("nvidia-fabricmanager-{branch}", "libnvidia-nscq-{branch}"),
    ("nvidia-imex-{branch}",),
)
# cuda-keyring 1.1, D42D0685.pub and 8793F200.pub: each fingerprint was seen in several public projects that pin it.
_KEY = ("3bf863cc.pub", "EB693B3035CD5710E231E123A4B469963BF863CC")
_KEY_DEBIAN_13 = ("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200")
_KEY_RPM = ("D42D0685.pub", "610C7B14E068A878070DA4E99CD0A493D42D0685")
_HEADERS_DEB = ("linux-headers-{kernel}",)
_HEADERS_RPM = ("kernel-devel-matched", "kernel-headers")

DISTRIBUTIONS: Mapping[str, Distribution] = {
    "debian-12": Distribution("Debian 12", "apt", "debian12", *_KEY, _HEADERS_DEB, _NVIDIA_DEBIAN, _debian_own(535)),
    "debian-13": Distribution(
        "Debian 13", "apt", "debian13", *_KEY_DEBIAN_13, _HEADERS_DEB, _NVIDIA_DEBIAN, _debian_own(550)
    ),
    "ubuntu-22.04": Distribution("Ubuntu 22.04", "apt", "ubuntu2204", *_KEY, _HEADERS_DEB, _NVIDIA_UBUNTU, _UBUNTU_OWN),
    "ubuntu-24.04": Distribution("Ubuntu 24.04", "apt", "ubuntu2404", *_KEY, _HEADERS_DEB, _NVIDIA_UBUNTU, _UBUNTU_OWN),
    "rhel-9": Distribution("RHEL 9 and kin", "dnf", "rhel9", *_KEY_RPM, _HEADERS_RPM, _NVIDIA_RHEL, None),
}
_RHEL_KIN = ("rhel", "rocky", "almalinux", "centos", "ol")
# Kernels of Debian: 6.1.0-40-amd64, 6.12.48+deb13-cloud-amd64. The meta package follows the kernel's updates.
_DEBIAN_FLAVOUR = re.compile(r"^[\d.]+(?:\+deb\d+\w*)?(?:-\d+)?-((?:cloud-|rt-)?(?:amd64|arm64))$")


def row_of(facts: Mapping[str, Any]) -> str:
    """Name of the row for ``id`` and ``version`` of /etc/os-release, whether or not a table has it."""
    name, version = str(facts.get("id")), str(facts.get("version"))
    if name in _RHEL_KIN:
        name, version = "rhel", version.split(".")[0]
    return f"{name}-{version}"


def distribution_of(facts: Mapping[str, Any]) -> Distribution | None:
    """The row for ``id`` and ``version`` of /etc/os-release; None where it is not in the table."""
    return DISTRIBUTIONS.get(row_of(facts))


def headers(names: Sequence[str], distribution: str, kernel: str) -> list[str]:
    """Packages that a kernel module is built with, for the running kernel and, on Debian, for those that follow.

    ``names`` and ``distribution`` are ``headers`` and ``name`` of a row.
    """
    found = [name.format(kernel=kernel) for name in names]
    flavour = _DEBIAN_FLAVOUR.match(kernel)
    if flavour and distribution.startswith("Debian"):
        found.append(f"linux-headers-{flavour[1]}")
    return found
