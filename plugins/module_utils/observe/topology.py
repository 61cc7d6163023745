# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads ``nvidia-smi topo -m`` (and ``-mp``) from any driver, and from what logs and terminals made of it.

The theory: the table has a header of labels (``GPU0 GPU1 NIC0 mlx5_0``, then up to three affinity columns)
and rows of a label and cells. Link cells come from a closed vocabulary, one per label of the header, so they
can be told apart even when glued together. The diagonal is ``X``: a row whose X stands elsewhere has lost or
gained a cell and is not believed. A line without a label of its own, made of nothing but cells, continues the
row above it. What follows the last link cell is CPU affinity, NUMA affinity and GPU NUMA ID, told apart by
number, by content and, where cells are blank, by tab stops. A link read in one direction only is taken from
that direction; of two different readings the worse one counts; all of that is said in a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import affinity
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.links import worse
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import clean_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topo_header import Header, find_header
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topo_rows import MOST_GPUS, TAB, Row, read_rows
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topo_scan import find_row, without_prefix

_LEGEND = re.compile(r"\b(NIC\d{1,3})\s*:\s*([A-Za-z][\w.\-]*)\s*$")
# Text that says, in the tool's own words, that there is nothing to show.
_NOTHING = re.compile(
    r"no devices were found|couldn't communicate with the nvidia driver|failed to initialize nvml|"
    r"unable to determine the device handle|command not found|not supported|insufficient permissions",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Nic:
    """A network adapter: its label in the table, its name by the legend, its link to every GPU."""

    label: str
    name: str | None
    links: dict[int, str | None]


@dataclass(frozen=True)
class Topology:
    """What the table says. ``gpus`` are the GPU numbers in ascending order; all lists follow that order.

    ``matrix`` holds links as printed, X on the diagonal, None where unknown. The affinity lists hold cells as
    printed ("0-31,64-95", "0", "N/A"), None for a blank, missing or unreadable cell.
    """

    gpus: list[int]
    matrix: list[list[str | None]]
    nics: list[Nic]
    cpu_affinity: list[str | None]
    numa_affinity: list[str | None]
    gpu_numa_id: list[str | None]
    warnings: list[str] = field(default_factory=list)


def parse_topology(text: str) -> Topology:
    """Read the table. Raises ParseError, with line and column, where the text holds no such table."""
    lines = without_prefix(clean_lines(text))
    first = next((n for n, line in enumerate(lines) if find_row(line)), None)
    if first is None:
        return _without_table(text, lines)
    warnings: list[str] = []
    header = find_header(lines, first)
    rows, nic_rows = read_rows(lines, first, header, warnings)
    gpus = _columns(header, rows, warnings)
    width = len(gpus)
    matrix = _matrix(gpus, rows, warnings)
    order = sorted(range(width), key=lambda position: gpus[position])
    sorted_gpus = [gpus[position] for position in order]
    cells = affinity.read(
        [_tail(rows[gpu], width, header) if gpu in rows else None for gpu in sorted_gpus],
        header.columns if header else None,
        warnings,
    )
    return Topology(
        gpus=sorted_gpus,
        matrix=[[matrix[i][j] for j in order] for i in order],
        nics=_nics(lines, gpus, header, rows, nic_rows, warnings),
        cpu_affinity=[cell.cpu for cell in cells],
        numa_affinity=[cell.numa for cell in cells],
        gpu_numa_id=[cell.gpu_numa for cell in cells],
        warnings=warnings,
    )


def _without_table(text: str, lines: list[str]) -> Topology:
    if not text.strip() or _NOTHING.search(text):
        said = next((line.strip() for line in lines if _NOTHING.search(line)), "nothing at all")
        return Topology([], [], [], [], [], [], [f"nvidia-smi topo -m shows no matrix; it says: {said}"])
    line = next(n for n, line in enumerate(lines, 1) if line.strip() or n == len(lines))
    raise ParseError(
        "This is no output of nvidia-smi topo -m: no row such as 'GPU0  X  NV12' was found "
        f"from line {line} on. Record it again with: nvidia-smi topo -m.",
        line,
        1,
    )


def _columns(header: Header | None, rows: dict[int, Row], warnings: list[str]) -> list[int]:
    """Which GPU each column is, by the header where the diagonal agrees with it, else by the rows."""
    by_rows = list(rows)
    by_header = list(dict.fromkeys(header.gpus))[:MOST_GPUS] if header else []
    if by_header and all(_fits(rows[gpu], by_header, gpu) for gpu in by_rows if gpu in by_header):
        return by_header + [gpu for gpu in by_rows if gpu not in by_header]
    if all(_fits(rows[gpu], by_rows, gpu) for gpu in by_rows):
        if by_header and by_header != by_rows:
            warnings.append(
                f"The header (line {header.line + 1 if header else 0}) does not fit the rows; "
                "the rows' own order was used."
            )
        return by_rows
    return by_header + [gpu for gpu in by_rows if gpu not in by_header]


def _fits(row: Row, columns: list[int], gpu: int) -> bool:
    """Whether the one X of a row stands in its own column (or the row ends before it)."""
    place = columns.index(gpu)
    cells = row.cells[: len(columns)]
    if len(cells) <= place:
        return "X" not in cells
    return cells[place] == "X" and cells.count("X") == 1


def _matrix(columns: list[int], rows: dict[int, Row], warnings: list[str]) -> list[list[str | None]]:
    size = len(columns)
    said: list[list[str | None]] = [[None] * size for _ in columns]
    for place, gpu in enumerate(columns):
        row = rows.get(gpu)
        if row is None:
            continue
        if not _fits(row, columns, gpu):
            warnings.append(
                f"The row of GPU{gpu} (line {row.line}) has lost a cell, for its X does not stand in its own "
                "column. It was not used."
            )
            continue
        said[place][: len(row.cells[:size])] = row.cells[:size]
    _warn_of_missing(columns, rows, said, warnings)
    return _symmetric(columns, said, warnings)


def _warn_of_missing(
    columns: list[int], rows: dict[int, Row], said: list[list[str | None]], warnings: list[str]
) -> None:
    missing = [f"GPU{gpu}" for gpu in columns if gpu not in rows]
    short = [f"GPU{gpu}" for place, gpu in enumerate(columns) if gpu in rows and None in said[place]]
    if missing:
        warnings.append(f"Rows are missing: {', '.join(missing)}. Their links were taken from the other rows.")
    if short:
        warnings.append(f"Rows are cut or unreadable in part: {', '.join(short)}.")


def _symmetric(columns: list[int], said: list[list[str | None]], warnings: list[str]) -> list[list[str | None]]:
    size = len(columns)
    result: list[list[str | None]] = [["X" if i == j else None for j in range(size)] for i in range(size)]
    differing: list[str] = []
    unknown: list[str] = []
    for i in range(size):
        for j in range(i + 1, size):
            there, back = said[i][j], said[j][i]
            link = worse(there, back)
            link = None if link == "X" else link
            result[i][j] = result[j][i] = link
            name = f"GPU{columns[i]}-GPU{columns[j]}"
            if link is None:
                unknown.append(name)
            elif there is not None and back is not None and there != back:
                differing.append(f"{name} ({there} and {back})")
    if differing:
        warnings.append(f"The matrix is not symmetric: {_some(differing)}. The worse link was taken for each pair.")
    if unknown:
        warnings.append(f"No link could be read for: {_some(unknown)}.")
    return result


def _some(items: list[str]) -> str:
    shown = ", ".join(items[:4])
    return shown if len(items) <= 4 else f"{shown} and {len(items) - 4} more"


def _tail(row: Row, width: int, header: Header | None) -> affinity.Tail:
    """What follows a GPU's link cells."""
    complete = header is None or header.cut or len(row.cells) >= width + len(header.nics)
    column = len(row.tail[: row.tail_column].expandtabs(TAB))
    return affinity.Tail(row.tail.expandtabs(TAB)[column:] if complete else "", column, row.at_end)


def _nics(
    lines: list[str],
    gpus: list[int],
    header: Header | None,
    rows: dict[int, Row],
    nic_rows: dict[str, list[str | None]],
    warnings: list[str],
) -> list[Nic]:
    legend = {match[1]: match[2] for match in (_LEGEND.search(line) for line in lines) if match}
    width = len(gpus)
    labels = _nic_labels(header, rows, nic_rows, width, warnings)
    found: list[Nic] = []
    for place, label in enumerate(labels):
        links: dict[int, str | None] = {}
        own = nic_rows.get(label, [])
        for column, gpu in enumerate(gpus):
            row = rows.get(gpu)
            there = row.cells[width + place] if row and len(row.cells) > width + place else None
            back = own[column] if column < len(own) else None
            link = worse(there, back)
            links[gpu] = None if link == "X" else link
        name = legend.get(label) or (None if label.startswith("NIC") else label)
        found.append(Nic(label, name, dict(sorted(links.items()))))
    return found


def _nic_labels(
    header: Header | None,
    rows: dict[int, Row],
    nic_rows: dict[str, list[str | None]],
    width: int,
    warnings: list[str],
) -> list[str]:
    """Names of the NIC columns: the header's where their number is that of the cells, else the rows'."""
    counts = {len(row.cells) - width for row in rows.values() if len(row.cells) >= width}
    by_header = list(dict.fromkeys(header.nics)) if header else []
    if not counts or len(by_header) >= max(counts):
        return by_header
    if len(nic_rows) == max(counts):
        return list(nic_rows)
    warnings.append(f"The rows show {max(counts)} NICs, the header {len(by_header)}: the others are left out.")
    return by_header
