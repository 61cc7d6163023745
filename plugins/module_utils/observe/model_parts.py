# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules of a checkpoint as a list: what each is called, its shape, and what kind of weight it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

# Kinds of weights; how each is sharded is decided elsewhere, by kind.
KINDS = (
    "embedding",
    "position_embedding",
    "lm_head",
    "qkv_q",
    "qkv_kv",
    "attention_output",
    "mla_down",
    "mla_up",
    "indexer",
    "ffn_gate_up",
    "ffn_down",
    "expert_gate_up",
    "expert_down",
    "shared_expert_gate_up",
    "shared_expert_down",
    "router",
    "norm",
    "linear_attention",
    "linear_attention_replicated",
    "mamba",
    "vision",
    "projector",
    "mtp",
    "other",
)
# Kinds whose matrices a quantized checkpoint quantizes unless it names them as left out.
QUANTIZABLE = frozenset(
    {
        "qkv_q",
        "qkv_kv",
        "attention_output",
        "mla_down",
        "mla_up",
        "indexer",
        "ffn_gate_up",
        "ffn_down",
        "expert_gate_up",
        "expert_down",
        "shared_expert_gate_up",
        "shared_expert_down",
        "linear_attention",
        "mamba",
    }
)
# Kinds that belong to a kind of attention, and those that belong to a kind of feed-forward layer.
ATTENTION_KINDS = frozenset(
    {
        "qkv_q", "qkv_kv", "attention_output", "mla_down", "mla_up", "indexer", "linear_attention",
        "linear_attention_replicated", "mamba",
    }
)  # fmt: skip
FEED_FORWARD_KINDS = frozenset(
    {
        "ffn_gate_up", "ffn_down", "expert_gate_up", "expert_down", "shared_expert_gate_up", "shared_expert_down",
        "router",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One module of a checkpoint, or ``count`` identical ones (the experts of a layer).

    ``name`` has no leading ``model.``; ``rows`` x ``columns`` is the shape, columns 1 for a vector, ``bias`` further
    elements in the model's dtype. ``quantizable`` is true for matrices that a quantized checkpoint may pack.
    ``dtype`` is set where it is not the model's. ``layer`` is a key of the attention kinds, "dense", "moe" or None.
    """

    kind: str
    name: str
    rows: int
    columns: int = 1
    layer: str | None = None
    count: int = 1
    bias: int = 0
    quantizable: bool = False
    dtype: str | None = None

    @property
    def parameters(self) -> int:
        """Number of weights, without scales."""
        return self.count * (self.rows * self.columns + self.bias)


class Parts:
    """Collects parts of one place of the model, all with one name prefix and layer key."""

    def __init__(self, prefix: str = "", layer: str | None = None) -> None:
        self.prefix = prefix
        self.layer = layer
        self.items: list[Part] = []

    def matrix(
        self, kind: str, name: str, rows: int, columns: int, bias: bool = False, count: int = 1, plain: bool = False
    ) -> None:
        """Add a matrix; ``plain`` ones are never quantized."""
        quantizable = kind in QUANTIZABLE and not plain
        extra = rows if bias else 0
        self.items.append(
            Part(kind, self.prefix + name, rows, columns, self.layer, count, extra, quantizable=quantizable)
        )

    def vector(self, kind: str, name: str, size: int, count: int = 1, dtype: str | None = None) -> None:
        """Add a vector, or a table that is never quantized."""
        if size:
            self.items.append(Part(kind, self.prefix + name, size, 1, self.layer, count, dtype=dtype))

    def add(self, parts: Iterable[Part], kind: str | None = None) -> None:
        """Add parts made elsewhere; with ``kind`` they all become that kind, of no layer."""
        self.items.extend(replace(part, kind=kind, layer=None) if kind else part for part in parts)
