# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many tokens a KV cache holds, block for block as vLLM counts them. Pure.

vLLM gives every layer a page per block, sorts the layers into groups that share a block table, and takes all groups'
blocks from one pool (v1/core/kv_cache_planning.py of vLLM 0.33.0). Sizes are bytes on one rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kv_compressed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kept import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kv_spec import (
    CHUNKED,
    FULL,
    SLIDING,
    STATE,
    Group,
    Spec,
)

__all__ = (
    "CHUNKED",
    "FULL",
    "SLIDING",
    "STATE",
    "Cache",
    "CacheOptions",
    "Group",
    "Spec",
    "Unknown",
    "block_bytes",
    "blocks_needed",
    "dtype_bytes",
    "groups_of",
    "sized",
    "state_bytes",
)

# config/cache.py:185
BLOCK_SIZE = 16
# v1/kv_cache_planning.py:471-480: with nearly as many layers of one kind as of another, pad instead of splitting
PADDING_RATIO = 1.5
# platforms/interface.py:1085-1090: MLA beside recurrent layers wants blocks of a multiple of 128
HYBRID_MLA_BLOCK = 128
# v1/kv_cache_interface.py:729-743: a token of a sparse MLA layer in the fp8_ds_mla format
SPARSE_FP8_BYTES = 656
# The indexer keeps FP8 values and one FP32 scale for each 128 of them (model_executor/layers/sparse_attn_indexer.py)
INDEXER_SCALE_EVERY = 128
INDEXER_SCALE_BYTES = 4

RECURRENT = frozenset(("gdn", "mamba1", "mamba2", "kda"))
COMPRESSED = "compressed"
KEEP_NOTHING = frozenset(("encoder",))
DTYPE_BYTES: Mapping[str, float] = {
    "float64": 8,
    "float32": 4,
    "float": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_inc": 1,
    "fp8_ds_mla": 1,
    "nvfp4": 0.5625,
    "nvfp4_4over6": 0.5625,
}
# Formats whose size depends on that of a head: bits of a key and of a value
# (model_executor/layers/quantization/turboquant/config.py:18-40)
TURBOQUANT: Mapping[str, tuple[int, int]] = {
    "turboquant_k8v4": (8, 4),
    "turboquant_4bit_nc": (4, 4),
    "turboquant_k3v4_nc": (3, 4),
    "turboquant_3bit_nc": (3, 3),
}
# Bytes of an element with a scale of four bytes for each head (v1/attention/backends/triton_attn.py:308-319)
PER_TOKEN_HEAD: Mapping[str, float] = {
    "int4_per_token_head": 0.5,
    "int8_per_token_head": 1,
    "fp8_per_token_head": 1,
}
# Layers at either end that TurboQuant leaves in the model's type, but for models with recurrent layers
# (turboquant/config.py:178-210)
TURBOQUANT_ENDS = 2


class Unknown(Exception):
    """A number that the account needs is not known; the message names it, ``remedies`` say what to do."""

    def __init__(self, what: str, *remedies: str) -> None:
        super().__init__(what)
        self.remedies = remedies


@dataclass(frozen=True)
class CacheOptions:
    """What of an engine changes its KV cache.

    ``kv_bytes`` is the size of one cached number, ``model_bytes`` that of one activation; ``in_flight_tokens`` are
    scheduled and not yet settled (config/vllm.py:600-609). ``align`` says that recurrent layers keep a second state
    for prefix caching. ``tokens_by_concurrency``: the log's token count is concurrency times length.
    ``spare_block`` says that the engine holds one block back when it checks the length. ``kv_format`` is a format whose
    size depends on that of a head, ``sparse_bytes`` what a token takes in a layer of sparse MLA, where it is not
    ``kv_bytes`` each. ``conv_bytes`` and ``state_bytes`` are of one number of a recurrent layer's two states, None for
    what the model says. ``speculative_tokens`` are drafted for each step. ``checkpoints`` are the kinds of recurrent
    layers that keep a state from within a prompt as well where ``align`` holds.
    """

    tensor_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    kv_bytes: float = 2
    model_bytes: float = 2
    block_size: int = BLOCK_SIZE
    in_flight_tokens: int = 8192
    align: bool = True
    tokens_by_concurrency: bool = True
    spare_block: bool = True
    hybrid_manager: bool = True
    kv_format: str | None = None
    sparse_bytes: float | None = None
    conv_bytes: float | None = None
    state_bytes: float | None = None
    speculative_tokens: int = 0
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cache:
    """A sized KV cache: tokens and concurrency as vLLM logs them."""

    blocks: int
    tokens: int
    concurrency: float
    longest: int


def dtype_bytes(name: str) -> float:
    """Bytes of one number of a type as vLLM names it. Raises :class:`Unknown`."""
    try:
        return DTYPE_BYTES[name.replace("torch.", "")]
    except KeyError:
        known = ", ".join(sorted((*DTYPE_BYTES, *TURBOQUANT, *PER_TOKEN_HEAD)))
        raise Unknown(f"the size of the type {name}", f"write a type whose size is known: {known}") from None


def has_own_size(name: str) -> bool:
    """Tell whether the size of a KV cache format depends on that of a head."""
    return name in TURBOQUANT or name in PER_TOKEN_HEAD


def _head_bytes(name: str, head: int, value: int) -> float:
    """Bytes of key and value of one head for one token, in a format of its own size."""
    if name in PER_TOKEN_HEAD:
        return (head + value) * PER_TOKEN_HEAD[name] + 8
    key_bits, value_bits = TURBOQUANT[name]
    key = head if key_bits == 8 else math.ceil(head * key_bits / 8) + 2
    size = key + math.ceil(head * value_bits / 8) + 4
    return size + size % 2


def _number(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if value is None:
        raise Unknown(f"{key} of the {entry.get('type')} layers")
    return int(value)


def _kv_heads(entry: Mapping[str, Any], options: CacheOptions) -> int:
    # config/model.py:1663-1683: fewer KV heads than ranks are replicated
    return max(1, _number(entry, "num_kv_heads") // options.tensor_parallel_size)


def _attention_token(entry: Mapping[str, Any], options: CacheOptions) -> float:
    """Bytes of one token in one attention layer (v1/kv_cache_interface.py:586-601,729-743)."""
    if entry["type"] == "mla":
        width = _number(entry, "kv_lora_rank") + _number(entry, "qk_rope_head_dim")
        if entry.get("index_head_dim") and options.sparse_bytes:
            return options.sparse_bytes
        if entry.get("index_head_dim") and options.kv_bytes == 1:
            return SPARSE_FP8_BYTES
        return width * options.kv_bytes
    head = _number(entry, "head_dim")
    if options.kv_format:
        value = int(entry.get("head_dim_v") or head)
        return _kv_heads(entry, options) * _head_bytes(options.kv_format, head, value)
    return _kv_heads(entry, options) * (head + int(entry.get("head_dim_v") or head)) * options.kv_bytes


def _indexer_token(entry: Mapping[str, Any]) -> int:
    width = int(entry.get("index_head_dim") or 0)
    return width + math.ceil(width / INDEXER_SCALE_EVERY) * INDEXER_SCALE_BYTES if width else 0


def state_bytes(entry: Mapping[str, Any], options: CacheOptions) -> int:
    """Bytes of the state of one recurrent layer for one request (layers/mamba/mamba_utils.py:200-330)."""
    ranks = options.tensor_parallel_size
    own = dtype_bytes(str(entry.get("state_dtype"))) if entry.get("state_dtype") else None
    narrow = options.conv_bytes or options.model_bytes
    wide = options.state_bytes or own or narrow
    kind = entry["type"]
    # drafted tokens are kept until they are accepted (layers/mamba/mamba_utils.py:250-290)
    taps = _number(entry, "conv_kernel") - 1 + options.speculative_tokens
    if kind == "gdn":
        keys, values = _number(entry, "num_k_heads"), _number(entry, "num_v_heads")
        key_dim, value_dim = _number(entry, "head_k_dim"), _number(entry, "head_v_dim")
        conv = (2 * keys * key_dim + values * value_dim) / ranks * taps * narrow
        return round(conv + values / ranks * value_dim * key_dim * wide)
    if kind == "mamba2":
        heads, size, state = _number(entry, "num_heads"), _number(entry, "head_dim"), _number(entry, "state_size")
        groups = _number(entry, "n_groups")
        # one group is copied to every rank (mamba_mixer2.py:316-320)
        copies = ranks if groups % ranks else groups
        conv = (heads * size + 2 * copies * state) / ranks * taps * narrow
        return round(conv + heads / ranks * size * state * wide)
    if kind == "mamba1":
        width, state = _number(entry, "intermediate_size"), _number(entry, "state_size")
        return round(width / ranks * (taps * narrow + state * wide))
    heads, size = _number(entry, "num_heads"), _number(entry, "head_dim")
    conv = 3 * heads * size / ranks * taps * narrow
    return round(conv + heads / ranks * size * size * wide)


def _layers(model: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Give (layer, key of its attention) for every layer that keeps something of its own."""
    kinds = _kinds(model)
    place = 0
    for run in (*(model.get("layers") or ()), *((model.get("draft") or {}).get("layers") or ())):
        for _ in range(run["count"]):
            key = run.get("attention")
            if key and not run.get("shares_kv") and kinds[key].get("type") not in KEEP_NOTHING:
                yield place, key
            place += 1


def _kinds(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the kinds of attention of a model, and of the layers that draft for it."""
    return {**(model.get("attention") or {}), **((model.get("draft") or {}).get("attention") or {})}


def _hybrid_block(kinds: Mapping[str, Mapping[str, Any]], options: CacheOptions) -> tuple[int, int]:
    """Block size and page of a model that has attention beside recurrent layers (platforms/interface.py:940-1137)."""
    state = max(state_bytes(entry, options) for entry in kinds.values() if entry["type"] in RECURRENT)
    attention = [entry for entry in kinds.values() if entry["type"] not in RECURRENT]
    token = max(_attention_token(entry, options) for entry in attention)
    step = options.block_size
    if any(entry["type"] == "mla" for entry in attention):
        step = max(step, HYBRID_MLA_BLOCK)
    block = max(options.block_size, step * math.ceil(state / (step * token)))
    return block, max(state, round(block * token))


def _specs(model: Mapping[str, Any], options: CacheOptions) -> dict[int, list[Spec]]:
    """Return the specs of every layer that keeps something; a sparse MLA layer has two."""
    kinds = _kinds(model)
    layers = list(_layers(model))
    if not layers:
        if model.get("layers"):
            return {}
        raise Unknown("the layers of the model")
    used = {key: kinds[key] for key in dict.fromkeys(key for _, key in layers)}
    unreadable = [key for key, entry in used.items() if entry.get("type") == "other"]
    if unreadable:
        raise Unknown(f"the cache of its {unreadable[0]} layers")
    recurrent = any(entry["type"] in RECURRENT for entry in used.values())
    mixed = recurrent and any(entry["type"] not in RECURRENT for entry in used.values())
    block, page = _hybrid_block(used, options) if mixed else (options.block_size, 0)
    made: dict[str, list[Spec]] = {}
    for key, entry in used.items():
        if entry["type"] == COMPRESSED:
            made[key] = kv_compressed.specs(entry, options.block_size)
            continue
        if entry["type"] in RECURRENT:
            further = int(options.align and entry["type"] in options.checkpoints)
            made[key] = [Spec(STATE, block, page or state_bytes(entry, options), checkpoints=further)]
            continue
        kind = {"sliding": SLIDING, "chunked": CHUNKED}.get(entry["type"], FULL)
        limit = entry.get("window") or entry.get("chunk") if kind != FULL else None
        made[key] = [Spec(kind, block, round(block * _attention_token(entry, options)), limit)]
        indexer = _indexer_token(entry) if entry["type"] == "mla" else 0
        if indexer:
            made[key].append(Spec(FULL, block, block * indexer))
    found = {layer: made[key] for layer, key in layers}
    if options.kv_format in TURBOQUANT and not recurrent:
        found.update(_ends(layers, used, block, options))
    return found


def _ends(
    layers: Sequence[tuple[int, str]], used: Mapping[str, Mapping[str, Any]], block: int, options: CacheOptions
) -> dict[int, list[Spec]]:
    """The first and last layers of a model with TurboQuant, which keep the model's type."""
    plain = replace(options, kv_format=None, kv_bytes=options.model_bytes)
    at_ends = dict((*layers[:TURBOQUANT_ENDS], *layers[-TURBOQUANT_ENDS:]))
    return {
        place: [Spec(FULL, block, round(block * _attention_token(used[key], plain)))] for place, key in at_ends.items()
    }


def _promoted(specs: Mapping[int, list[Spec]]) -> dict[int, list[Spec]]:
    """Without the hybrid manager every windowed layer keeps all tokens (kv_cache_planning.py:743-822)."""
    return {
        layer: [replace(spec, kind=FULL, limit=None) if spec.kind in (SLIDING, CHUNKED) else spec for spec in found]
        for layer, found in specs.items()
    }


def _same_page(specs: Mapping[int, list[Spec]]) -> dict[int, Spec]:
    """Give every layer the largest page: by longer blocks where that divides, else by padding (:340-405)."""
    flat = {layer: found[0] for layer, found in specs.items()}
    largest = max(spec.page for spec in flat.values())

    def grown(spec: Spec) -> Spec:
        if spec.page == largest or spec.kind == STATE or largest % spec.page:
            return replace(spec, page=largest)
        return replace(spec, page=largest, block_size=spec.block_size * (largest // spec.page))

    return {layer: grown(spec) for layer, spec in flat.items()}


def _split(buckets: Sequence[tuple[Spec, list[int]]]) -> list[Group]:
    """Cut the layers of each kind into groups of one size (:416-556)."""
    least, most = min(len(layers) for _, layers in buckets), max(len(layers) for _, layers in buckets)
    size = most if most < least * PADDING_RATIO else least
    groups: list[Group] = []
    for spec, layers in buckets:
        count = math.ceil(len(layers) / size)
        groups.extend(
            Group(spec, tuple((layer, spec.page) for layer in layers[start::count])) for start in range(count)
        )
    return groups


@kept
def groups_of(model: Mapping[str, Any], options: CacheOptions) -> list[Group]:
    """Sort a model's layers into cache groups; none for a model that keeps nothing. Raises :class:`Unknown`.

    ``model`` is what model_info says.
    """
    specs = _specs(model, options)
    if not options.hybrid_manager:
        specs = _promoted(specs)
    if not specs:
        return []
    if any(entry.get("type") == COMPRESSED for entry in _kinds(model).values()):
        return kv_compressed.groups(specs)
    flat = [(layer, spec) for layer, found in specs.items() for spec in found]
    kinds = {(spec.kind, spec.block_size, spec.limit) for _, spec in flat}
    if len(kinds) == 1:
        pages: dict[int, int] = {}
        for layer, spec in flat:
            pages[layer] = pages.get(layer, 0) + spec.page
        return [Group(flat[0][1], tuple(sorted(pages.items())))]
    buckets: dict[Spec, list[int]] = {}
    for layer, spec in sorted(_same_page(specs).items()):
        buckets.setdefault(spec, []).append(layer)
    return _split(list(buckets.items()))


def _blocks(group: Group, length: int, options: CacheOptions) -> int:
    """Blocks that one request of ``length`` tokens takes of a group."""
    spec = group.spec
    if spec.kind == STATE:
        # v1/kv_cache_interface.py:1135-1141
        return (2 if options.align else 1) + options.speculative_tokens + spec.checkpoints
    if spec.kind == SLIDING and spec.limit:
        held = min(spec.limit - 1 + options.in_flight_tokens, length)
        return math.ceil(held / spec.block_size) + 1
    if spec.kind == CHUNKED and spec.limit:
        return math.ceil(min(spec.limit + options.in_flight_tokens, length) / spec.block_size)
    return math.ceil(math.ceil(length / options.decode_context_parallel_size) / spec.block_size)


def blocks_needed(groups: Sequence[Group], length: int, options: CacheOptions) -> int:
    """Blocks that one request of ``length`` tokens takes in all."""
    return sum(_blocks(group, length, options) for group in groups)


def block_bytes(groups: Sequence[Group], layers: range) -> int:
    """Bytes that one block takes on a rank with these layers: those of the widest group."""
    return max((group.bytes_on(layers) for group in groups), default=0)


def _longest(groups: Sequence[Group], blocks: int, most: int, options: CacheOptions) -> int:
    """Return the longest request that ``blocks`` hold, at most ``most``, 0 when not one token fits."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if blocks_needed(groups, middle, options) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low


def sized(
    groups: Sequence[Group],
    stages: Sequence[range],
    available: Sequence[float],
    length: int,
    most: int,
    options: CacheOptions,
    min_concurrency: float = 1.0,
) -> Cache:
    """Size the cache of an engine whose pipeline stages have the layers ``stages`` and ``available`` bytes each.

    ``length`` is max_model_len, ``most`` the longest length worth looking for; ``longest`` of the answer is the one
    that fits ``min_concurrency`` times. The poorest stage decides
    (kv_cache_planning.py:1580-1595). A model without a cache has no limit: its tokens are 0 and its concurrency is
    infinite.
    """
    if not groups:
        return Cache(0, 0, math.inf, most)
    counts = [
        max(0, int(size)) // block_bytes(groups, layers)
        for layers, size in zip(stages, available)
        if block_bytes(groups, layers)
    ]
    blocks = min(counts)
    needed = blocks_needed(groups, length, options)
    concurrency = blocks / needed
    if options.tokens_by_concurrency:
        tokens = int(concurrency * length)
    else:
        smallest = min(group.spec.block_size for group in groups)
        tokens = blocks // len(groups) * smallest * options.decode_context_parallel_size
    usable = max(0, blocks - 1) if options.spare_block else blocks
    return Cache(blocks, tokens, concurrency, _longest(groups, int(usable / min_concurrency), most, options))
