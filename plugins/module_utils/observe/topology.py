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

# Source: the legends of drivers 367 to 610; SOC is the SYS of drivers before 390.
_CELL = re.compile(r"X|NV\d{1,2}|PIX|PXB|PHB|NODE|SYS|SOC")
_GAP = re.compile(r"\s*")
# A link type that this table does not know, standing where a cell belongs.
_STRANGE = re.compile(r"(?:N/A|\?+|-+|[A-Z][A-Z0-9]{1,5})(?=\s)")
_GPU_LABEL = re.compile(r"GPU\s?(\d{1,3})(?!\d)")
_LABEL = re.compile(r"GPU\d{1,3}|NIC\d{1,3}|mlx\d+_(?:bond_)?\d+|[A-Za-z][\w.\-]*?(?=GPU\d|NIC\d|mlx\d|$)")
_WHOLE_LABEL = re.compile(r"^(?:GPU\d{1,3}|NIC\d{1,3}|mlx\d+_(?:bond_)?\d+)$")
_NIC_LABEL = re.compile(r"([A-Za-z][\w.\-]*)\s*$")
_LEGEND = re.compile(r"\b(NIC\d{1,3})\s*:\s*([A-Za-z][\w.\-]*)\s*$")
_AFFINITY_START = re.compile(r"CPU|GPU\s+N|NUMA")
_ELLIPSIS = re.compile(r"\.\.\.|\u2026")
# Text that says, in the tool's own words, that there is nothing to show.
_NOTHING = re.compile(
    r"no devices were found|couldn't communicate with the nvidia driver|failed to initialize nvml|"
    r"unable to determine the device handle|command not found|not supported|insufficient permissions",
    re.IGNORECASE,
)
MOST_GPUS = 64
TAB = 8


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


@dataclass
class _Header:
    line: int
    gpus: list[int]
    nics: list[str]
    columns: list[str]
    cut: bool


@dataclass
class _Row:
    line: int
    cells: list[str | None]
    tail: str
    tail_column: int
    # The text ends with this row, without a line feed: its last cell may be cut.
    at_end: bool


def parse_topology(text: str) -> Topology:
    """Read the table. Raises ParseError, with line and column, where the text holds no such table."""
    lines = _without_prefix(clean_lines(text))
    first = next((n for n, line in enumerate(lines) if _find_row(line)), None)
    if first is None:
        return _without_table(text, lines)
    warnings: list[str] = []
    header = _find_header(lines, first)
    rows, nic_rows = _read_rows(lines, first, header, warnings)
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


def _without_prefix(lines: list[str]) -> list[str]:
    """Take off what a logger wrote before every row, from all lines that begin like the rows do.

    Digits are equal to one another here, so that time stamps are one prefix.
    """
    rows = ((line, _find_row(line)) for line in lines)
    starts = {_shape(line[: line.rindex("GPU", 0, found[1])]) for line, found in rows if found}
    if len(starts) != 1:
        return lines
    prefix = starts.pop()
    if not prefix.strip():
        return lines
    return [line[len(prefix) :] if _shape(line[: len(prefix)]) == prefix else line for line in lines]


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text)


def _scan(line: str, start: int, most: int | None = None) -> tuple[list[str | None], int]:
    """Read link cells from ``start`` on, at most ``most``; return them and where the last one ends."""
    cells: list[str | None] = []
    end = position = start
    while most is None or len(cells) < most:
        position = _skip(line, end)
        match = _CELL.match(line, position)
        if match and _bounded(line, match.end()):
            cells.append(match[0])
            end = match.end()
            continue
        strange = _STRANGE.match(line, position)
        # Only a cell that others follow can be a cell; at the end of a row it may be anything.
        if not cells or not strange or not _CELL.match(line, _skip(line, strange.end())):
            break
        cells.append(None)
        end = strange.end()
    return cells, end


def _skip(line: str, position: int) -> int:
    match = _GAP.match(line, position)
    return match.end() if match else position


def _bounded(line: str, end: int) -> bool:
    """Whether a cell may end here: not inside a word such as SYSTEM or X-server."""
    following = line[end : end + 1]
    if not following or following.isspace() or following.isdigit() or following in ".\u2026\u2190":
        return True
    return bool(_CELL.match(line, end)) or line.startswith("N/A", end)


def _find_row(line: str) -> tuple[int, int] | None:
    """The GPU number of a row and where its cells begin; None where the line is no row of a GPU."""
    for match in _GPU_LABEL.finditer(line):
        if _scan(line, match.end(), 1)[0]:
            return int(match[1]), match.end()
    return None


def _find_header(lines: list[str], first_row: int) -> _Header | None:
    start = first_row - 1
    while start >= 0 and not _GPU_LABEL.search(lines[start]):
        start -= 1
    if start < 0 or not _is_header(lines[start]):
        return None
    labels = _gpu_numbers(lines[start])
    # A header wrapped at the terminal's width may have begun with lower numbers on the lines above.
    while start > 0 and labels[0] > 0 and _gpu_numbers(lines[start - 1])[-1:] == [labels[0] - 1]:
        start -= 1
        labels = _gpu_numbers(lines[start]) + labels
    begin = _GPU_LABEL.search(lines[start])
    joined = lines[start][begin.start() :] if begin else ""
    for line in lines[start + 1 : first_row]:
        if not line.strip() or re.search(r"[:=]", line):
            break
        joined = _join_header(joined, line)
    return _header(joined, start)


def _is_header(line: str) -> bool:
    """Whether labels and nothing else stand after the first GPU label."""
    begin = _GPU_LABEL.search(line)
    rest = line[begin.start() :] if begin else ""
    return bool(rest) and not re.search(r"[:=(),;]", rest)


def _gpu_numbers(line: str) -> list[int]:
    return [int(match[1]) for match in _GPU_LABEL.finditer(line)]


def _join_header(before: str, line: str) -> str:
    """Join two pieces of a wrapped header; a label cut in two is put together again."""
    left, right = before.split()[-1], line.split()[0]
    whole = _WHOLE_LABEL.match(left) and _WHOLE_LABEL.match(right)
    if before[-1:].isspace() or line[:1].isspace() or whole:
        return f"{before.rstrip()} {line.strip()}"
    return before + line.strip()


def _header(text: str, line: int) -> _Header:
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
    return _Header(line, gpus, nics, columns, cut)


def _read_rows(
    lines: list[str], first: int, header: _Header | None, warnings: list[str]
) -> tuple[dict[int, _Row], dict[str, list[str | None]]]:
    rows: dict[int, _Row] = {}
    nic_rows: dict[str, list[str | None]] = {}
    expected = len(header.gpus) + len(header.nics) if header and not header.cut else None
    wrap = _wrapping(lines)
    number = first
    while number < len(lines):
        found = _find_row(lines[number])
        if found and found[0] in rows:
            warnings.append(f"A second table begins at line {number + 1}; only the first one was read.")
            break
        if found and found[0] < MOST_GPUS:
            rows[found[0]], number = _read_row(lines, number, found[1], header, expected, wrap)
            continue
        nic = None if found else _find_nic_row(lines[number])
        if nic:
            nic_rows.setdefault(nic[0], _scan(lines[number], nic[1], expected)[0])
        number += 1
    return rows, nic_rows


def _read_row(
    lines: list[str], number: int, start: int, header: _Header | None, expected: int | None, wrap: _Wrap
) -> tuple[_Row, int]:
    """Read one row and the lines that continue it; return it and the number of the next line."""
    line, following = lines[number], number + 1
    affinities = len(header.columns) if header else 0
    while following < len(lines) and _continues(lines[following]):
        cells, end = _scan(line, start, expected)
        if expected is not None and len(cells) >= expected and len(line[end:].split()) >= affinities:
            break
        line = _join_row(line, lines[following], start, expected, wrap)
        following += 1
    cells, end = _scan(line, start, expected)
    at_end = following == len(lines)
    short = at_end or (expected is not None and len(cells) < expected)
    if short and end == len(line) and re.search(r"NV\d$", line):
        # Cut off here, it may have been NV12 or NV18.
        cells.pop()
    return _Row(number + 1, cells, line, end, at_end), following


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
    counts = [len(_scan(option, start, expected)[0]) for option in options]
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
    lengths = [(len(line.expandtabs(TAB)), bool(_find_row(line))) for line in lines]
    width = max(length for length, _ in lengths)
    at_width = [is_row for length, is_row in lengths if length == width]
    return _Wrap(width, any(at_width) and at_width.count(False) > 1)


def _find_nic_row(line: str) -> tuple[str, int] | None:
    """The label of a NIC's row and where its cells begin."""
    for match in re.finditer(r"[ \t]+", line):
        label = _NIC_LABEL.search(line[: match.start()])
        if label and not _CELL.fullmatch(label[1]) and len(_scan(line, match.end(), 2)[0]) == 2:
            return label[1], match.end()
    return None


def _columns(header: _Header | None, rows: dict[int, _Row], warnings: list[str]) -> list[int]:
    """Which GPU each column is, by the header where the diagonal agrees with it, else by the rows."""
    by_rows = list(rows)
    by_header = list(dict.fromkeys(header.gpus)) if header else []
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


def _fits(row: _Row, columns: list[int], gpu: int) -> bool:
    """Whether the one X of a row stands in its own column (or the row ends before it)."""
    place = columns.index(gpu)
    cells = row.cells[: len(columns)]
    if len(cells) <= place:
        return "X" not in cells
    return cells[place] == "X" and cells.count("X") == 1


def _matrix(columns: list[int], rows: dict[int, _Row], warnings: list[str]) -> list[list[str | None]]:
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
    columns: list[int], rows: dict[int, _Row], said: list[list[str | None]], warnings: list[str]
) -> None:
    missing = [f"GPU{gpu}" for gpu in columns if gpu not in rows]
    short = [f"GPU{gpu}" for place, gpu in enumerate(columns) if gpu in rows and None in said[place]]
    if missing:
        warnings.append(
            f"Rows are missing: {', '.join(missing)}. Their links were taken from the other rows."
        )
    if short:
        warnings.append(f"Rows are cut or unreadable in part: {', '.join(short)}.")


def _symmetric(
    columns: list[int], said: list[list[str | None]], warnings: list[str]
) -> list[list[str | None]]:
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
        warnings.append(
            f"The matrix is not symmetric: {_some(differing)}. The worse link was taken for each pair."
        )
    if unknown:
        warnings.append(f"No link could be read for: {_some(unknown)}.")
    return result


def _some(items: list[str]) -> str:
    shown = ", ".join(items[:4])
    return shown if len(items) <= 4 else f"{shown} and {len(items) - 4} more"


def _tail(row: _Row, width: int, header: _Header | None) -> affinity.Tail:
    """What follows a GPU's link cells."""
    complete = header is None or header.cut or len(row.cells) >= width + len(header.nics)
    column = len(row.tail[: row.tail_column].expandtabs(TAB))
    return affinity.Tail(row.tail.expandtabs(TAB)[column:] if complete else "", column, row.at_end)


def _nics(
    lines: list[str],
    gpus: list[int],
    header: _Header | None,
    rows: dict[int, _Row],
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
    header: _Header | None,
    rows: dict[int, _Row],
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
    warnings.append(
        f"The rows show {max(counts)} NICs, the header {len(by_header)}: the others are left out."
    )
    return by_header
