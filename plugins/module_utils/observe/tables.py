# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads square tables of words, such as P2P states or AMD link types: labelled columns, labelled rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_ROWS = 256


@dataclass(frozen=True)
class Square:
    """A table: its labels, and the word at [row][column]; None where no word was read."""

    labels: list[str]
    cells: list[list[str | None]]


def read_square(lines: Sequence[str], label: str, word: str) -> Square | None:
    """Read the first square table in ``lines``.

    ``label`` and ``word`` are regular expressions (without groups) of what a label and a cell look like. A
    row is a label and then cells; the header is the nearest line above the first row with labels only.
    Without a header the rows' own order is the columns' order. Returns None where there is no row.
    """
    row_pattern = re.compile(rf"(?:^|\s)({label})\s+((?:{word})(?:\s+(?:{word}))*)\s*$")
    columns: list[str] = []
    rows: dict[str, list[str]] = {}
    for line in lines:
        row = row_pattern.search(line)
        if row:
            if row[1] in rows or len(rows) == MOST_ROWS:
                break
            rows[row[1]] = row[2].split()
            continue
        labels = re.findall(label, line)
        if not rows and labels and not re.sub(rf"{label}|\s", "", line):
            columns = labels
        elif rows and line.strip():
            break
    if not rows:
        return None
    labels = columns or list(rows)
    labels += [name for name in rows if name not in labels]
    return Square(labels, [_row(rows.get(name), len(labels)) for name in labels])


def _row(words: list[str] | None, size: int) -> list[str | None]:
    # A row longer than its header has gained a word: its columns are not known.
    if words is None or len(words) > size:
        return [None] * size
    return [*words, *[None] * (size - len(words))]
