# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finds the rows and cells of a topology table in lines that may carry a logger's prefix. Pure."""

from __future__ import annotations

import re

# Source: the legends of drivers 367 to 610; SOC is the SYS of drivers before 390.
CELL = re.compile(r"X|NV\d{1,2}|PIX|PXB|PHB|NODE|SYS|SOC")
_GAP = re.compile(r"\s*")
# A link type that this table does not know, standing where a cell belongs.
_STRANGE = re.compile(r"(?:N/A|\?+|-+|[A-Z][A-Z0-9]{1,5})(?=\s)")
GPU_LABEL = re.compile(r"GPU\s?(\d{1,3})(?!\d)")


def without_prefix(lines: list[str]) -> list[str]:
    """Take off what a logger wrote before every row, from all lines that begin like the rows do.

    Digits are equal to one another here, so that time stamps are one prefix.
    """
    rows = ((line, find_row(line)) for line in lines)
    starts = {_shape(line[: line.rindex("GPU", 0, found[1])]) for line, found in rows if found}
    if len(starts) != 1:
        return lines
    prefix = starts.pop()
    if not prefix.strip():
        return lines
    return [line[len(prefix) :] if _shape(line[: len(prefix)]) == prefix else line for line in lines]


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text)


def scan(line: str, start: int, most: int | None = None) -> tuple[list[str | None], int]:
    """Read link cells from ``start`` on, at most ``most``; return them and where the last one ends."""
    cells: list[str | None] = []
    end = position = start
    while most is None or len(cells) < most:
        position = _skip(line, end)
        match = CELL.match(line, position)
        if match and _bounded(line, match.end()):
            cells.append(match[0])
            end = match.end()
            continue
        strange = _STRANGE.match(line, position)
        # Only a cell that others follow can be a cell; at the end of a row it may be anything.
        if not cells or not strange or not CELL.match(line, _skip(line, strange.end())):
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
    return bool(CELL.match(line, end)) or line.startswith("N/A", end)


def find_row(line: str) -> tuple[int, int] | None:
    """The GPU number of a row and where its cells begin; None where the line is no row of a GPU."""
    for match in GPU_LABEL.finditer(line):
        if scan(line, match.end(), 1)[0]:
            return int(match[1]), match.end()
    return None
