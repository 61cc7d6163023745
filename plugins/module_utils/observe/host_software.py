# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what package managers and the kernel say of a host's GPU software. Pure: text in, facts out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Whether a package of this name and version is kept.
Wanted = Callable[[str, str], bool]

# NVIDIA's: packages of the driver, of what goes with it, and of CUDA; kernel headers, which its module is built with.
_OURS = re.compile(
    r"nvidia|^cuda-|^libcuda|^libnv|^nvlsm$|^infiniband-diags$|^datacenter-gpu-manager|^(?:linux-headers|linux-modules-extra|kernel-devel)",
)
DPKG_FORMAT = "${Package}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Status}\\t${db-fsys:Last-Modified}\\n"
RPM_FORMAT = "%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t%{INSTALLTIME}\\n"
# What carries the driver's version, best first: the user-space part, then meta packages, in NVIDIA's repositories and
# the distributions' own.
_DRIVERS = re.compile(
    r"^(?:nvidia-driver-cuda|nvidia-utils-\d+(?:-server)?|nvidia-utils|nvidia-smi|nvidia-driver|nvidia-open|cuda-drivers)$"
)
_FABRIC_MANAGER = re.compile(r"^nvidia-fabric-?manager(?:-\d+)?$")
_ORDER = ("nvidia-driver-cuda", "nvidia-utils", "nvidia-smi", "nvidia-driver", "nvidia-open", "cuda-drivers")


def is_nvidia(name: str, version: str) -> bool:
    """Whether a package belongs to NVIDIA's software, or to what its module is built with."""
    del version
    return bool(_OURS.search(name))


def parse_dpkg(text: str, wanted: Wanted = is_nvidia) -> dict[str, dict[str, Any]]:
    """Read ``dpkg-query --show --showformat DPKG_FORMAT``: installed packages that are ``wanted``, by name.

    Each has ``version`` (as dpkg writes it), ``held`` and ``installed_at`` (seconds since 1970).
    """
    found = {}
    for line in text.splitlines():
        name, version, want, status, changed = (*line.split("\t"), "", "", "", "")[:5]
        if status == "installed" and wanted(name, version):
            found[name] = {"version": version, "held": want == "hold", "installed_at": _number(changed)}
    return found


def parse_rpm(text: str, wanted: Wanted = is_nvidia) -> dict[str, dict[str, Any]]:
    """Read ``rpm -qa --queryformat RPM_FORMAT``, in the shape of ``parse_dpkg``; ``held`` is None: rpm has no holds."""
    found = {}
    for line in text.splitlines():
        name, version, changed = (*line.split("\t"), "", "")[:3]
        if wanted(name, version):
            found[name] = {"version": version, "held": None, "installed_at": _number(changed)}
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def upstream(version: str) -> str:
    """A driver's own version in a package's: ``3:580.95.05-1.el9`` and ``580.95.05-0ubuntu1`` give 580.95.05."""
    return re.split(r"[-+~]", version.split(":", 1)[-1], maxsplit=1)[0]


def driver_package(packages: dict[str, dict[str, Any]]) -> str | None:
    """Name of the installed package that carries the driver's version; None where the driver is not of packages."""
    names = [name for name in packages if _DRIVERS.match(name)]

    def place(name: str) -> tuple[int, str]:
        return next(number for number, start in enumerate(_ORDER) if name.startswith(start)), name

    return min(names, key=place) if names else None


def fabric_manager_package(packages: dict[str, dict[str, Any]]) -> str | None:
    """Name of the installed package of the fabric manager; the one of the newest version where there are several."""
    names = [name for name in packages if _FABRIC_MANAGER.match(name)]
    return max(names, key=lambda name: (packages[name]["version"], name)) if names else None


def os_release(text: str) -> dict[str, Any]:
    """Read /etc/os-release: ``id``, ``version`` (``"12"``, ``"24.04"``), ``like`` (a list) and ``name``."""
    pairs = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z_]+=", line))
    values = {key: value.strip().strip("\"'") for key, value in pairs.items()}
    return {
        "id": values.get("ID", "linux").lower(),
        "version": values.get("VERSION_ID", ""),
        "like": values.get("ID_LIKE", "").lower().split(),
        "name": values.get("PRETTY_NAME") or values.get("NAME") or "Linux",
    }


def started_at(stat: str, init_stat: str, ticks_per_second: int) -> int | None:
    """When the system was started, in seconds since 1970: when its process 1 was.

    ``stat`` is /proc/stat, ``init_stat`` /proc/1/stat (proc(5): btime, and field 22, starttime in clock ticks). The
    kernel's own start would be another machine's in a container.
    """
    booted = re.search(r"^btime (\d+)$", stat, re.MULTILINE)
    after_name = init_stat.rpartition(")")[2].split()
    if booted is None or len(after_name) < 20 or not after_name[19].isdigit():
        return None
    return int(booted[1]) + int(after_name[19]) // ticks_per_second


def secure_boot(efi_variable: str | None) -> bool | None:
    """Whether secure boot is on, by the bytes of its EFI variable; None on a host without EFI."""
    return efi_variable.endswith("\x01") if efi_variable else None
