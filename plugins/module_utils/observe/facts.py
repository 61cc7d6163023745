# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Assembles ``gpu_facts`` from named outputs. Pure: it neither runs nor opens anything."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import cpu, nvidia_xml, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import Outputs

SCHEMA_VERSION = 1


def build_facts(outputs: Outputs) -> dict[str, Any]:
    """All facts of one host, in the shape that the module's documentation describes."""
    warnings: list[str] = []
    host = _host(outputs, warnings)
    files: dict[str, str] = host.get("files") or {}
    lscpu = cpu.parse_lscpu(_text(outputs, sources.LSCPU))
    nodes = cpu.numa_nodes(lscpu, files, _text(outputs, sources.NUMACTL))
    nvidia = _nvidia(outputs, warnings)
    devices = nvidia.get("devices", [])
    return {
        "schema_version": SCHEMA_VERSION,
        "state": "ready",
        "message": f"{len(devices)} NVIDIA GPUs." if devices else "No GPU was found: the CPU is the accelerator.",
        "accelerator": "cuda" if devices else "cpu",
        "driver_version": nvidia.get("driver_version"),
        "cuda_version": nvidia.get("cuda_version"),
        "devices": [_with_places(device, files) for device in devices],
        "link_matrix": [["X"]] if len(devices) == 1 else ([] if not devices else None),
        "interconnect": "none" if len(devices) < 2 else None,
        "link_groups": [],
        "numa_nodes": nodes,
        "nics": [],
        "mixed_gpus": len({(device["name"], device["memory_total_mib"]) for device in devices}) > 1,
        "readiness": [],
        "cpu": cpu.cpu_facts(lscpu, files),
        "memory_total_mib": cpu.meminfo_mib(files.get("/proc/meminfo", "")),
        "shm_total_mib": (host.get("shm") or {}).get("total_mib"),
        "warnings": warnings,
    }


def _text(outputs: Outputs, name: str) -> str:
    output = outputs.get(name)
    return output.text if output and output.status == sources.OK else ""


def _host(outputs: Outputs, warnings: list[str]) -> dict[str, Any]:
    text = _text(outputs, sources.HOST)
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        warnings.append(f"{sources.HOST} could not be read: {error}.")
        return {}
    return found if isinstance(found, dict) else {}


def _nvidia(outputs: Outputs, warnings: list[str]) -> dict[str, Any]:
    text = _text(outputs, sources.NVIDIA_XML)
    if not text:
        return {}
    try:
        found = nvidia_xml.parse_nvidia_xml(text)
    except ParseError as error:
        warnings.append(str(error))
        return {}
    warnings.extend(found["warnings"])
    return found


def _with_places(device: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    bus = (device["pci_bus_id"] or "").lower()
    node = files.get(f"/sys/bus/pci/devices/{bus[-12:]}/numa_node", "").strip()
    return {**device, "compute_capability": None, "numa_node": int(node) if node.isdigit() else None}
