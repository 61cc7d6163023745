# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a layer keeps in the KV cache, and which layers share a block table. Sizes are bytes on one rank."""

from __future__ import annotations

from dataclasses import dataclass

FULL, SLIDING, CHUNKED, STATE = "full", "sliding", "chunked", "state"


@dataclass(frozen=True)
class Spec:
    """What one layer keeps: a page of ``page`` bytes for each block of ``block_size`` tokens.

    ``limit`` is the window or chunk in tokens. Layers with equal specs may share a group.
    """

    kind: str
    block_size: int
    page: int
    limit: int | None = None


@dataclass(frozen=True)
class Group:
    """Layers that share a block table: ``pages`` are (layer, bytes of a block)."""

    spec: Spec
    pages: tuple[tuple[int, int], ...]

    def bytes_on(self, layers: range) -> int:
        """Bytes of one block on a pipeline stage that has these layers."""
        return sum(page for layer, page in self.pages if layer in layers)
