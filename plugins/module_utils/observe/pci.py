# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads ``lspci -nn -vv`` and the PCI part of /sys: GPUs, NVSwitches, network adapters, ACS. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NVIDIA = "10de"
AMD = "1002"
# Vendors of adapters that carry RDMA. Source: pci.ids.
RDMA_VENDORS = {"15b3": "mellanox", "14e4": "broadcom", "8086": "intel", "1425": "chelsio", "1d0f": "amazon"}

_SLOT = re.compile(r"^((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (.*)$", re.IGNORECASE)
_CODES = re.compile(r"\[([0-9a-f]{4}):([0-9a-f]{4})\]", re.IGNORECASE)
_CLASS = re.compile(r"^([^:\[]{1,100}?)(?:\s{0,9}\[([0-9a-f]{4})\])?:\s*(.*)$", re.IGNORECASE)
_SYS = re.compile(r"^/sys/bus/pci/devices/([0-9a-f:.]+)/(.+)$")
_VENDOR_NAMES = {NVIDIA: "NVIDIA Corporation", AMD: "Advanced Micro Devices, Inc. [AMD/ATI]"}
_CLASS_CODES = {
    "VGA compatible controller": "0300",
    "3D controller": "0302",
    "Display controller": "0380",
    "Processing accelerators": "1200",
    "Bridge": "0680",
    "PCI bridge": "0604",
    "Ethernet controller": "0200",
    "Infiniband controller": "0207",
}


@dataclass
class PciDevice:
    """One PCI device. ``address`` is 0000:17:00.0, ``kind`` the four digits of its class, ``device_id`` its own."""

    address: str
    kind: str
    vendor: str | None = None
    name: str | None = None
    driver: str | None = None
    numa_node: int | None = None
    iommu_type: str | None = None
    acs_redirect: bool | None = None
    device_id: str | None = None

    @property
    def is_gpu(self) -> bool:
        return self.vendor in (NVIDIA, AMD) and (self.kind.startswith("03") or self.kind == "1200")

    @property
    def is_nvswitch(self) -> bool:
        return self.vendor == NVIDIA and self.kind == "0680"


def normal_address(text: str | None) -> str | None:
    """``00000000:17:00.0``, ``17:00.0`` or upper case to the form of /sys, ``0000:17:00.0``; else None."""
    match = re.match(r"^(?:0{0,4}([0-9a-f]{4}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$", (text or "").lower())
    return f"{match[1] or '0000'}:{match[2]}" if match else None


def parse_lspci(text: str) -> list[PciDevice]:
    """Read lspci with or without -nn, -vv and -D. Lines that belong to no device are skipped."""
    found: list[PciDevice] = []
    for line in text.splitlines():
        slot = _SLOT.match(line)
        if slot:
            found.append(_device(slot[1], slot[2]))
        elif found:
            _detail(found[-1], line.strip())
    return found


def _device(address: str, rest: str) -> PciDevice:
    kind = _CLASS.match(rest)
    label, code, name = (kind[1], kind[2], kind[3]) if kind else (rest, None, rest)
    codes = _CODES.search(name)
    vendor = codes[1].lower() if codes else None
    if vendor is None:
        vendor = next((number for number, text in _VENDOR_NAMES.items() if name.startswith(text)), None)
    return PciDevice(
        normal_address(address) or address,
        (code or _CLASS_CODES.get(label, "")).lower(),
        vendor,
        name,
        device_id=codes[2].lower() if codes else None,
    )


def _detail(device: PciDevice, line: str) -> None:
    if line.startswith("Kernel driver in use:"):
        device.driver = line.partition(":")[2].strip()
    elif line.startswith("NUMA node:"):
        number = line.partition(":")[2].strip()
        device.numa_node = int(number) if number.isascii() and number.isdigit() else None
    elif line.startswith("ACSCtl:"):
        # Redirecting requests or completions sends P2P traffic through the root complex.
        device.acs_redirect = "ReqRedir+" in line or "CmpltRedir+" in line


def pci_from_sys(files: Mapping[str, str]) -> list[PciDevice]:
    """The devices whose /sys files were read, by address."""
    parts: dict[str, dict[str, str]] = {}
    for path, text in files.items():
        match = _SYS.match(path)
        if match:
            parts.setdefault(match[1], {})[match[2]] = text.strip()
    return [_from_parts(address, values) for address, values in sorted(parts.items()) if "class" in values]


def _from_parts(address: str, values: Mapping[str, str]) -> PciDevice:
    node = values.get("numa_node", "")
    driver = values.get("driver", "")
    return PciDevice(
        address,
        values["class"][2:6].lower(),
        values.get("vendor", "")[2:].lower() or None,
        driver=driver[3:] if driver.startswith("-> ") else None,
        numa_node=int(node) if node.isascii() and node.isdigit() else None,
        iommu_type=values.get("iommu_group/type"),
        device_id=values.get("device", "")[2:].lower() or None,
    )
