# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads ``nvidia-smi topo -p2p r`` (or ``w``, ``n``, ``a``): whether GPUs can reach one another's memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.tables import read_square
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import clean_lines

# Source: the legend of nvidia-smi topo -p2p, drivers 450 to 595.
MEANINGS = {
    "OK": "works",
    "CNS": "not supported by the chipset",
    "GNS": "not supported by the GPU or switched off in its driver",
    "TNS": "not supported by the topology",
    "NS": "not supported",
    "DR": "disabled by a driver option",
    "U": "unknown",
}


@dataclass(frozen=True)
class P2p:
    """States of every pair, X on the diagonal, None where unknown; ``gpus`` ascend, lists follow them."""

    gpus: list[int]
    matrix: list[list[str | None]]
    warnings: list[str] = field(default_factory=list)


def parse_p2p(text: str) -> P2p:
    """Read the table. A pair whose two directions differ gets the one that is not OK.

    Raises ParseError, with line and column, where the text holds no such table.
    """
    table = read_square(clean_lines(text), r"GPU\d{1,3}", "X|" + "|".join(MEANINGS))
    if table is None:
        raise ParseError(
            "This is no output of nvidia-smi topo -p2p r: it has no row such as 'GPU0  X  OK'. "
            "Record it again with: nvidia-smi topo -p2p r.",
            1,
            1,
        )
    numbers = [int(re.sub(r"\D", "", label)) for label in table.labels]
    order = sorted(range(len(numbers)), key=lambda place: numbers[place])
    warnings: list[str] = []
    matrix = [[_pair(table.cells, i, j) for j in order] for i in order]
    if any(cell is None for row in matrix for cell in row):
        warnings.append("The P2P table is cut or unreadable in part: the states of some pairs are unknown.")
    return P2p([numbers[place] for place in order], matrix, warnings)


def _pair(cells: list[list[str | None]], i: int, j: int) -> str | None:
    if i == j:
        return "X"
    said = [cell for cell in (cells[i][j], cells[j][i]) if cell not in (None, "X")]
    return next((cell for cell in said if cell != "OK"), said[0] if said else None)
