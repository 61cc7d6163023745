# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what a vLLM server says at /metrics. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A sample of Prometheus' text format: name, labels, value; a time stamp may follow.
SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$")
LABEL = re.compile(r'(?<![A-Za-z0-9_])([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
ESCAPE = re.compile(r"\\[n\"\\]")
CACHE = "vllm:cache_config_info"
# Until 0.8 the share was called after the GPU (v1/metrics/loggers.py of 0.9.2 has both).
USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")


@dataclass(frozen=True)
class Sample:
    """One number with its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """Read Prometheus' text format; lines that are none of it are passed over."""
    found = []
    for line in text.splitlines():
        match = None if line.startswith("#") else SAMPLE.match(line)
        if not match:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = {
            name: ESCAPE.sub(lambda escape: ESCAPES[escape[0]], written)
            for name, written in LABEL.findall(match[2] or "")
        }
        found.append(Sample(match[1], labels, value))
    return found


def _values(samples: Sequence[Sample], name: str) -> list[float]:
    return [sample.value for sample in samples if sample.name == name]


def load(samples: Sequence[Sample]) -> dict[str, Any]:
    """Sum up what an instance is doing: ``running`` and ``waiting`` requests, ``kv_cache_usage`` from 0 to 1.

    Engines behind one port are added up, of their cache usage it is the mean. None for what is not there
    (--disable-log-stats).
    """
    running = _values(samples, "vllm:num_requests_running")
    waiting = _values(samples, "vllm:num_requests_waiting")
    usage = next((values for values in (_values(samples, name) for name in USAGE) if values), [])
    return {
        "running": int(sum(running)) if running else None,
        "waiting": int(sum(waiting)) if waiting else None,
        "kv_cache_usage": round(sum(usage) / len(usage), 4) if usage else None,
    }


def cache(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what the engines say of their KV caches, the smallest of several; None for what a release does not say.

    Labels of cache_config_info are the fields of the CacheConfig (config/cache.py, metrics_info): ``num_gpu_blocks``
    and ``block_size`` in every release, ``kv_cache_size_tokens`` and ``kv_cache_max_concurrency`` since 0.24.
    """
    engines = [sample.labels for sample in samples if sample.name == CACHE]
    return {
        "engines": len(engines) or None,
        "blocks": _least(engines, "num_gpu_blocks", int),
        "block_size": _least(engines, "block_size", int),
        "kv_cache_tokens": _least(engines, "kv_cache_size_tokens", int),
        "max_concurrency": _least(engines, "kv_cache_max_concurrency", float),
    }


def _least(engines: Sequence[Mapping[str, str]], label: str, kind: Any) -> Any:
    found = []
    for labels in engines:
        try:
            found.append(kind(labels.get(label, "")))
        except ValueError:
            continue
    return min(found) if found else None
