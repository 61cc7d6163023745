# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads JSON of amd-smi (list, static, metric, topology) and rocm-smi. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.amd_values import (
    AmdValues,
    add_link,
    add_rocm_value,
    gpu_number,
    known_text,
    size_mib,
)


def read_json(text: str, start: int, state: AmdValues) -> None:
    """Read the JSON that begins at ``start``. Raises ParseError, with line and column, if it is damaged."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:].lstrip())
    except (ValueError, RecursionError) as error:
        line = text.count("\n", 0, start) + getattr(error, "lineno", 1)
        column = getattr(error, "colno", 1)
        raise ParseError(f"The JSON ends early or is damaged at line {line}, column {column}.", line, column) from error
    if isinstance(found, dict) and any(str(key).startswith("card") for key in found):
        _read_rocm_json(found, state)
        return
    entries = found.get("gpu_data", found.get("gpus")) if isinstance(found, dict) else found
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and gpu_number(entry.get("gpu")) is not None:
            _read_amd_entry(int(entry["gpu"]), entry, state)


def _read_amd_entry(index: int, entry: dict[str, Any], state: AmdValues) -> None:
    asic, numa = _part(entry, "asic"), _part(entry, "numa")
    memory, vram = _part(entry, "mem_usage"), _part(entry, "vram")
    state.add(index, "name", known_text(asic.get("market_name")))
    state.add(index, "gfx", known_text(asic.get("target_graphics_version")))
    state.add(index, "pci_bus_id", known_text(entry.get("bdf") or _part(entry, "bus").get("bdf")))
    state.add(index, "uuid", known_text(entry.get("uuid")))
    state.add(index, "memory_total_mib", size_mib(memory.get("total_vram")))
    state.add(index, "memory_used_mib", size_mib(memory.get("used_vram")))
    state.add(index, "memory_free_mib", size_mib(memory.get("free_vram")))
    state.add(index, "memory_total_mib", size_mib(vram.get("size", vram.get("vram_size_mb"))))
    state.add(index, "numa_node", gpu_number(numa.get("node")))
    state.driver = state.driver or known_text(_part(entry, "driver").get("version"))
    for link in entry.get("links") or () if isinstance(entry.get("links"), list) else ():
        if isinstance(link, dict) and gpu_number(link.get("gpu")) is not None:
            add_link(state, index, link["gpu"], link.get("link_type"), link.get("num_hops"))
    types, hops = _part(entry, "link_type"), _part(entry, "hops")
    for key, kind in types.items():
        other = re.match(r"^gpu_(\d{1,3})$", str(key))
        if other:
            add_link(state, index, int(other[1]), kind, hops.get(key))


def _part(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _read_rocm_json(found: dict[str, Any], state: AmdValues) -> None:
    for key, values in found.items():
        card = re.match(r"^card(\d{1,3})$", str(key))
        if card and isinstance(values, dict):
            state.gpus.setdefault(int(card[1]), {})
            for name, value in values.items():
                add_rocm_value(int(card[1]), str(name), value, state)
    state.driver = state.driver or known_text(_part(found, "system").get("Driver version"))
