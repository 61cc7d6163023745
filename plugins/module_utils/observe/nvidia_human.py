# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what nvidia-smi prints for people: ``-q`` without ``-x``, the plain table, ``--version``. Pure.

Support cases carry these more often than the XML. A live host is asked for the XML only.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.nvidia_xml import device_from_element
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import clean_lines, is_whole

_GPU = re.compile(r"^GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])\s*$")
_INDENTED = re.compile(r"^( +)(?=\S)")
_COLON = re.compile(r":\s")
_TOP = re.compile(r"^([^\s:](?:[^:]*[^\s:])?)\s*:\s*(.*)$")
_VERSION = re.compile(r"^\d+(?:\.\d+)+")
# Where a value of the text stands in the XML. Source: both outputs of one driver side by side, 460 to 610.
_PATHS = {
    "product name": "product_name",
    "product brand": "product_brand",
    "product architecture": "product_architecture",
    "persistence mode": "persistence_mode",
    "addressing mode": "addressing_mode",
    "compute mode": "compute_mode",
    "gpu uuid": "uuid",
    "minor number": "minor_number",
    "gpu recovery action": "gpu_recovery_action",
    "gpu reset status/reset required": "gpu_reset_status/reset_required",
    "gpu virtualization mode/virtualization mode": "gpu_virtualization_mode/virtualization_mode",
    "mig mode/current": "mig_mode/current_mig",
    "mig mode/pending": "mig_mode/pending_mig",
    "pci/bus id": "pci/pci_bus_id",
    "pci/gpu link info/pcie generation/max": "pci/pci_gpu_link_info/pcie_gen/max_link_gen",
    "pci/gpu link info/pcie generation/current": "pci/pci_gpu_link_info/pcie_gen/current_link_gen",
    "pci/gpu link info/link width/max": "pci/pci_gpu_link_info/link_widths/max_link_width",
    "pci/gpu link info/link width/current": "pci/pci_gpu_link_info/link_widths/current_link_width",
    "ecc mode/current": "ecc_mode/current_ecc",
    "ecc errors/volatile/double bit/total": "ecc_errors/volatile/double_bit/total",
    "ecc errors/aggregate/double bit/total": "ecc_errors/aggregate/double_bit/total",
    "retired pages/double bit ecc": "retired_pages/double_bit_retirement/retired_count",
    "retired pages/pending page blacklist": "retired_pages/pending_retirement",
    "remapped rows/uncorrectable error": "remapped_rows/remapped_row_unc",
    "remapped rows/pending": "remapped_rows/remapped_row_pending",
    "remapped rows/remapping failure occurred": "remapped_rows/remapped_row_failure",
    "fabric/state": "fabric/state",
    "fabric/status": "fabric/status",
    "fabric/cliqueid": "fabric/cliqueId",
    "fabric/clusteruuid": "fabric/clusterUuid",
    "fabric/health/summary": "fabric/health/summary",
}
_MIG_PATHS = {
    "index": "index",
    "gpu instance id": "gpu_instance_id",
    "compute instance id": "compute_instance_id",
    "device attributes/shared/multiprocessor count": "device_attributes/shared/multiprocessor_count",
}
_PROCESS_PATHS = {"type": "type", "name": "process_name", "used gpu memory": "used_memory"}
_MEMORY = re.compile(r"^(?:shared )?fb memory usage/(total|reserved|used|free)$")
_UNCORRECTABLE = re.compile(r"^ecc errors/(volatile|aggregate)/([sd]ram uncorrectable[\w -]*)$")
# The plain table: "|   0  NVIDIA L4     On  |   00000000:01:00.0 Off |   0 |" and the line below it.
_TABLE_NAME = re.compile(
    r"^\s*(\d{1,3})\s{1,9}(\S.{0,99}?)\s{1,60}(On|Off|N/A)\s{1,60}([0-9A-Fa-f]{8}:[0-9A-Fa-f:.]{1,20})\s{1,60}"
    r"(?:On|Off|N/A)\b"
)
_TABLE_MEMORY = re.compile(r"\s(\d+)MiB\s*/\s*(\d+)MiB\s")
_TABLE_VERSIONS = re.compile(r"Driver Version: ([\d.]+)\s+CUDA Version: ([\d.]+|N/A|ERR!)")


def parse_query_text(text: str) -> dict[str, Any]:
    """Read ``nvidia-smi -q``. The same keys as parse_nvidia_xml. Raises ParseError where it names no GPU."""
    top: dict[str, str] = {}
    elements: list[ET.Element] = []
    path: list[tuple[int, str]] = []
    for line in clean_lines(text):
        gpu, pair, found = _GPU.match(line), _TOP.match(line), _INDENTED.match(line)
        if gpu:
            elements.append(ET.Element("gpu", id=gpu[1]))
            path = []
        elif pair and not elements:
            top.setdefault(pair[1].lower(), pair[2])
        elif found and elements:
            depth = len(found[1])
            key, *value = _COLON.split(line[depth:], maxsplit=1)
            path = [step for step in path if step[0] < depth] + [(depth, key.rstrip().lower())]
            _put(elements[-1], "/".join(step[1] for step in path), value[0] if value else None)
    if not elements:
        raise ParseError("This is no output of nvidia-smi -q: it has no line 'GPU 00000000:01:00.0'.", 1, 1)
    attached = top.get("attached gpus", "")
    warnings = []
    if is_whole(attached) and int(attached) != len(elements):
        warnings.append(f"nvidia-smi -q says that {attached} GPUs are attached and describes {len(elements)}.")
    return {
        "driver_version": _version(top, "kmd version", "driver version"),
        "cuda_version": _version(top, "cuda umd version", "cuda version"),
        "attached_gpus": int(attached) if is_whole(attached) and len(attached) < 5 else None,
        "devices": [device_from_element(element, place) for place, element in enumerate(elements)],
        "warnings": warnings,
    }


def _put(gpu: ET.Element, path: str, value: str | None) -> None:
    """Put one value of the text where the XML has it; values that are not wanted are dropped."""
    if path.startswith("mig device"):
        _put_mig(gpu, path, value)
    elif path.startswith("processes/"):
        _put_process(gpu, path, value)
    elif value is not None:
        memory, errors = _MEMORY.match(path), _UNCORRECTABLE.match(path)
        target = _PATHS.get(path)
        if memory:
            target = f"fb_memory_usage/{memory[1]}"
        elif errors:
            target = f"ecc_errors/{errors[1]}/{re.sub(r'[^a-z]', '_', errors[2])}"
        if target:
            _set(gpu, target, value)


def _put_mig(gpu: ET.Element, path: str, value: str | None) -> None:
    parent = _child(gpu, "mig_devices")
    if path == "mig device":
        ET.SubElement(parent, "mig_device")
        return
    key = path.partition("/")[2]
    memory = _MEMORY.match(key)
    target = f"fb_memory_usage/{memory[1]}" if memory else _MIG_PATHS.get(key)
    if target and value is not None and len(parent):
        _set(parent[-1], target, value)


def _put_process(gpu: ET.Element, path: str, value: str | None) -> None:
    parent = _child(gpu, "processes")
    key = path.rpartition("/")[2]
    if key == "process id" and value is not None:
        _set(ET.SubElement(parent, "process_info"), "pid", value)
    elif key in _PROCESS_PATHS and value is not None and len(parent):
        _set(parent[-1], _PROCESS_PATHS[key], value)


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def _set(parent: ET.Element, path: str, value: str) -> None:
    for tag in path.split("/"):
        parent = _child(parent, tag)
    if parent.text is None:
        parent.text = value


def _version(top: dict[str, str], *keys: str) -> str | None:
    found = (_VERSION.match(top.get(key, "")) for key in keys)
    return next((match[0] for match in found if match), None)


def parse_version(text: str) -> dict[str, str | None]:
    """Read ``nvidia-smi --version``: ``driver_version`` and ``cuda_version``, None where not printed."""
    pairs = (_TOP.match(line) for line in clean_lines(text))
    top = {pair[1].lower(): pair[2] for pair in pairs if pair}
    return {
        "driver_version": _version(top, "kmd version", "driver version"),
        "cuda_version": _version(top, "cuda umd version", "cuda version"),
    }


def parse_table(text: str) -> dict[str, Any]:
    """Read the table that nvidia-smi prints without options. The same keys as parse_nvidia_xml.

    Names that the table cuts ("NVIDIA RTX 6000 Ada Gene...") are None. Raises ParseError where no GPU is.
    """
    lines = clean_lines(text)
    versions = next((match for match in map(_TABLE_VERSIONS.search, lines) if match), None)
    devices: list[dict[str, Any]] = []
    for place, line in enumerate(lines):
        named = _TABLE_NAME.match(line)
        if not named or any(device["index"] == int(named[1]) for device in devices):
            continue
        memory = _TABLE_MEMORY.search(lines[place + 1] + " ") if place + 1 < len(lines) else None
        cut = named[2].endswith("...")
        devices.append(
            {
                "index": int(named[1]),
                "name": None if cut else named[2],
                "pci_bus_id": named[4],
                "uuid": None,
                "persistence_mode": {"On": True, "Off": False}.get(named[3]),
                "memory_used_mib": int(memory[1]) if memory else None,
                "memory_total_mib": int(memory[2]) if memory else None,
            }
        )
    if not devices:
        raise ParseError("This is no table of nvidia-smi: it has no row with a GPU and its bus id.", 1, 1)
    return {
        "driver_version": versions[1] if versions else None,
        "cuda_version": versions[2] if versions and _VERSION.match(versions[2]) else None,
        "attached_gpus": None,
        "devices": devices,
        "warnings": [],
    }
