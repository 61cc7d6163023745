# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The KV cache of DeepSeek-V4: a window, compressed entries, and the states of what compresses them. Pure.

models/deepseek_v4/attention.py:860-925 and compressor.py:135-195, v1/attention/backends/mla/sparse_swa.py:76-145,
v1/core/kv_cache_planning.py:879-1041 of vLLM 0.33.0. With vLLM 0.25.0 on 8 x B200 (vllm#51454) it makes 6.95 GiB for
1,048,576 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kv_spec import FULL, SLIDING, Group, Spec

# Tokens of a block of compressed entries, and of the window
BLOCK, WINDOW_BLOCK = 256, 64
# Pages are whole tiles of the decode kernel (the fp8_ds_mla format)
TILE = 576
# Scales of an entry: one byte for each 64 numbers, of eight bytes
SCALES = 8
FLOAT32 = 4
INDEXER_SCALE_EVERY = 128


def _tiles(size: float) -> int:
    return math.ceil(size / TILE) * TILE


def _state(ratio: int, width: int) -> Spec:
    """What the compressor keeps of the tokens that are not yet an entry; a ratio of 4 overlaps its neighbour."""
    overlap = 2 if ratio == 4 else 1
    block = 4 if ratio == 4 else 8
    return Spec(SLIDING, block, _tiles(block * 2 * overlap * width * FLOAT32), overlap * ratio)


def specs(entry: Mapping[str, Any], block_size: int) -> list[Spec]:
    """Return what a layer keeps: the window, and with a ratio its compressed entries, their indexer and the states."""
    head, rope = int(entry["head_dim"]), int(entry["qk_rope_head_dim"])
    ratio, index = int(entry.get("compress_ratio") or 1), int(entry.get("index_head_dim") or 0)
    token = head - rope + 2 * rope + SCALES
    found = [Spec(SLIDING, WINDOW_BLOCK, _tiles(WINDOW_BLOCK * token), int(entry["window"]))]
    if ratio <= 1:
        return found
    block = max(BLOCK, block_size)
    found += [Spec(FULL, block, _tiles(block // ratio * token)), _state(ratio, head)]
    if index:
        width = index + math.ceil(index / INDEXER_SCALE_EVERY) * FLOAT32
        found += [Spec(FULL, block, _tiles(block // ratio * width)), _state(ratio, index)]
    return found


def groups(layers: Mapping[int, Sequence[Spec]]) -> list[Group]:
    """Pack caches of unlike pages into groups, all of which fit one block (_get_packed_kv_cache_groups)."""
    buckets: dict[tuple[str, int, int | None], dict[int, list[tuple[int, Spec]]]] = {}
    for layer, found in sorted(layers.items()):
        for spec in found:
            pages = buckets.setdefault((spec.kind, spec.block_size, spec.limit), {})
            pages.setdefault(spec.page, []).append((layer, spec))
    repeats = _repeats([list(map(len, pages.values())) for pages in buckets.values()])
    made: list[Group] = []
    for pages in buckets.values():
        counts = {len(members) for members in pages.values()}
        parts = math.ceil(max(counts) / repeats) if repeats and len(counts) == 1 else 1
        first = next(iter(pages.values()))[0][1]
        for part in range(parts):
            members = [one for column in pages.values() for one in column[part::parts]]
            made.append(Group(first, tuple((layer, spec.page) for layer, spec in members)))
    return made


def _repeats(counts: Sequence[Sequence[int]]) -> int | None:
    """Layers of each page size in a group, for the least padding; None where every kind stays whole."""
    balanced = [pages for pages in counts if len(set(pages)) == 1]
    least = max((pages[0] for pages in balanced if len(pages) > 1), default=0)
    if not least:
        return None
    sizes = [pages[0] for pages in balanced]
    return min(range(least, max(sizes) + 1), key=lambda size: (sum(-one % size for one in sizes), -size))
