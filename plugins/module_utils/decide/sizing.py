# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many GPUs of a kind a model needs, asked of the same planner that decides layouts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import explain, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import facts_from_profile

# GPUs of one host that are tried; hosts with more are rare.
MOST_GPUS = 8
# What a checkpoint in 4 bits says of itself: AWQ with groups of 128, the format that most models are offered in.
FOUR_BIT: Mapping[str, Any] = {
    "method": "awq",
    "bits": 4,
    "group_size": 128,
    "zero_point": True,
    "attention": True,
    "ignored": [],
}


def in_four_bit(model_facts: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a model as its AWQ checkpoint: linear layers in 4 bits, embeddings and head as they are."""
    smaller = explain.quantized(model_facts, 4)
    return {**smaller, "quantization": "awq", "quantization_config": dict(FOUR_BIT), "dtype": "float16"}


def _row(name: str, gpu: str, count: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """Give one line of the table; ``gpus`` is None for a model that does not fit."""
    fits = found["rejected"] is None
    return {
        "model": name,
        "gpu": gpu,
        "gpus": count if fits else None,
        "tensor_parallel_size": found["tensor_parallel_size"] if fits else None,
        "pipeline_parallel_size": found["pipeline_parallel_size"] if fits else None,
        "data_parallel_size": found["data_parallel_size"] if fits else None,
        "enable_expert_parallel": found["enable_expert_parallel"] if fits else None,
        "memory": found["memory"],
        "kv_cache_tokens": found["kv_cache_tokens"],
        "max_concurrency": found["max_concurrency"],
        "rejected": found["rejected"],
    }


def fewest_gpus(
    name: str, model_facts: Mapping[str, Any], gpu: str, max_model_len: int, wishes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Find the fewest GPUs of one host that hold a model with a request of ``max_model_len`` tokens.

    ``gpu`` is a product's name, ``wishes`` further fields of an entry of vllm_models. The answer has ``gpus`` (None
    when not even MOST_GPUS do), the sizes, ``memory`` in GiB, ``kv_cache_tokens``, ``max_concurrency``, and
    ``rejected`` of the largest host that was tried. Raises InputError for a GPU that is not known.
    """
    entry = {"name": "model", "model": "/model", "max_model_len": max_model_len, **(wishes or {})}
    row: dict[str, Any] = {}
    for count in range(1, MOST_GPUS + 1):
        host = {
            "gpu_facts": facts_from_profile({"name": gpu, "count": count}),
            "models": [{**entry, "gpus": count}],
            "model_facts": {"model": model_facts},
        }
        (found,) = plan.plan_hosts({"host": host})["host"]["instances"]
        row = _row(name, gpu, count, found)
        if row["gpus"]:
            return row
    return row


def sizing_table(
    models: Mapping[str, Mapping[str, Any]],
    gpus: Sequence[str],
    max_model_len: int,
    wishes: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Find the fewest GPUs for every model on every kind of GPU; ``models`` maps names to model_facts."""
    return [
        fewest_gpus(name, model_facts, gpu, max_model_len, wishes)
        for name, model_facts in models.items()
        for gpu in gpus
    ]
