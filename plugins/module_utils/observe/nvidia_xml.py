# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads ``nvidia-smi -q -x``: one entry per GPU with MIG instances, memory, ECC, fabric and processes.

Pure: text in, facts out. Element names differ by schema (nvsmi_device_v10 to v13 seen); what a driver does
not print, or prints as N/A, is None.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError

ROOT = "nvidia_smi_log"
_UNKNOWN = re.compile(
    r"^(\[?n/?a\]?|none|unknown( error)?|not (supported|available|found|active)|requested functionality.*"
    r"|\[?(unknown error|not supported|gpu is lost|gpu requires reset)\]?|deprecated.*|function not found|)$",
    re.IGNORECASE,
)
# 610 and later: "610.57.04 [Deprecated; will be removed in CUDA 14.0. Use KMD Version instead]"
_VERSION = re.compile(r"^\d+(\.\d+)+")
_MIB = re.compile(r"^(\d+) MiB$")
_LOST = re.compile(r"GPU is lost|GPU requires reset|Unknown Error", re.IGNORECASE)

# No host has more; what says so is none.
MOST_GPUS = 256


def parse_nvidia_xml(text: str) -> dict[str, Any]:
    """Read the whole answer: driver and CUDA version, number of attached GPUs, devices, warnings.

    Lines that the tool prints before or after the document (infoROM warnings, notices of a lost GPU) are
    skipped. Raises ParseError with line and column where the document itself cannot be read.
    """
    root = _document(text)
    devices = [device_from_element(gpu, index) for index, gpu in enumerate(root.findall("gpu")[:MOST_GPUS])]
    attached = _integer(_value(root, "attached_gpus"))
    warnings: list[str] = []
    if attached is not None and attached != len(devices):
        warnings.append(
            f"nvidia-smi -q -x says that {attached} GPUs are attached and describes {len(devices)}: "
            "the others are missing from these facts."
        )
    return {
        "driver_version": _version(root, "kmd_version", "driver_version"),
        "cuda_version": _version(root, "cuda_umd_version", "cuda_version"),
        "attached_gpus": attached,
        "devices": devices,
        "warnings": warnings,
    }


def outside_document(text: str) -> str:
    """What the tool printed before and after the XML document; all of it where there is no document."""
    start = text.find("<?xml")
    start = text.find(f"<{ROOT}") if start < 0 else start
    end = text.rfind(f"</{ROOT}>")
    if start < 0:
        return text
    return text[:start] + (text[end + len(ROOT) + 3 :] if end > start else "")


# nvidia-smi -q -x, <fabric><health>: what is False, None or Full on a healthy GPU.
FABRIC_HEALTH = (
    "bandwidth",
    "route_recovery_in_progress",
    "route_unhealthy",
    "access_timeout_recovery",
    "incorrect_configuration",
)
# Of the reasons for lower clocks those that are faults of cooling or power; a power cap and an idle GPU are normal.
SLOWDOWNS = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")


def _document(text: str) -> ET.Element:
    start = text.find(f"<{ROOT}")
    if start < 0:
        raise ParseError(f"This is no output of nvidia-smi -q -x: it has no <{ROOT}> element.", 1, 1)
    end = text.rfind(f"</{ROOT}>")
    body = text[start : end + len(ROOT) + 3] if end > start else text[start:]
    lines_before = text.count("\n", 0, start)
    # An entity that the text declares itself could expand without end; the tool declares none.
    if "<!" in body.replace("<!--", ""):
        raise ParseError(
            "This output of nvidia-smi -q -x declares entities, which the tool never does: it was not read.",
            lines_before + body[: body.find("<!")].count("\n") + 1,
            1,
        )
    try:
        return ET.fromstring(body)  # noqa: S314 - entity declarations were refused above
    except ET.ParseError as error:
        line, column = error.position
        raise ParseError(
            f"The XML of nvidia-smi -q -x ends early or is damaged at line {lines_before + line}, "
            f"column {column + 1}. Record it again with: nvidia-smi -q -x.",
            lines_before + line,
            column + 1,
        ) from error
    except ValueError as error:
        raise ParseError(f"The XML of nvidia-smi -q -x cannot be read: {error}.", lines_before + 1, 1) from error


def device_from_element(gpu: ET.Element, index: int) -> dict[str, Any]:
    """One GPU from its element; what it does not hold is None."""
    memory = _memory(gpu, "fb_memory_usage")
    return {
        "index": index,
        "uuid": _value(gpu, "uuid"),
        "name": _value(gpu, "product_name"),
        "brand": _value(gpu, "product_brand"),
        "architecture": _value(gpu, "product_architecture"),
        "pci_bus_id": _value(gpu, "pci/pci_bus_id") or gpu.get("id"),
        "minor_number": _integer(_value(gpu, "minor_number")),
        **memory,
        "addressing_mode": _value(gpu, "addressing_mode"),
        "persistence_mode": _switch(gpu, "persistence_mode"),
        "compute_mode": _value(gpu, "compute_mode"),
        "mig_mode": _switch(gpu, "mig_mode/current_mig"),
        "mig_mode_pending": _switch(gpu, "mig_mode/pending_mig"),
        "mig_devices": [_mig_device(item) for item in gpu.findall("mig_devices/mig_device")],
        "ecc": _ecc(gpu),
        "fabric": _fabric(gpu),
        "pcie": _pcie(gpu),
        "virtualization_mode": _value(gpu, "gpu_virtualization_mode/virtualization_mode"),
        "recovery_action": _recovery(gpu),
        "slowdowns": _slowdowns(gpu),
        "vgpu_license": _value(gpu, "vgpu_software_licensed_product/license_status"),
        "utilization_percent": _percent(_value(gpu, "utilization/gpu_util")),
        "lost": _lost(gpu),
        "processes": [_process(item) for item in gpu.findall("processes/process_info")],
    }


def _memory(parent: ET.Element, tag: str) -> dict[str, int | None]:
    """The four memory numbers in MiB; None for unified memory, where the driver prints N/A."""
    return {f"memory_{key}_mib": _mib(_value(parent, f"{tag}/{key}")) for key in ("total", "reserved", "used", "free")}


def _mig_device(item: ET.Element) -> dict[str, Any]:
    return {
        "index": _integer(_value(item, "index")),
        "uuid": _value(item, "uuid"),
        "gpu_instance_id": _integer(_value(item, "gpu_instance_id")),
        "compute_instance_id": _integer(_value(item, "compute_instance_id")),
        "multiprocessors": _integer(_value(item, "device_attributes/shared/multiprocessor_count")),
        **_memory(item, "fb_memory_usage"),
    }


def _ecc(gpu: ET.Element) -> dict[str, Any]:
    return {
        "mode": _switch(gpu, "ecc_mode/current_ecc"),
        "uncorrected_volatile": _uncorrected(gpu, "volatile"),
        "uncorrected_aggregate": _uncorrected(gpu, "aggregate"),
        "row_remap_pending": _switch(gpu, "remapped_rows/remapped_row_pending"),
        "row_remap_failure": _switch(gpu, "remapped_rows/remapped_row_failure"),
        "rows_remapped_uncorrectable": _integer(_value(gpu, "remapped_rows/remapped_row_unc")),
        "retired_pages_pending": _either(
            _switch(gpu, "retired_pages/pending_retirement"), _switch(gpu, "retired_pages/pending_blacklist")
        ),
        "retired_pages_double_bit": _integer(_value(gpu, "retired_pages/double_bit_retirement/retired_count")),
    }


def _either(first: bool | None, second: bool | None) -> bool | None:
    known = [value for value in (first, second) if value is not None]
    return any(known) if known else None


def _uncorrected(gpu: ET.Element, period: str) -> int | None:
    """Uncorrected errors of a period; the sum of what is printed, in the schema before Ampere and after."""
    total = _integer(_value(gpu, f"ecc_errors/{period}/double_bit/total"))
    if total is not None:
        return total
    parent = gpu.find(f"ecc_errors/{period}")
    found = [
        _integer(_clean(item.text)) for item in (parent if parent is not None else ()) if "uncorrectable" in item.tag
    ]
    known = [number for number in found if number is not None]
    return sum(known) if known else None


def _fabric(gpu: ET.Element) -> dict[str, str | None]:
    return {
        "state": _value(gpu, "fabric/state"),
        "status": _value(gpu, "fabric/status"),
        "clique_id": _value(gpu, "fabric/cliqueId"),
        "cluster_uuid": _value(gpu, "fabric/clusterUuid"),
        "health": _value(gpu, "fabric/health/summary"),
        "problems": _fabric_problems(gpu),
    }


def _fabric_problems(gpu: ET.Element) -> str | None:
    """What of the fabric's health is not as it should be; None where all is, or nothing is said."""
    bad = []
    for tag in FABRIC_HEALTH:
        value = _value(gpu, f"fabric/health/{tag}")
        if value and value.lower() not in ("false", "no", "none", "full", "healthy"):
            bad.append(f"{tag} {value}")
    return ", ".join(bad) or None


def _slowdowns(gpu: ET.Element) -> list[str]:
    """Why the hardware runs slower than it could, of what is no setting; drivers before 535 call it throttling."""
    return [
        reason
        for reason in SLOWDOWNS
        if any(
            (_value(gpu, f"clocks_{word}_reasons/clocks_{word}_reason_{reason}") or "").lower() == "active"
            for word in ("event", "throttle")
        )
    ]


def _pcie(gpu: ET.Element) -> dict[str, int | None]:
    info = "pci/pci_gpu_link_info"
    return {
        "generation_max": _integer(_value(gpu, f"{info}/pcie_gen/max_link_gen")),
        "generation_current": _integer(_value(gpu, f"{info}/pcie_gen/current_link_gen")),
        "generation_device": _integer(_value(gpu, f"{info}/pcie_gen/max_device_link_gen")),
        "generation_host": _integer(_value(gpu, f"{info}/pcie_gen/max_host_link_gen")),
        "width_max": _integer((_value(gpu, f"{info}/link_widths/max_link_width") or "").rstrip("x")),
        "width_current": _integer((_value(gpu, f"{info}/link_widths/current_link_width") or "").rstrip("x")),
    }


def _recovery(gpu: ET.Element) -> str | None:
    action = _value(gpu, "gpu_recovery_action")
    if action is None and _switch(gpu, "gpu_reset_status/reset_required"):
        return "Reset"
    return action


def _lost(gpu: ET.Element) -> bool:
    """Whether the driver prints an error where the GPU's name or memory belongs."""
    texts = (gpu.findtext(path) or "" for path in ("product_name", "fb_memory_usage/total", "uuid", "serial"))
    return any(_LOST.search(text) for text in texts)


def _process(item: ET.Element) -> dict[str, Any]:
    return {
        "pid": _integer(_value(item, "pid")),
        "type": _value(item, "type"),
        "name": _value(item, "process_name"),
        "memory_used_mib": _mib(_value(item, "used_memory")),
    }


def _clean(text: str | None) -> str | None:
    stripped = " ".join((text or "").split())
    return None if _UNKNOWN.match(stripped) else stripped


def _value(parent: ET.Element, path: str) -> str | None:
    return _clean(parent.findtext(path))


def _switch(parent: ET.Element, path: str) -> bool | None:
    value = (_value(parent, path) or "").lower()
    if value in ("enabled", "yes", "on"):
        return True
    return False if value in ("disabled", "no", "off") else None


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def _percent(text: str | None) -> int | None:
    return _integer((text or "").rstrip(" %"))


def _mib(text: str | None) -> int | None:
    match = _MIB.match(text or "")
    return int(match[1]) if match and len(match[1]) < 12 else None


def _version(root: ET.Element, *tags: str) -> str | None:
    for tag in tags:
        match = _VERSION.match(_value(root, tag) or "")
        if match:
            return match[0]
    return None
