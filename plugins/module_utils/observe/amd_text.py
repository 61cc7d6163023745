# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the text that amd-smi and rocm-smi print for people. Pure."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.amd_values import (
    AmdValues,
    add_link,
    add_rocm_value,
    known_text,
    size_mib,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.links import XGMI
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.tables import Square, read_square
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

_BDF = r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
_LABEL = rf"(?:GPU\d{{1,3}}|[GH]CU\[\d{{1,3}}\]|{_BDF})"
_GPU_LINE = re.compile(r"^\s*[GH][PC]U\[(\d{1,3})\]\s*:\s*(?:\(Topology\)\s*)?([^:\s](?:[^:]*[^:\s])?)\s*:\s*(.*)$")
_SECTION_LINE = re.compile(r"^\s*GPU: (\d{1,3})\s*$")
_PAIR_LINE = re.compile(r"^\s+([A-Z_]+):\s*(\S.*)$")
_BUS_LINE = re.compile(rf"^\s*GPU(\d{{1,3}})\s+({_BDF})\b")
_OVERVIEW_NAME = re.compile(rf"^\s*({_BDF})\s+(\S.{{0,100}}?)\s{{2,}}")
_OVERVIEW_MEMORY = re.compile(r"^\s*(\d{1,3})\s+\S.*\s(\d+)/(\d+) MB\s*$")
# Keys of amd-smi list and static, by the name of the value here.
_PAIR_KEYS = {
    "BDF": "pci_bus_id",
    "UUID": "uuid",
    "MARKET_NAME": "name",
    "TARGET_GRAPHICS_VERSION": "gfx",
    "SIZE": "memory_total_mib",
    "TOTAL_VRAM": "memory_total_mib",
    "USED_VRAM": "memory_used_mib",
    "FREE_VRAM": "memory_free_mib",
}


def read_text(lines: list[str], state: AmdValues) -> None:
    """Read all that is known in the lines. Raises ParseError where no GPU is named."""
    for line in lines:
        found = _GPU_LINE.match(line)
        if found:
            state.gpus.setdefault(int(found[1]), {})
            add_rocm_value(int(found[1]), found[2], found[3], state)
        driver = re.match(r"^\s*Driver version:\s*(\S+)", line)
        if driver:
            state.driver = state.driver or driver[1]
    _add_sections(lines, state)
    _add_overview(lines, state)
    _add_concise_table(lines, state)
    types = _section(lines, r"LINK TYPE", rf"(?:{XGMI}|PCIE|SELF|NONE|None|N/A|UNKNOWN|0|X)")
    hops = _section(lines, r"HOPS", r"(?:\d{1,3}|N/A|SELF)")
    if types is None and not state.gpus:
        _add_labels(lines, state)
    if types is None and not state.gpus:
        raise ParseError("This is no output of amd-smi or rocm-smi that names a GPU.", 1, 1)
    numbers = _numbers(types, state) if types else []
    for i, index in enumerate(numbers):
        for j, other in enumerate(numbers):
            kind = types.cells[i][j] if types else None
            hop = hops.cells[i][j] if hops and types and hops.labels == types.labels else None
            add_link(state, index, other, kind, int(hop) if hop and is_whole(hop) else None)


def _add_sections(lines: list[str], state: AmdValues) -> None:
    """``GPU: 0`` and indented ``KEY: value`` lines (amd-smi list, static), ``GPU0 0000:0c:00.0`` (xgmi)."""
    current: int | None = None
    for line in lines:
        section, pair, bus = _SECTION_LINE.match(line), _PAIR_LINE.match(line), _BUS_LINE.match(line)
        if section:
            current = int(section[1])
            state.gpus.setdefault(current, {})
        elif bus:
            state.add(int(bus[1]), "pci_bus_id", bus[2])
        elif pair and current is not None and pair[1] in _PAIR_KEYS:
            key = _PAIR_KEYS[pair[1]]
            state.add(current, key, _size(pair[2]) if key.endswith("_mib") else known_text(pair[2]))


def _size(text: str) -> int | None:
    number, _, unit = text.partition(" ")
    return size_mib({"value": number, "unit": unit})


def _add_overview(lines: list[str], state: AmdValues) -> None:
    """What amd-smi prints without a command: a line with bus id and name, then one with number and memory."""
    name: tuple[str, str] | None = None
    for line in lines:
        named, memory = _OVERVIEW_NAME.match(line), _OVERVIEW_MEMORY.match(line)
        if named:
            name = named[1], named[2]
        elif memory and name:
            index = int(memory[1])
            state.add(index, "pci_bus_id", name[0])
            state.add(index, "name", name[1])
            state.add(index, "memory_used_mib", size_mib(memory[2]))
            state.add(index, "memory_total_mib", size_mib(memory[3]))
            name = None


def _add_labels(lines: list[str], state: AmdValues) -> None:
    """Tables about something else at least name the GPUs."""
    table = read_square(lines, _BDF, r"(?:SELF|N?C|N/A|[TF]|[\d,]+)")
    for place, label in enumerate(table.labels if table else ()):
        state.add(place, "pci_bus_id", label)


def _section(lines: list[str], title: str, word: str) -> Square | None:
    start = next((n for n, line in enumerate(lines) if re.search(rf"\b{title}\b", line, re.IGNORECASE)), None)
    return read_square(lines[start + 1 :], _LABEL, word) if start is not None else None


def _numbers(table: Square, state: AmdValues) -> list[int]:
    """GPU numbers of a table's labels; bus ids are numbered in the order in which amd-smi prints them."""
    numbers: list[int] = []
    for place, label in enumerate(table.labels):
        if ":" in label:
            state.add(place, "pci_bus_id", label)
            numbers.append(place)
        else:
            numbers.append(int(re.sub(r"\D", "", label)))
    for number in numbers:
        state.gpus.setdefault(number, {})
    return numbers


def _add_concise_table(lines: list[str], state: AmdValues) -> None:
    """The rows of the overview that rocm-smi prints without options: the first word is the GPU's number."""
    inside = False
    for line in lines:
        if re.match(r"^\s*(Device|GPU)\s.*\b(SCLK|Temp)", line):
            inside = True
        elif inside:
            row = re.match(r"^\s*(\d{1,3})\s+\S.*%\s*$", line)
            if row:
                state.gpus.setdefault(int(row[1]), {})
