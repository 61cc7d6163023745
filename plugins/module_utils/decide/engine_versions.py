# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one release of vLLM does by default, looked up in the tables of engine_history and engine_arguments."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_arguments import ADDED, REMOVED
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_history import (
    DEPRECATED_QUANTIZATIONS,
    EARLIEST,
    HISTORY,
    KV_CACHE_DTYPES,
    MAMBA_CACHE_DTYPES,
    QUANTIZATIONS,
    BatchTier,
    RunnerRule,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

DEFAULT_VERSION = "0.33.0"
# The newest release that the tables were read from
LATEST = "0.33.0"
MIB_PER_GIB = 1024
# "v0.11.0", "0.8.5.post1", "0.32.0+cpu", "0.26.1rc1.dev156+g0eec"
VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[.-]?(?:post|rc|a|b|dev)\d*)*(?:\+[\w.-]+)?")


@functools.lru_cache(maxsize=256)
def release(version: str) -> tuple[int, ...]:
    """Give the numbers of a version, three or four: "0.26.1rc1.dev156+g0eec" is (0, 26, 1).

    Raises :class:`InputError` for what is no version of vLLM.
    """
    match = VERSION.fullmatch(version.strip())
    if not match:
        raise InputError(f"The vLLM version {version!r} cannot be read; write one such as {DEFAULT_VERSION}.")
    major, minor, patch, fourth = match.groups()
    numbers = (int(major), int(minor), int(patch or 0))
    return (*numbers, int(fourth)) if fourth else numbers


@dataclass(frozen=True)
class EngineVersion:
    """The defaults and names of one release; memory in GiB, ``minimum_compute_capability`` as text ("7.5").

    ``block_sizes`` None means any. What a release needs of the host is in the module releases.
    """

    version: str
    release: tuple[int, ...]
    gpu_memory_utilization: float
    subtracts_cuda_graphs: bool
    block_size: int
    block_sizes: tuple[int, ...] | None
    batch_tiers: tuple[BatchTier, ...]
    cpu_batch: tuple[int, int, bool]
    async_scheduling: bool
    async_scheduling_for_pooling: bool
    counts_batches_in_flight: bool
    runner_rule: RunnerRule
    logs_tokens_from_concurrency: bool
    hybrid_prefix_caching: bool
    state_checkpoints: tuple[str, ...]
    minimum_compute_capability: str
    custom_all_reduce_sizes: tuple[int, ...]
    quantizations: frozenset[str]
    deprecated_quantizations: frozenset[str]
    kv_cache_dtypes: frozenset[str]
    mamba_cache_dtypes: frozenset[str]

    def at_least(self, version: str) -> bool:
        """Tell whether this is ``version`` or newer."""
        return self.release >= release(version)

    def model_runner(
        self,
        architectures: Collection[str],
        *,
        moe: bool = False,
        quantized: bool = False,
        hybrid: bool = False,
        pooling: bool = False,
        accelerator: str = "cuda",
    ) -> int:
        """Say which model runner (1 or 2) takes a model by default; on a CPU it is the first, for want of Triton."""
        rule = self.runner_rule
        if accelerator == "cpu":
            return 1
        if rule.all:
            return 2
        listed = any(name in rule.architectures for name in architectures)
        if pooling or (hybrid and not (listed and rule.listed_hybrid)):
            return 1
        if listed and (rule.listed_moe_or_quantized or not (moe or quantized)):
            return 2
        return 2 if rule.dense and not moe else 1

    def concurrent_batches(self, pipeline_parallel_size: int, model_runner: int, *, pooling: bool = False) -> int:
        """Count the batches computed at a time (config/vllm.py:587-598), as far as executor "mp" or "uni" goes."""
        if not (self.async_scheduling_for_pooling if pooling else self.async_scheduling):
            return pipeline_parallel_size
        if model_runner == 2 and self.at_least("0.23.0"):
            return pipeline_parallel_size + 1
        return 2 if pipeline_parallel_size <= 1 else pipeline_parallel_size

    def max_in_flight_tokens(
        self, max_num_batched_tokens: int, pipeline_parallel_size: int, model_runner: int, *, pooling: bool = False
    ) -> int:
        """Count the tokens that sliding-window and chunked layers keep besides their window."""
        if not self.counts_batches_in_flight:
            return max_num_batched_tokens
        return max_num_batched_tokens * self.concurrent_batches(pipeline_parallel_size, model_runner, pooling=pooling)

    def argument_problem(self, argument: str) -> str | None:
        """Say why this release refuses an option of vllm serve, and what to write; None when the tables know nothing.

        ``argument`` is written with dashes and without the leading ones: "swap-space".
        """
        if argument in REMOVED and self.at_least(REMOVED[argument].release):
            removed = REMOVED[argument]
            return f"vLLM {removed.release} removed --{argument}; {removed.instead}"
        if argument in ADDED and not self.at_least(ADDED[argument]):
            return (
                f"--{argument} came with vLLM {ADDED[argument]}, and this is {self.version}; "
                "leave it out, or use a newer release"
            )
        return None


def _at(history: Sequence[tuple[str, Any]], wanted: tuple[int, ...]) -> Any:
    value = history[0][1]
    for since, later in history:
        if release(since) <= wanted:
            value = later
    return value


def _names(table: Mapping[str, tuple[str, str | None]], wanted: tuple[int, ...]) -> frozenset[str]:
    return frozenset(
        name
        for name, (since, until) in table.items()
        if release(since) <= wanted and (until is None or wanted < release(until))
    )


def of(version: str | None) -> EngineVersion:
    """Look up a release, such as "0.11.0", "v0.8.5.post1" or "0.26.1rc1.dev156+g0eec"; None is the default one.

    What a release says itself is taken, or else what the nearest earlier one says; before the earliest one known, that.
    Pre-releases count as the release they lead to. Raises :class:`InputError` for what is no version.
    """
    named = DEFAULT_VERSION if version is None else version.strip()
    wanted = max(release(named), release(EARLIEST))
    return EngineVersion(
        version=named[1:] if named.startswith("v") else named,
        release=release(named),
        quantizations=_names(QUANTIZATIONS, wanted),
        deprecated_quantizations=_names(DEPRECATED_QUANTIZATIONS, wanted),
        kv_cache_dtypes=_names(KV_CACHE_DTYPES, wanted),
        mamba_cache_dtypes=_names(MAMBA_CACHE_DTYPES, wanted),
        **{name: _at(history, wanted) for name, history in HISTORY.items()},
    )


def outside(version: str | None) -> str | None:
    """Say that a release is older or newer than those that the tables were read from; None for one between them."""
    named = release(DEFAULT_VERSION if version is None else version)
    if named < release(EARLIEST):
        return (
            f"vLLM {version} is older than {EARLIEST}, the earliest release in the tables of this collection: it is "
            "planned as that one, and may lack what the plan writes."
        )
    if named[:2] > release(LATEST)[:2]:
        return (
            f"vLLM {version} is newer than {LATEST}, the latest release in the tables of this collection: it is "
            "planned as that one."
        )
    return None


def default_batch(
    version: str | None, gpu_name: str | None, memory_mib: float | None, accelerator: str, world_size: int = 1
) -> tuple[int, int]:
    """Give (max_num_batched_tokens, max_num_seqs) of ``vllm serve`` for a GPU of ``memory_mib`` MiB.

    ``world_size`` is the ranks of one engine (tensor times pipeline parallel), which only a CPU host multiplies by.
    vLLM goes on to change them in three cases that are the caller's: tokens are at most sequences times max_model_len,
    at least max_model_len without chunked prefill, and sequences at most tokens (0.10.1 and newer).
    """
    engine = of(version)
    if accelerator == "cpu":
        tokens, sequences, multiplied = engine.cpu_batch
        factor = world_size if multiplied else 1
        return tokens * factor, sequences * factor
    name, gib = (gpu_name or "").lower(), (memory_mib or 0) / MIB_PER_GIB
    for tier in engine.batch_tiers:
        fits = not tier.only or any(part in name for part in tier.only)
        if fits and gib >= tier.least_gib and not any(part in name for part in tier.excluded):
            return tier.max_num_batched_tokens, tier.max_num_seqs
    raise AssertionError("the last tier of every release takes all GPUs")
