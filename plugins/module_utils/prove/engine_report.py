# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an engine says of itself while it starts: memory, KV cache, times. Pure.

The lines of vLLM 0.8 to 0.33; which file prints each is named beside it. Sizes are GiB, times seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import metrics


@dataclass(frozen=True)
class Said:
    """A number that lines of a kind hold. Ranks and replicas print it for themselves: ``pick`` chooses of them."""

    name: str
    pattern: re.Pattern[str]
    pick: Callable[[Sequence[float]], float]


def _said(name: str, pattern: str, pick: Callable[[Sequence[float]], float]) -> Said:
    return Said(name, re.compile(pattern), pick)


NUMBER = r"(?<![\d,])([\d,]{1,20}(?:\.\d{1,12})?)"
# The engine is as poor as its poorest rank, and ready when the slowest is.
FIGURES: Sequence[Said] = (
    # v1/worker/gpu_model_runner.py, v1/worker/gpu/model_runner.py; not printed on CPUs
    _said("model_load_gib", rf"Model loading took {NUMBER} GiB", max),
    _said("model_load_seconds", rf"Model loading took [\d.]+ GiB(?: memory)? and {NUMBER} seconds", max),
    # model_executor/model_loader/default_loader.py
    _said("weights_seconds", rf"Loading weights took {NUMBER} seconds", max),
    # v1/worker/gpu_worker.py
    _said("available_kv_cache_gib", rf"Available KV cache memory: {NUMBER} GiB", min),
    # v1/worker/cpu_worker.py
    _said("available_kv_cache_gib", rf"(?:Explicitly|Auto) set \({NUMBER}/[\d.]+\) GiB for KV cache", min),
    # v1/core/kv_cache_utils.py: "GPU KV cache size: ...", "CPU KV cache size: ..."
    _said("kv_cache_tokens", rf"KV cache size: {NUMBER} tokens", min),
    _said("max_concurrency", rf"Maximum concurrency for [\d,]+ tokens per request: {NUMBER}x", min),
    _said("max_model_len", rf"Maximum concurrency for {NUMBER} tokens per request", min),
    # the three of DEBUG: utils/mem_utils.py, MemoryProfilingResult
    _said("weights_gib", rf"weights memory: {NUMBER}GiB", max),
    _said("activation_gib", rf"torch peak memory increase: {NUMBER}GiB", max),
    _said("non_torch_gib", rf"non-torch forward increase memory: {NUMBER}GiB", max),
    # v1/worker/gpu_worker.py, compile_or_warm_up_model: INFO in 0.10, DEBUG since; two forms, the second since 0.26
    _said("weights_gib", rf"Actual usage is {NUMBER} GiB for weight,", max),
    _said("consumed_gib", rf"Actual usage is {NUMBER} GiB for consumed memory", max),
    _said("activation_gib", rf"{NUMBER} GiB for peak activation", max),
    _said("non_torch_gib", rf"{NUMBER} GiB for non-torch memory", max),
    _said("cuda_graphs_gib", rf"{NUMBER} GiB for CUDAGraph memory", max),
    # compilation/monitor.py: "takes" until 0.17
    _said("compile_seconds", rf"torch\.compile (?:took|takes) {NUMBER} s in total", max),
    # v1/worker/gpu_model_runner.py
    _said("cuda_graphs_seconds", rf"Graph capturing finished in {NUMBER} secs", max),
    # v1/worker/gpu_model_runner.py, profile_cudagraph_memory: what is taken off the KV cache
    _said("cuda_graphs_estimated_gib", rf"Estimated CUDA graph memory: {NUMBER} GiB", max),
    _said("cuda_graphs_gib", rf"Graph capturing finished in [\d.]+ secs, took {NUMBER} GiB", max),
    # v1/engine/core.py
    _said("init_seconds", rf"init engine \(profile, create kv cache, warmup model\) took {NUMBER} s", max),
)
NAMES = tuple(dict.fromkeys(figure.name for figure in FIGURES))
WHOLE = frozenset(("kv_cache_tokens", "max_model_len"))
# What precedes the text of a line: the process, the level, the time, the place in the source.
PREFIX = re.compile(r"^(?:\([^)]*\)\s+)?(?:[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s+)?")
MOST_WORDS = 24


def figures(lines: Sequence[str]) -> dict[str, Any]:
    """Return the numbers by name, None where no line says them, and ``words``: the lines that did, without prefix."""
    found: dict[str, list[tuple[float, Said]]] = {}
    words: dict[str, None] = {}
    for line in lines:
        for figure in FIGURES:
            match = figure.pattern.search(line)
            if match:
                found.setdefault(figure.name, []).append((float(match[1].replace(",", "")), figure))
                words[PREFIX.sub("", line.rstrip(), count=1)] = None
    result: dict[str, Any] = dict.fromkeys(NAMES)
    for name, values in found.items():
        number = values[0][1].pick([value for value, _figure in values])
        result[name] = int(number) if name in WHOLE else number
    return {**result, "words": list(words)[:MOST_WORDS]}


def actual(lines: Sequence[str], samples: Sequence[metrics.Sample], load_seconds: float | None) -> dict[str, Any]:
    """Put together what an engine reported: its log, and /metrics where both say it (it is not rounded there).

    ``load_seconds`` is the time from the start of the process to its first answer.
    """
    found = figures(lines)
    cache = metrics.cache(samples)
    return {
        **found,
        "kv_cache_tokens": cache["kv_cache_tokens"] or found["kv_cache_tokens"],
        "max_concurrency": found["max_concurrency"] or _rounded(cache["max_concurrency"]),
        "blocks": cache["blocks"],
        "block_size": cache["block_size"],
        "engines": cache["engines"],
        "load_seconds": load_seconds,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


# "[12345.678901] vllm[812]: text", as journalctl --output=short-monotonic --no-hostname prints it
MONOTONIC = re.compile(r"^\[\s*(\d+\.\d+)\] (?:[^\s:]+: )?(.*)$")
READY = "Application startup complete."


def dated(lines: Sequence[str]) -> tuple[list[str], float | None]:
    """Take the time stamps off journal lines; returns the texts, and the second at which the server was ready."""
    texts = []
    ready = None
    for line in lines:
        match = MONOTONIC.match(line)
        texts.append(match[2] if match else line)
        if match and READY in line:
            ready = float(match[1])
    return texts, ready


def comparison(predicted: Mapping[str, Any], reported: Mapping[str, Any], tolerance: float) -> list[dict[str, Any]]:
    """Compare a prediction with what was reported, quantity by quantity, for those that both know.

    ``ratio`` is the prediction by the report, ``beyond`` whether it is off by more than ``tolerance``, which counts for
    the KV cache and the weights alone: the other parts of the account are small, and their sum shows in these.
    """
    found = []
    for name, others, judged in COMPARED:
        wanted, seen = predicted.get(name), next((reported[one] for one in others if reported.get(one)), None)
        if wanted is None or not seen:
            continue
        ratio = wanted / seen
        found.append(
            {
                "quantity": name,
                "predicted": wanted,
                "actual": seen,
                "ratio": round(ratio, 4),
                "beyond": judged and abs(ratio - 1) > tolerance,
            }
        )
    return found


# (the layout's name, the report's, the first that was said, whether a difference warns)
COMPARED: Sequence[tuple[str, tuple[str, ...], bool]] = (
    ("kv_cache_tokens", ("kv_cache_tokens",), True),
    ("max_concurrency", ("max_concurrency",), False),
    ("weights_gib", ("model_load_gib",), True),
    ("kv_cache_gib", ("available_kv_cache_gib",), False),
    ("activation_gib", ("activation_gib",), False),
    ("non_torch_gib", ("non_torch_gib",), False),
    # what was captured is more than what vLLM took off the KV cache for it; where it took nothing, it is what counts
    ("cuda_graphs_gib", ("cuda_graphs_estimated_gib", "cuda_graphs_gib"), False),
)
