# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What surrounds the GPUs: PCI devices, network adapters, host.json of a recording. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.pci import (
    NVIDIA,
    PciDevice,
    normal_address,
    parse_lspci,
    pci_from_sys,
)


def nics_with_places(
    nics: Sequence[dict[str, Any]], files: Mapping[str, str], pci: Sequence[PciDevice]
) -> list[dict[str, Any]]:
    """NICs of the topology with their PCI address and NUMA node; RDMA adapters that it does not name too."""
    found = {
        path.split("/")[4]: normal_address(text[3:])
        for path, text in files.items()
        if path.startswith("/sys/class/infiniband/") and text.startswith("-> ")
    }
    nodes = {device.address: device.numa_node for device in pci}
    named = {nic["name"] for nic in nics}
    others = [{"label": None, "name": name, "links": None} for name in sorted(found) if name not in named]
    return [
        {
            **nic,
            "pci_bus_id": found.get(nic["name"] or ""),
            "numa_node": nodes.get(found.get(nic["name"]) or ""),
        }
        for nic in [*nics, *others]
    ]


def pci_devices(lspci: str, files: Mapping[str, str]) -> list[PciDevice]:
    """lspci and /sys together, by address: the first knows names and ACS, the second is always there."""
    merged = {device.address: device for device in parse_lspci(lspci)}
    for device in pci_from_sys(files):
        known = merged.setdefault(device.address, device)
        known.vendor = known.vendor or device.vendor
        known.kind = known.kind or device.kind
        known.device_id = known.device_id or device.device_id
        known.driver = known.driver or device.driver
        known.numa_node = known.numa_node if known.numa_node is not None else device.numa_node
        known.iommu_type = known.iommu_type or device.iommu_type
    return [merged[address] for address in sorted(merged)]


def host_data(text: str, warnings: list[str]) -> dict[str, Any]:
    """host.json with the right types, whatever a damaged recording holds."""
    found: Any = {}
    if text.strip():
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            warnings.append(f"{sources.HOST} is not JSON and was not used. Record it again.")
    found = found if isinstance(found, dict) else {}
    files = found.get("files")
    limits = found.get("limits")
    shm = found.get("shm")
    return {
        "files": {str(path): text for path, text in files.items() if isinstance(text, str)}
        if isinstance(files, dict)
        else {},
        "limits": {str(name): pair for name, pair in limits.items() if isinstance(pair, list) and _two_numbers(pair)}
        if isinstance(limits, dict)
        else {},
        "shm": shm if isinstance(shm, dict) and isinstance(shm.get("total_mib"), int) else {},
    }


def _two_numbers(pair: Sequence[Any]) -> bool:
    return len(pair) == 2 and all(isinstance(value, int) for value in pair)


def pci_gpus(pci: Sequence[PciDevice]) -> list[dict[str, Any]]:
    """GPUs that the PCI bus shows, with or without a driver."""
    return [
        {
            "pci_bus_id": device.address,
            "vendor": "nvidia" if device.vendor == NVIDIA else "amd",
            "name": device.name,
            "device_id": device.device_id,
            "driver": device.driver,
            "numa_node": device.numa_node,
        }
        for device in pci
        if device.is_gpu
    ]
