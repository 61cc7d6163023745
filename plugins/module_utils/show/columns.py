# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rows of text under each other. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Make lines of rows of as many cells each, each column of one width; those in ``right`` set to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        GAP
        + GAP.join(
            cell.rjust(size) if place in right else cell.ljust(size)
            for place, (cell, size) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def shortened(text: str, most: int) -> str:
    """Cut a text to ``most`` characters, with a mark where it was cut."""
    return text if len(text) <= most else f"{text[: most - 1]}~"
