# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the files of /proc and /sys that the facts are made of. I/O only; meaning is given elsewhere.

The result is one JSON-able object, so that a recording of it (``host.json``) is as good as the host:
``files`` (path to text; a symbolic link to the last part of its target after ``-> ``), ``shm`` (``total_mib``
and ``free_mib`` of /dev/shm, or None) and ``limits`` (name to [soft, hard], -1 for unlimited).
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
FILE_LIMIT_BYTES = 256 * 1024
# Nothing here asks a GPU: /proc/driver/nvidia/gpus does, and reading it can hang with the driver.
PATTERNS = (
    "proc/meminfo",
    "proc/cmdline",
    "proc/modules",
    "proc/cpuinfo",
    "proc/driver/nvidia/version",
    "proc/driver/nvidia-nvswitch/devices/*",
    "sys/devices/system/node/node*/cpulist",
    "sys/devices/system/node/node*/meminfo",
    "sys/module/nouveau/initstate",
    "sys/module/amdgpu/version",
    "sys/module/amdgpu/initstate",
    "sys/firmware/efi/efivars/SecureBoot-*",
)
LINK_PATTERNS = ("sys/class/iommu/*", "sys/class/infiniband/*/device")
# PCI base classes worth keeping: network 0x02, display 0x03, bridge 0x06 (NVSwitch calls itself one, 0x0680),
# processing accelerator 0x12 (AMD Instinct). Source: PCI Code and ID Assignment Specification 1.11.
PCI_CLASSES = ("0x02", "0x03", "0x0680", "0x12")
PCI_FILES = ("class", "vendor", "device", "numa_node", "iommu_group/type")
PCI_LINKS = ("driver",)
# Words of the kernel's command line that matter here; the rest (disks, addresses) is nobody's business.
_CMDLINE_WORD = re.compile(r"iommu|pci|nvidia|nouveau|amdgpu|modprobe|numa|hugepages|isolcpus|lockdown")
# A 512-thread host's /proc/cpuinfo is close to a megabyte; its first entries say all that is asked of it.
SHORTENED = {"proc/cpuinfo": 4096}


def read_host(root: str = "/") -> dict[str, Any]:
    """Read everything under ``root`` (a folder laid out like a host, "/" for this one)."""
    base = Path(root)
    files: dict[str, str] = {}
    for pattern in PATTERNS:
        for path in sorted(base.glob(pattern)):
            _add(files, base, path, SHORTENED.get(pattern, FILE_LIMIT_BYTES))
    if "/proc/cmdline" in files:
        words = files["/proc/cmdline"].split()
        files["/proc/cmdline"] = " ".join(word for word in words if _CMDLINE_WORD.search(word))
    for pattern in LINK_PATTERNS:
        for path in sorted(base.glob(pattern)):
            _add_link(files, base, path)
    for device in sorted(base.glob("sys/bus/pci/devices/*")):
        _add_pci(files, base, device)
    return {"files": files, "shm": _shm(base / "dev/shm"), "limits": _limits()}


def _add(files: dict[str, str], base: Path, path: Path, limit: int) -> None:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit)
    except OSError:
        return
    files["/" + str(path.relative_to(base))] = data.decode("utf-8", errors="replace")


def _add_link(files: dict[str, str], base: Path, path: Path) -> None:
    try:
        target = str(path.readlink())
    except OSError:
        return
    files["/" + str(path.relative_to(base))] = "-> " + target.rsplit("/", 1)[-1]


def _add_pci(files: dict[str, str], base: Path, device: Path) -> None:
    try:
        kind = (device / "class").read_text()
    except OSError:
        return
    if not kind.startswith(PCI_CLASSES):
        return
    for name in PCI_FILES:
        _add(files, base, device / name, FILE_LIMIT_BYTES)
    for name in PCI_LINKS:
        _add_link(files, base, device / name)


def _shm(path: Path) -> dict[str, int] | None:
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return {
        "total_mib": stat.f_blocks * stat.f_frsize // MIB,
        "free_mib": stat.f_bavail * stat.f_frsize // MIB,
    }


def _limits() -> dict[str, list[int]]:
    return {
        "memlock": list(resource.getrlimit(resource.RLIMIT_MEMLOCK)),
        "nofile": list(resource.getrlimit(resource.RLIMIT_NOFILE)),
    }
