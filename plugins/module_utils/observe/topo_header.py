# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the header of a topology table: GPU and NIC labels and the affinity columns. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topo_scan import GPU_LABEL

_LABEL = re.compile(r"GPU\d{1,3}|NIC\d{1,3}|mlx\d+_(?:bond_)?\d+|[A-Za-z][\w.\-]{0,60}?(?=GPU\d|NIC\d|mlx\d|$)")
_WHOLE_LABEL = re.compile(r"^(?:GPU\d{1,3}|NIC\d{1,3}|mlx\d+_(?:bond_)?\d+)$")
_AFFINITY_START = re.compile(r"CPU|GPU\s+N|NUMA")
MOST_LINES = 40
_ELLIPSIS = re.compile(r"\.\.\.|\u2026")


@dataclass
class Header:
    line: int
    gpus: list[int]
    nics: list[str]
    columns: list[str]
    cut: bool


def find_header(lines: list[str], first_row: int) -> Header | None:
    start = first_row - 1
    while start >= 0 and not GPU_LABEL.search(lines[start]):
        start -= 1
    if start < 0 or not _is_header(lines[start]):
        return None
    labels = _gpu_numbers(lines[start])
    # A header wrapped at the terminal's width may have begun with lower numbers on the lines above.
    while start > 0 and labels[0] > 0 and _gpu_numbers(lines[start - 1])[-1:] == [labels[0] - 1]:
        start -= 1
        labels = _gpu_numbers(lines[start]) + labels
    begin = GPU_LABEL.search(lines[start])
    joined = lines[start][begin.start() :] if begin else ""
    for line in lines[start + 1 : min(first_row, start + MOST_LINES)]:
        if not line.strip() or re.search(r"[:=]", line):
            break
        joined = _join_header(joined, line)
    return _header(joined, start)


def _is_header(line: str) -> bool:
    """Whether labels and nothing else stand after the first GPU label."""
    begin = GPU_LABEL.search(line)
    rest = line[begin.start() :] if begin else ""
    return bool(rest) and not re.search(r"[:=(),;]", rest)


def _gpu_numbers(line: str) -> list[int]:
    return [int(match[1]) for match in GPU_LABEL.finditer(line)]


def _join_header(before: str, line: str) -> str:
    """Join two pieces of a wrapped header; a label cut in two is put together again."""
    left, right = before.split()[-1], line.split()[0]
    whole = _WHOLE_LABEL.match(left) and _WHOLE_LABEL.match(right)
    if before[-1:].isspace() or line[:1].isspace() or whole:
        return f"{before.rstrip()} {line.strip()}"
    return before + line.strip()


def _header(text: str, line: int) -> Header:
    cut = bool(_ELLIPSIS.search(text))
    text = _ELLIPSIS.sub(" ", text)
    found = _AFFINITY_START.search(text)
    labels_text = text[: found.start()] if found else text
    squeezed = re.sub(r"\s+", "", text[found.start() :]).upper() if found else ""
    columns = [
        name
        for name, pattern in (("cpu", r"CPU"), ("numa", r"(?<!GPU)NUMA"), ("gpu_numa", r"GPUNUMA"))
        if re.search(pattern, squeezed)
    ]
    labels = [match[0] for word in labels_text.split() for match in _LABEL.finditer(word)]
    gpus = [int(label[3:]) for label in labels if re.match(r"GPU\d+$", label)]
    nics = [label for label in labels if not re.match(r"GPU\d+$", label)]
    return Header(line, gpus, nics, columns, cut)
