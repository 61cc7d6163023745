# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The memory account of one engine, as vLLM will draw it up when it starts. Pure; sizes are GiB unless named otherwise.

budget     = memory that CUDA sees x gpu_memory_utilization        v1/worker/utils.py:716-772 of vLLM 0.33.0
KV cache   = budget - weights - activation - CUDA graphs - outside of PyTorch     v1/worker/gpu_worker.py:641-820
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kv_cache, measured, sharding
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import EngineVersion
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kept import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

GIB = 1024**3
MIB_PER_GIB = 1024
# envs.py before 0.33.0: VLLM_FUSED_MOE_CHUNK_SIZE; more tokens go through the experts in several passes. 0.33.0, the
# first release read without it, has one (fused_moe/modular_kernel.py:1183).
EXPERT_CHUNK = 16384
ONE_CHUNK = "0.33.0"
# Model types whose pictures may have 16 megapixels, in patches of 16 x 16 (models/qwen2_vl.py, qwen3_vl.py); a log of
# Qwen3.5-27B at max_num_seqs 1 is within 0.12 GiB.
LARGE_PICTURES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")
PATCHES = 65536
# A length that is chosen for what fits leaves this share of the KV cache, since predictions are off by it at times,
# and is a multiple of LENGTH_STEP tokens.
SPARED = 0.05
LENGTH_STEP = 256
# v1/worker/workspace.py came with this release: what experts take is kept, not freed with the forward pass
EXPERT_WORKSPACE_KEPT = "0.13.0"
# The second model runner estimates its CUDA graphs since this release
V2_GRAPHS = "0.29.0"
# More sequences than blocks of state were refused at start by this release (vllm#49064: seen with 0.28.0)
STATE_BLOCKS = "0.28.0"
# Batch sizes that are captured: 1, 2, 4, each 8 to 256 and each 16 to 512 (config/vllm.py:2398-2470)
CAPTURED_AT_512 = 51
# Numbers that the receipts of a fleet correct (calibration.py).
CALIBRATED = ("loaded", "non_torch")
# Kernels that need no workspace of their own for experts: seen with gpt-oss (MXFP4), vLLM 0.19
WITHOUT_EXPERT_WORKSPACE = frozenset(("mxfp4", "gpt_oss_mxfp4"))


@dataclass(frozen=True)
class Gpu:
    """What one GPU of a group offers. ``memory_gib`` is what CUDA sees, ``free_gib`` what of it nobody holds.

    ``unified`` says that this is the memory of the host.
    """

    memory_gib: float
    free_gib: float
    capability: float = 9.0
    fast_links: bool = True
    unified: bool = False

    @property
    def measured_as(self) -> float:
        """The capability by which measured numbers are looked up; without NVLink there is no fused all-reduce."""
        return self.capability if self.fast_links else 0.0


@dataclass(frozen=True)
class Engine:
    """The settings that change the account, all resolved. ``model_bytes`` and ``kv_bytes`` are bytes of one number.

    ``prefix_caching`` is that of models with recurrent layers, which costs them a second state. ``kv_format`` to
    ``speculative_tokens``, and ``checkpoints``, are as in :class:`kv_cache.CacheOptions`. ``offload_gib`` of the
    weights of each rank lie in the host's memory, ``largest_graph`` is the largest batch that is captured, None for
    vLLM's own, ``whole_vision`` says that each rank has a whole vision tower, ``reserved_gib`` is taken off the KV
    cache for other things. ``full_graphs`` says that whole steps are captured, and not parts alone.
    """

    version: EngineVersion
    gpu_memory_utilization: float
    max_num_batched_tokens: int
    max_num_seqs: int
    model_bytes: float = 2
    kv_bytes: float = 2
    block_size: int = kv_cache.BLOCK_SIZE
    enforce_eager: bool = False
    prefix_caching: bool = True
    kv_cache_memory_bytes: int | None = None
    model_runner: int = 2
    hybrid_manager: bool = True
    kv_format: str | None = None
    sparse_bytes: float | None = None
    conv_bytes: float | None = None
    state_bytes: float | None = None
    speculative_tokens: int = 0
    checkpoints: tuple[str, ...] = ()
    offload_gib: float = 0.0
    largest_graph: int | None = None
    whole_vision: bool = False
    reserved_gib: float = 0.0
    full_graphs: bool = True
    corrections: tuple[measured.Measured, ...] = ()

    @property
    def subtracts_cuda_graphs(self) -> bool:
        """Whether vLLM takes CUDA graphs off the KV cache; else they come on top of the budget.

        V2 says that they take nothing before 0.29.0 (v1/worker/gpu/model_runner.py:680, profile_cudagraph_memory).
        """
        return self.version.subtracts_cuda_graphs and (self.model_runner != 2 or self.version.at_least(V2_GRAPHS))

    def number(self, name: str, sizes: Sizes, gpu: Gpu) -> float:
        """Look up a measured number for this engine."""
        return measured.number(
            name,
            self.version.version,
            sizes.tensor_parallel_size,
            gpu.measured_as,
            self.model_runner,
            self.corrections,
        )

    def assumed(self, sizes: Sizes, gpu: Gpu) -> dict[str, Any]:
        """Say which measured numbers an account stands on, and what they were looked up by; a receipt keeps it."""
        return {
            "release": ".".join(map(str, measured.release(self.version.version))),
            "ranks": sizes.tensor_parallel_size,
            "capability": gpu.measured_as,
            "model_runner": self.model_runner,
            **{name: round(self.number(name, sizes, gpu), 4) for name in CALIBRATED},
        }


@dataclass(frozen=True)
class Account:
    """GiB on one rank. ``kv_cache_gib`` is below 0 when the rest does not fit the budget."""

    total_gib: float
    budget_gib: float
    weights_gib: float
    activation_gib: float
    cuda_graphs_gib: float
    non_torch_gib: float
    kv_cache_gib: float


@dataclass(frozen=True)
class Fit:
    """How an engine fits: the account of its poorest rank, the cache, and the length that it was sized for."""

    account: Account
    cache: kv_cache.Cache
    max_model_len: int
    ranks: tuple[Account, ...]
    assumed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether one request of max_model_len fits."""
        return self.account.kv_cache_gib > 0 and self.cache.longest >= self.max_model_len > 0


def cache_options(sizes: Sizes, engine: Engine) -> kv_cache.CacheOptions:
    """Say what of an engine changes its KV cache."""
    version = engine.version
    return kv_cache.CacheOptions(
        tensor_parallel_size=sizes.tensor_parallel_size,
        decode_context_parallel_size=sizes.decode_context_parallel_size,
        kv_bytes=engine.kv_bytes,
        model_bytes=engine.model_bytes,
        block_size=engine.block_size,
        in_flight_tokens=version.max_in_flight_tokens(
            engine.max_num_batched_tokens, sizes.pipeline_parallel_size, engine.model_runner
        ),
        align=engine.prefix_caching,
        tokens_by_concurrency=version.logs_tokens_from_concurrency,
        spare_block=version.logs_tokens_from_concurrency,
        hybrid_manager=engine.hybrid_manager,
        kv_format=engine.kv_format,
        sparse_bytes=engine.sparse_bytes,
        conv_bytes=engine.conv_bytes,
        state_bytes=engine.state_bytes,
        speculative_tokens=engine.speculative_tokens,
        checkpoints=engine.checkpoints,
    )


def _expert_workspace(model: Mapping[str, Any], sizes: Sizes, engine: Engine) -> float:
    """Bytes that the expert kernels keep for their intermediate results (fused_moe/experts/triton_moe.py)."""
    width, hidden = model.get("moe_intermediate_size"), model.get("hidden_size")
    if not model.get("is_moe") or not width or not hidden or model.get("quantization") in WITHOUT_EXPERT_WORKSPACE:
        return 0
    each = 1 if sizes.enable_expert_parallel else sizes.tensor_parallel_size * sizes.data_parallel_size
    rows = engine.max_num_batched_tokens * sizes.data_parallel_size
    if not engine.version.at_least(ONE_CHUNK):
        rows = min(rows, EXPERT_CHUNK)
    rows *= int(model.get("num_experts_per_tok") or 1)
    inner = width / each
    return rows * (max(inner, hidden) + max(2 * inner, hidden)) * engine.model_bytes


def _forward(model: Mapping[str, Any], sizes: Sizes, engine: Engine) -> float:
    """Bytes that a forward pass holds at its widest: gate, up and their product, residual and hidden state."""
    hidden = int(model.get("hidden_size") or 0)
    dense = any(run.get("feed_forward") == "dense" for run in model.get("layers") or ())
    inner = int(model.get("intermediate_size" if dense else "shared_expert_intermediate_size") or 0)
    return engine.max_num_batched_tokens * (3 * inner / sizes.tensor_parallel_size + 2 * hidden) * engine.model_bytes


def _vision_tower(model: Mapping[str, Any], sizes: Sizes) -> float:
    """Bytes that a vision tower holds while it encodes the largest picture, before the language model runs."""
    tower = model.get("vision") or {}
    if not str(model.get("model_type")).startswith(LARGE_PICTURES):
        return 0
    hidden, inner = int(tower.get("hidden_size") or 0), int(tower.get("intermediate_size") or 0)
    return PATCHES * (2 * inner / sizes.tensor_parallel_size + 3 * hidden) * 2


def _sampler(model: Mapping[str, Any], sizes: Sizes, engine: Engine, gpu: Gpu) -> float:
    """Bytes that sampling takes for all sequences at once; on the last pipeline stage only."""
    return engine.number("sampler", sizes, gpu) * _logits(model, engine)


def _logits(model: Mapping[str, Any], engine: Engine) -> int:
    """Numbers that are sampled from at once: one for each word and sequence."""
    if model.get("runner") == "pooling":
        return 0
    return min(engine.max_num_seqs, engine.max_num_batched_tokens) * int(model.get("vocab_size") or 0)


def _activation(model: Mapping[str, Any], sizes: Sizes, engine: Engine, gpu: Gpu, first: bool, last: bool) -> float:
    """GiB that a profile run at max_num_batched_tokens takes beside the weights."""
    hidden = int(model.get("hidden_size") or 0)
    held = engine.max_num_batched_tokens * hidden * engine.model_bytes
    sampler = _sampler(model, sizes, engine, gpu) if last else 0.0
    workspace = _expert_workspace(model, sizes, engine)
    if first:
        sampler = max(sampler, _vision_tower(model, sizes))
    if engine.version.at_least(EXPERT_WORKSPACE_KEPT):
        peak = max(_forward(model, sizes, engine), sampler) + held + workspace
    else:
        peak = max(_forward(model, sizes, engine) + workspace, sampler) + held
    extra = engine.number("profile", sizes, gpu)
    if last:
        peak += _logits(model, engine) * engine.number("sampler_kept", sizes, gpu)
    if first and model.get("vision"):
        extra += engine.number("vision", sizes, gpu)
    return peak / GIB + extra


def _graphs(model: Mapping[str, Any], sizes: Sizes, engine: Engine, gpu: Gpu, layers: int) -> float:
    """GiB that captured CUDA graphs take, less with fewer batch sizes to capture."""
    if engine.enforce_eager:
        return 0.0
    whole = engine.number("graphs", sizes, gpu) + engine.number("graphs_per_layer", sizes, gpu) * layers
    if model.get("is_moe"):
        whole += engine.number("graphs_experts", sizes, gpu)
    return whole * captured_sizes(engine.max_num_seqs, engine.largest_graph) / CAPTURED_AT_512


def captured_sizes(max_num_seqs: int, largest: int | None = None) -> int:
    """Count the batch sizes that CUDA graphs are captured for; ``largest`` is what a person wrote."""
    most = min(2 * max_num_seqs, 512) if largest is None else largest
    if most > 512:
        return CAPTURED_AT_512 + (most - 512) // 16
    return sum(1 for size in (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)) if size <= most)


def offloaded_gib(model: Mapping[str, Any], sizes: Sizes, engine: Engine) -> list[float]:
    """GiB of one rank of each stage that lie in the host's memory."""
    if not engine.offload_gib:
        return [0.0] * sizes.pipeline_parallel_size
    movable = sharding.in_layers(model, sizes)
    return [min(engine.offload_gib, size * _widened(model, engine) / GIB) for size in movable]


def _widened(model: Mapping[str, Any], engine: Engine) -> float:
    """By how much weights grow when they are loaded; quantized ones stay as they are, other sizes are of 16 bits."""
    return 1.0 if model.get("quantization") else engine.model_bytes / 2


@kept
def accounts(model: Mapping[str, Any], sizes: Sizes, engine: Engine, gpu: Gpu) -> list[Account]:
    """Draw up the account of one rank of each pipeline stage.

    ``model`` is what model_info says. CUDA graphs are left out of the budget where vLLM does so; they come on top then.
    """
    budget = gpu.memory_gib * engine.gpu_memory_utilization
    count = sizes.pipeline_parallel_size
    cut = sharding.stages(int(model.get("num_layers") or 0), count)
    found = []
    wide, elsewhere = _widened(model, engine), offloaded_gib(model, sizes, engine)
    for place, size in enumerate(sharding.weights(model, sizes, engine.whole_vision)):
        weights = size * wide / GIB - elsewhere[place] + engine.number("loaded", sizes, gpu)
        if model.get("mla"):
            weights += engine.number("loaded_mla", sizes, gpu)
        if model.get("is_moe"):
            weights -= engine.number("early_experts", sizes, gpu)
        activation = _activation(model, sizes, engine, gpu, place == 0, place == count - 1)
        graphs = _graphs(model, sizes, engine, gpu, len(cut[place]))
        outside = engine.number("non_torch", sizes, gpu) + (engine.number("host", sizes, gpu) if gpu.unified else 0.0)
        counted = graphs if engine.subtracts_cuda_graphs else 0.0
        left = budget - weights - activation - counted - outside - engine.reserved_gib
        if engine.kv_cache_memory_bytes is not None:
            # no budget then: what the GPU has free bounds it, and graphs come on top in every release
            room = room_gib(sizes, engine, gpu) - weights - activation - graphs - outside
            left = engine.kv_cache_memory_bytes / GIB if room > 0 else room
        found.append(Account(gpu.memory_gib, budget, weights, activation, graphs, outside, left))
    return found


@kept
def fit(
    model: Mapping[str, Any],
    sizes: Sizes,
    engine: Engine,
    gpu: Gpu,
    length: int | None,
    min_concurrency: float = 1.0,
) -> Fit:
    """Size an engine for ``length`` tokens, or for the longest up to the model's own when it is None.

    The longest is the one that ``min_concurrency`` requests at once can have. Raises :class:`kv_cache.Unknown` when a
    number is missing.
    """
    ranks = accounts(model, sizes, engine, gpu)
    cut = sharding.stages(int(model.get("num_layers") or 0), sizes.pipeline_parallel_size)
    drafting = sum(int(run["count"]) for run in (model.get("draft") or {}).get("layers") or ())
    # the last stage drafts
    cut[-1] = range(cut[-1].start, cut[-1].stop + drafting)
    options = cache_options(sizes, engine)
    top = int(model.get("max_model_len") or 0) or length
    try:
        if not top:
            raise kv_cache.Unknown("the length that the model was made for")
        groups = kv_cache.groups_of(model, options)
    except kv_cache.Unknown:
        full = min(ranks, key=lambda rank: rank.kv_cache_gib)
        if full.kv_cache_gib > 0:
            raise
        # weights that do not fit need no account of a cache
        return Fit(full, kv_cache.Cache(0, 0, 0.0, 0), 0, tuple(ranks), engine.assumed(sizes, gpu))
    bytes_left = [rank.kv_cache_gib * GIB for rank in ranks]
    wanted = length or top
    most = max(top, wanted)
    sized = kv_cache.sized(groups, cut, bytes_left, wanted, most, options, min_concurrency)
    if length is None:
        spared = kv_cache.sized(groups, cut, bytes_left, wanted, most, options, min_concurrency * (1 + SPARED))
        wanted = spared.longest // LENGTH_STEP * LENGTH_STEP or spared.longest if spared.longest < wanted else wanted
    if length is None and wanted:
        sized = kv_cache.sized(groups, cut, bytes_left, wanted, most, options, min_concurrency)
    return Fit(_poorest(ranks, groups, cut), sized, wanted, tuple(ranks), engine.assumed(sizes, gpu))


def room_gib(sizes: Sizes, engine: Engine, gpu: Gpu) -> float:
    """GiB of a GPU that an engine may take where the size of its KV cache is written."""
    return gpu.free_gib - engine.number("context", sizes, gpu) - engine.reserved_gib


def rest_gib(engine: Engine, account: Account) -> float:
    """GiB of the budget that are neither weights nor KV cache."""
    counted = engine.subtracts_cuda_graphs or engine.kv_cache_memory_bytes is not None
    return account.activation_gib + account.non_torch_gib + (account.cuda_graphs_gib if counted else 0.0)


def start_problem(model: Mapping[str, Any], sizes: Sizes, engine: Engine, gpu: Gpu, account: Account) -> Refused | None:
    """Say what keeps vLLM from starting although the account adds up; None when nothing does.

    Others may hold memory that the budget counts on (v1/worker/utils.py:757-766), and what vLLM takes outside of the
    budget has to fit beside it.
    """
    context = engine.number("context", sizes, gpu)
    free = gpu.free_gib - context
    if free < account.budget_gib and gpu.free_gib < gpu.memory_gib:
        most = max(0.0, math.floor(free / gpu.memory_gib * 100) / 100)
        return Refused(
            f"{gpu.free_gib:.1f} of {gpu.memory_gib:.1f} GiB of a GPU are free, and a gpu_memory_utilization of "
            f"{engine.gpu_memory_utilization:g} asks for {account.budget_gib:.1f}",
            "memory_held",
            ("stop the other processes on the GPU", f"write gpu_memory_utilization: {most:g} or less"),
        )
    states = _state_problem(model, sizes, engine, gpu)
    if states:
        return states
    held, room = account.weights_gib + rest_gib(engine, account), room_gib(sizes, engine, gpu)
    if engine.kv_cache_memory_bytes is not None and held + account.kv_cache_gib > room:
        most = math.floor((room - held) * 10) / 10
        return Refused(
            f"{held:.1f} GiB for weights and the rest and {account.kv_cache_gib:.1f} GiB of KV cache, as written, are "
            f"more than the {room:.1f} GiB of a GPU that are there for them",
            "kv_cache_memory_too_large",
            (f"write kv_cache_memory_gib: {most:g} or less",) if most > 0 else ("leave kv_cache_memory_gib out",),
        )
    late = context + (0.0 if engine.subtracts_cuda_graphs else account.cuda_graphs_gib)
    if model.get("quantization") in WITHOUT_EXPERT_WORKSPACE:
        late += engine.number("late_mxfp4", sizes, gpu) * _sampler(model, sizes, engine, gpu) / GIB
    outside = account.total_gib - account.budget_gib
    if engine.kv_cache_memory_bytes is None and outside < late:
        most = math.floor((1 - late / gpu.memory_gib) * 100) / 100
        return Refused(
            f"a gpu_memory_utilization of {engine.gpu_memory_utilization:g} leaves {outside:.1f} GiB of a GPU, and "
            f"vLLM takes about {late:.1f} GiB outside of that budget",
            "utilization_too_high",
            (f"write gpu_memory_utilization: {most:g} or less",),
        )
    return None


def _state_problem(model: Mapping[str, Any], sizes: Sizes, engine: Engine, gpu: Gpu) -> Refused | None:
    """Say that a model with recurrent layers has fewer blocks than sequences (config/compilation.py:1517-1533).

    Full CUDA graphs take a state for each sequence; without any the sequences wait for one.
    """
    kinds = {entry.get("type") for entry in (model.get("attention") or {}).values()}
    if not kinds & kv_cache.RECURRENT or engine.enforce_eager or not engine.full_graphs:
        return None
    ranks, options = accounts(model, sizes, engine, gpu), cache_options(sizes, engine)
    if min(rank.kv_cache_gib for rank in ranks) <= 0:
        return None
    cut = sharding.stages(int(model.get("num_layers") or 0), sizes.pipeline_parallel_size)
    left = [rank.kv_cache_gib * GIB for rank in ranks]
    blocks = kv_cache.sized(kv_cache.groups_of(model, options), cut, left, 1, 1, options).blocks
    if engine.max_num_seqs <= blocks or not engine.version.at_least(STATE_BLOCKS):
        return None
    return Refused(
        f"max_num_seqs {engine.max_num_seqs} is more than the {blocks} blocks of the KV cache, and each sequence takes "
        "one for the state of its recurrent layers",
        "state_blocks",
        (f"write max_num_seqs: {blocks // 8 * 8 or blocks} or less",) if blocks else ("use GPUs with more memory",),
    )


def _poorest(ranks: Sequence[Account], groups: Sequence[kv_cache.Group], cut: Sequence[range]) -> Account:
    """Return the account of the rank whose cache holds the fewest blocks."""

    def blocks(place: int) -> float:
        size = kv_cache.block_bytes(groups, cut[place])
        return ranks[place].kv_cache_gib / size if size else math.inf

    return ranks[min(range(len(ranks)), key=blocks)]
