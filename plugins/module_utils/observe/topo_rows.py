# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the rows of a topology table, joining those that a terminal or an issue tracker wrapped. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import affinity
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topo_header import Header
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topo_scan import CELL, find_row, scan

MOST_GPUS = 64
TAB = 8
# A row is wrapped once or twice, and a label is a word.
MOST_LINES_OF_ROW = 40
MOST_OF_LABEL = 80
_NIC_LABEL = re.compile(r"(?<![A-Za-z])([A-Za-z][\w.\-]{0,60})\s{0,9}$")


@dataclass
class Row:
    line: int
    cells: list[str | None]
    tail: str
    tail_column: int
    # The text ends with this row, without a line feed: its last cell may be cut.
    at_end: bool


def read_rows(
    lines: list[str], first: int, header: Header | None, warnings: list[str]
) -> tuple[dict[int, Row], dict[str, list[str | None]]]:
    rows: dict[int, Row] = {}
    nic_rows: dict[str, list[str | None]] = {}
    expected = len(header.gpus) + len(header.nics) if header and not header.cut else None
    wrap = _wrapping(lines)
    number = first
    while number < len(lines):
        found = find_row(lines[number])
        if found and found[0] in rows:
            warnings.append(f"A second table begins at line {number + 1}; only the first one was read.")
            break
        if found and found[0] < MOST_GPUS:
            rows[found[0]], number = _read_row(lines, number, found[1], header, expected, wrap)
            continue
        nic = None if found else _find_nic_row(lines[number])
        if nic:
            nic_rows.setdefault(nic[0], scan(lines[number], nic[1], expected)[0])
        number += 1
    return rows, nic_rows


def _read_row(
    lines: list[str], number: int, start: int, header: Header | None, expected: int | None, wrap: _Wrap
) -> tuple[Row, int]:
    """Read one row and the lines that continue it; return it and the number of the next line."""
    line, following = lines[number], number + 1
    affinities = len(header.columns) if header else 0
    while following < min(len(lines), number + MOST_LINES_OF_ROW) and _continues(lines[following]):
        cells, end = scan(line, start, expected)
        if expected is not None and len(cells) >= expected and len(line[end:].split()) >= affinities:
            break
        line = _join_row(line, lines[following], start, expected, wrap)
        following += 1
    cells, end = scan(line, start, expected)
    at_end = following == len(lines)
    short = at_end or (expected is not None and len(cells) < expected)
    if short and end == len(line) and re.search(r"NV\d$", line):
        # Cut off here, it may have been NV12 or NV18.
        cells.pop()
    return Row(number + 1, cells, line, end, at_end), following


def _continues(line: str) -> bool:
    """Whether a line is made of nothing but cells of a row, whole or cut at either end."""
    words = line.split()
    return bool(words) and all(affinity.is_cell(word) or _only_cells(word) for word in words)


def _only_cells(word: str) -> bool:
    return bool(re.match(r"^(?:X|NV\d{0,2}|PIX|PXB|PHB|NODE|SYS|SOC|IX|XB|HB|ODE|DE|YS|OC|V\d{1,2})+$", word))


def _join_row(line: str, more: str, start: int, expected: int | None, wrap: _Wrap) -> str:
    """Join a wrapped row: as the seam tells, or else in the way that gives more link cells."""
    padded = line.expandtabs(TAB).ljust(wrap.width)
    if line[-1:].isspace() or more[:1].isspace():
        return padded + more
    options = [padded + more, f"{line}  {more}"]
    counts = [len(scan(option, start, expected)[0]) for option in options]
    if counts[0] != counts[1]:
        return options[counts.index(max(counts))]
    if re.search(r"[,\-/N]$", line) or re.match(r"[,\-/]", more):
        return options[0]
    if len(padded) > len(line.expandtabs(TAB)) or not (line[-1].isdigit() and more[0].isdigit()):
        return options[1]
    return options[0] if wrap.certain else f"{line}{affinity.UNREADABLE}{more}"


@dataclass(frozen=True)
class _Wrap:
    """Where lines were broken: the longest line, and whether that is a terminal's width for certain.

    It is when rows and at least two lines outside of the table (its legend) end at that very column. Breaking
    at blanks, as mail and issue trackers do, leaves lines of many lengths.
    """

    width: int
    certain: bool


def _wrapping(lines: list[str]) -> _Wrap:
    lengths = [(len(line.expandtabs(TAB)), bool(find_row(line))) for line in lines]
    width = max(length for length, _ in lengths)
    at_width = [is_row for length, is_row in lengths if length == width]
    return _Wrap(width, any(at_width) and at_width.count(False) > 1)


def _find_nic_row(line: str) -> tuple[str, int] | None:
    """The label of a NIC's row and where its cells begin."""
    for match in re.finditer(r"[ \t]+", line):
        label = _NIC_LABEL.search(line[max(0, match.start() - MOST_OF_LABEL) : match.start()])
        if label and not CELL.fullmatch(label[1]) and len(scan(line, match.end(), 2)[0]) == 2:
            return label[1], match.end()
    return None
