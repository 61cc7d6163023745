# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Devices of a host from all that its tools say of them, in one shape for every vendor. Pure."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    nvidia_human,
    nvidia_text,
    nvidia_xml,
    sources,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.pci import PciDevice, normal_address
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import (
    compute_capability_of,
    profile_of,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import Outputs
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

_EMPTY = nvidia_xml.device_from_element(ET.Element("gpu"), 0)
# Every device has all of these keys; None is what no tool said.
SHAPE: dict[str, Any] = {
    "index": None,
    "uuid": None,
    "name": None,
    "architecture": None,
    "pci_bus_id": None,
    "numa_node": None,
    "memory_total_mib": None,
    "memory_reserved_mib": None,
    "memory_used_mib": None,
    "memory_free_mib": None,
    "unified_memory": None,
    "compute_capability": None,
    "gfx": None,
    "persistence_mode": None,
    "compute_mode": None,
    "mig_mode": None,
    "mig_mode_pending": None,
    "mig_devices": [],
    "ecc": _EMPTY["ecc"],
    "fabric": _EMPTY["fabric"],
    "pcie": _EMPTY["pcie"],
    "nvlink": None,
    "processes": [],
    "addressing_mode": None,
    "virtualization_mode": None,
    "recovery_action": None,
    "slowdowns": [],
    "vgpu_license": None,
    "utilization_percent": None,
    "minor_number": None,
    "brand": None,
    "lost": False,
}


def shaped(device: Mapping[str, Any]) -> dict[str, Any]:
    """A device with every key of the shape."""
    return {key: device[key] if key in device else copy.copy(value) for key, value in SHAPE.items()}


def text_of(outputs: Outputs, name: str) -> str:
    """What a tool printed, also where it then failed (nvidia-smi does so for one bad GPU of many).

    The output of a tool that was stopped may end anywhere and is not used.
    """
    output = outputs.get(name)
    return output.text if output and output.status in (sources.OK, sources.FAILED) else ""


def nvidia_devices(outputs: Outputs, gpus: Sequence[int], warnings: list[str]) -> dict[str, Any]:
    """NVIDIA devices by index: ``devices``, ``driver_version``, ``cuda_version``, ``readable``.

    ``gpus`` are the numbers that the matrices name; they are used where nothing else names a GPU.
    ``readable`` is False where nvidia-smi -q -x printed something that could not be read.
    """
    found, readable = _described(outputs, warnings)
    listed, queried = _list(outputs, warnings), _query(outputs, warnings)
    devices: list[dict[str, Any]] = found["devices"] if found else []
    versions = nvidia_human.parse_version(text_of(outputs, sources.NVIDIA_VERSION))
    if devices:
        _number(devices, listed, queried, warnings)
    elif queried or listed:
        devices = _without_xml(listed, queried)
    else:
        devices = [{"index": gpu} for gpu in gpus]
    _add_list(devices, listed)
    _add_query(devices, queried)
    _add_nvlinks(devices, outputs, warnings)
    _add_programs(devices, text_of(outputs, sources.NVIDIA_APPS), warnings)
    for device in devices:
        _add_known(device)
    return {
        "devices": sorted((shaped(device) for device in devices), key=lambda device: device["index"]),
        "driver_version": (found or versions).get("driver_version") or _first(queried, "driver_version"),
        "cuda_version": (found or versions).get("cuda_version"),
        "readable": readable,
    }


def _warn(error: ParseError, text: str, warnings: list[str]) -> None:
    """Warn of a damaged answer; a complaint of the tool is judged elsewhere."""
    if not nvidia_text.complains(text):
        warnings.append(str(error))


_READERS: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
    (sources.NVIDIA_XML, nvidia_xml.parse_nvidia_xml),
    (sources.NVIDIA_TEXT, nvidia_human.parse_query_text),
    (sources.NVIDIA_TABLE, nvidia_human.parse_table),
)


def _described(outputs: Outputs, warnings: list[str]) -> tuple[dict[str, Any] | None, bool]:
    """What the fullest description of the GPUs says, and whether all descriptions could be read."""
    readable = True
    for name, read in _READERS:
        text = text_of(outputs, name)
        if not text.strip():
            continue
        try:
            found = read(text)
        except ParseError as error:
            _warn(error, text, warnings)
            readable = readable and nvidia_text.complains(text)
            continue
        warnings.extend(found["warnings"])
        return found, True
    return None, readable


def _list(outputs: Outputs, warnings: list[str]) -> list[dict[str, Any]]:
    text = text_of(outputs, sources.NVIDIA_LIST)
    if not text.strip() and "GPU 0:" in text_of(outputs, sources.NVIDIA_NVLINK):
        # nvlink -s names every GPU in the same form.
        text = text_of(outputs, sources.NVIDIA_NVLINK)
    try:
        return nvidia_text.parse_list(text)
    except ParseError as error:
        _warn(error, text, warnings)
        return []


def _query(outputs: Outputs, warnings: list[str]) -> list[dict[str, str | None]]:
    text = text_of(outputs, sources.NVIDIA_QUERY)
    if not text.strip():
        return []
    try:
        return nvidia_text.parse_query(text)
    except ParseError as error:
        # Drivers before 510 refuse the field compute_cap; the table of GPUs then says it.
        _warn(error, text, warnings)
        return []


def _number(
    devices: list[dict[str, Any]],
    listed: Sequence[Mapping[str, Any]],
    queried: Sequence[Mapping[str, str | None]],
    warnings: list[str],
) -> None:
    """Number the GPUs of the XML. It has no numbers, and the number of a lost GPU is left out."""
    by_uuid = {entry["uuid"]: entry["index"] for entry in listed if entry["uuid"]}
    by_bus = {normal_address(entry.get("pci.bus_id")): entry.get("index") for entry in queried}
    numbers: list[int] = []
    for device in devices:
        bus = by_bus.get(normal_address(device["pci_bus_id"])) if device["pci_bus_id"] else None
        number = int(bus) if bus and is_whole(bus) else by_uuid.get(device.get("uuid"), device["index"])
        numbers.append(number)
    if len(set(numbers)) < len(numbers):
        warnings.append("nvidia-smi numbers the GPUs in more than one way: they were numbered in PCI order.")
        return
    for device, number in zip(devices, numbers):
        device["index"] = number


def _without_xml(
    listed: Sequence[Mapping[str, Any]], queried: Sequence[Mapping[str, str | None]]
) -> list[dict[str, Any]]:
    numbers = {entry["index"] for entry in listed}
    numbers.update(int(str(entry["index"])) for entry in queried if is_whole(str(entry.get("index"))))
    if not numbers:
        numbers = set(range(len(queried)))
    return [{"index": number} for number in sorted(numbers)]


def _add_list(devices: list[dict[str, Any]], listed: Sequence[Mapping[str, Any]]) -> None:
    by_index = {device["index"]: device for device in devices}
    for entry in listed:
        device = by_index.get(entry["index"])
        if device is None:
            continue
        device["name"] = device.get("name") or entry["name"]
        device["uuid"] = device.get("uuid") or entry["uuid"]
        if not device.get("mig_devices"):
            device["mig_devices"] = [dict(instance) for instance in entry["mig_devices"]]
            continue
        for instance, named in zip(device["mig_devices"], entry["mig_devices"]):
            instance.update(profile=named["profile"], uuid=instance.get("uuid") or named["uuid"])


def _add_query(devices: list[dict[str, Any]], queried: Sequence[Mapping[str, str | None]]) -> None:
    by_index = {str(device["index"]): device for device in devices}
    for place, entry in enumerate(queried):
        device = by_index.get(entry.get("index") or str(place))
        if device is None:
            continue
        device["compute_capability"] = device.get("compute_capability") or entry.get("compute_cap")
        for key, column in (("name", "name"), ("uuid", "uuid"), ("pci_bus_id", "pci.bus_id")):
            device[key] = device.get(key) or entry.get(column)
        for key in ("total", "used", "free"):
            if device.get(f"memory_{key}_mib") is None:
                device[f"memory_{key}_mib"] = _whole(entry.get(f"memory.{key}"))


def _add_nvlinks(devices: list[dict[str, Any]], outputs: Outputs, warnings: list[str]) -> None:
    text = text_of(outputs, sources.NVIDIA_NVLINK)
    try:
        found = nvidia_text.parse_nvlink(text)
    except ParseError as error:
        _warn(error, text, warnings)
        return
    by_index = {entry.index: entry for entry in found}
    for device in devices:
        entry = by_index.get(device["index"])
        if entry:
            device["nvlink"] = {
                "active": len(entry.speeds),
                "inactive": entry.inactive,
                "gb_per_s": entry.speeds[0] if entry.speeds else None,
                "message": entry.message,
            }


def _add_programs(devices: list[dict[str, Any]], text: str, warnings: list[str]) -> None:
    """Programs by ``--query-compute-apps``, for GPUs of which nothing else names any."""
    if not text.strip():
        return
    try:
        rows = nvidia_text.parse_query(text)
    except ParseError as error:
        _warn(error, text, warnings)
        return
    for device in devices:
        if device.get("processes"):
            continue
        device["processes"] = [
            {
                "pid": _whole(row.get("pid")),
                "type": "C",
                "name": row.get("process_name") or row.get("name"),
                "memory_used_mib": _whole(row.get("used_gpu_memory") or row.get("used_memory")),
            }
            for row in rows
            if _is_of(row, device)
        ]


def _is_of(row: Mapping[str, str | None], device: Mapping[str, Any]) -> bool:
    bus = row.get("gpu_bus_id")
    if bus and device.get("pci_bus_id"):
        return normal_address(bus) == normal_address(device["pci_bus_id"])
    return bool(row.get("gpu_uuid")) and row["gpu_uuid"] == device.get("uuid")


def _whole(text: str | None) -> int | None:
    """A whole number, of MiB or without a unit."""
    number, _, unit = (text or "").partition(" ")
    return int(number) if number.isascii() and number.isdigit() and unit in ("MiB", "") else None


def _add_known(device: dict[str, Any]) -> None:
    """What the product's name tells, where the driver did not."""
    profile = profile_of(device.get("name"))
    device["compute_capability"] = device.get("compute_capability") or compute_capability_of(device.get("name"))
    if profile:
        device["unified_memory"] = profile.unified


def _first(rows: Sequence[Mapping[str, str | None]], key: str) -> str | None:
    return next((row[key] for row in rows if row.get(key)), None)


def add_numa(devices: Sequence[dict[str, Any]], pci: Sequence[PciDevice], affinity: Mapping[int, str | None]) -> None:
    """Set ``numa_node`` where it is not known: by the kernel's word on the PCI device, then by the topology.

    ``affinity`` is the topology's NUMA cell by GPU number; a range of nodes ("0-3") is no answer.
    """
    by_address = {device.address: device.numa_node for device in pci}
    for device in devices:
        if device["numa_node"] is None:
            device["numa_node"] = by_address.get(normal_address(device["pci_bus_id"]) or "")
        cell = affinity.get(device["index"])
        if device["numa_node"] is None and cell and cell.isascii() and cell.isdigit():
            device["numa_node"] = int(cell)


def kind_of(device: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be equal for GPUs to work in one group: model, memory, and being cut into MIG instances."""
    return device["name"], device["memory_total_mib"], bool(device["mig_mode"])


def mixed(devices: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether models or memory sizes differ; None where neither is known of several GPUs."""
    if len(devices) < 2:
        return False
    known = {(device["name"], device["memory_total_mib"]) for device in devices}
    return None if known == {(None, None)} else len(known) > 1
