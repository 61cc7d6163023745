# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads amd-smi (JSON or text) and rocm-smi (JSON or text): devices, VRAM, gfx, links, NUMA nodes.

Pure: texts in, facts out. What a text is, is told by what it holds, not by its name, because people record
these tools with many options. Where two texts speak of the same thing, amd-smi counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.amd_json import read_json
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.amd_text import read_text
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.amd_values import AmdValues
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.links import PCIE, XGMI, worse
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import clean_lines


def parse_amd(texts: Mapping[str, str]) -> dict[str, Any]:
    """Read all AMD texts (file name to text).

    Returns ``devices`` (by index: ``index``, ``name``, ``uuid``, ``pci_bus_id``, ``gfx``, the three memory
    numbers in MiB, ``numa_node``), ``matrix`` (links in that order, or None), ``driver_version`` and
    ``warnings``. Raises nothing: a text that cannot be read becomes a warning.
    """
    state = AmdValues()
    for name in sorted(texts, key=lambda name: (not name.startswith("amd-smi"), name)):
        try:
            _read(texts[name], state)
        except ParseError as error:
            state.warnings.append(f"{name}: {error}")
    indexes = sorted(state.gpus)
    return {
        "devices": [_device(index, state.gpus[index]) for index in indexes],
        "matrix": _matrix(indexes, state),
        "driver_version": state.driver,
        "warnings": state.warnings,
    }


def _read(text: str, state: AmdValues) -> None:
    if not text.strip():
        return
    start = re.search(r"^[ \t]*[\[{](?=\s{0,80}[\"\[{])", text, re.MULTILINE)
    if start:
        read_json(text, start.start(), state)
    else:
        read_text(clean_lines(text), state)


def _device(index: int, found: Mapping[str, Any]) -> dict[str, Any]:
    total, used = found.get("memory_total_mib"), found.get("memory_used_mib")
    free = found.get("memory_free_mib")
    if free is None and total is not None and used is not None:
        free = total - used
    return {
        "index": index,
        "name": found.get("name"),
        "uuid": found.get("uuid"),
        "pci_bus_id": found.get("pci_bus_id"),
        "gfx": found.get("gfx"),
        "memory_total_mib": total,
        "memory_used_mib": used,
        "memory_free_mib": free,
        "numa_node": found.get("numa_node"),
    }


def _matrix(indexes: list[int], state: AmdValues) -> list[list[str | None]] | None:
    if len(indexes) > 1 and not state.types:
        return None
    matrix: list[list[str | None]] = [["X" if i == j else None for j in indexes] for i in indexes]
    for i, first in enumerate(indexes):
        for j, second in enumerate(indexes):
            if i < j:
                link = worse(_link(first, second, state), _link(second, first, state))
                matrix[i][j] = matrix[j][i] = link
    if any(cell is None for row in matrix for cell in row):
        state.warnings.append("Links between some AMD GPUs are unknown: the tool printed no hops or no link type.")
    return matrix


def _link(first: int, second: int, state: AmdValues) -> str | None:
    """One direction of a link in the words of the matrix.

    Two hops over PCIe (GPU, CPU, GPU) stay inside one NUMA node, three cross to another one. Source: the
    I/O links of the amdgpu kernel driver (amdkfd/kfd_crat.c), and rocm-smi --showtopo of hosts whose NUMA
    nodes it prints.
    """
    kind, hops = state.types.get((first, second)), state.hops.get((first, second))
    if kind == XGMI:
        return XGMI
    if kind != PCIE or hops is None:
        return PCIE if kind == PCIE else None
    return "NODE" if hops <= 2 else "SYS"
