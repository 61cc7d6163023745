# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a layer keeps in the KV cache, and which layers share a block table. Sizes are bytes on one rank."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from functools import cached_property

FULL, SLIDING, CHUNKED, STATE = "full", "sliding", "chunked", "state"


@dataclass(frozen=True)
class Spec:
    """What one layer keeps: a page of ``page`` bytes for each block of ``block_size`` tokens.

    ``limit`` is the window or chunk in tokens, ``checkpoints`` how many states are kept beside the running ones.
    Layers with equal specs may share a group.
    """

    kind: str
    block_size: int
    page: int
    limit: int | None = None
    checkpoints: int = 0


@dataclass(frozen=True)
class Group:
    """Layers that share a block table: ``pages`` are (layer, bytes of a block)."""

    spec: Spec
    pages: tuple[tuple[int, int], ...]

    @cached_property
    def _summed(self) -> tuple[list[int], list[int]]:
        """The layers in order, and the bytes of a block of all before each."""
        pages = sorted(self.pages)
        return [layer for layer, _ in pages], [0, *itertools.accumulate(page for _, page in pages)]

    def bytes_on(self, layers: range) -> int:
        """Bytes of one block on a pipeline stage that has these layers."""
        places, sums = self._summed
        return sums[bisect.bisect_left(places, layers.stop)] - sums[bisect.bisect_left(places, layers.start)]
