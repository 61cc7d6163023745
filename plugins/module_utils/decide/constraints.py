# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sizes that vLLM refuses, as one table. Each rule carries the place in vLLM 0.33.0 where it is enforced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# model_executor/layers/vocab_parallel_embedding.py:36
VOCABULARY_PADDING = 64


@dataclass(frozen=True)
class Rule:
    """``holds(numbers, size)`` is asked only when the model says each of ``needs``."""

    what: str
    needs: tuple[str, ...]
    holds: Callable[[Mapping[str, int], int], bool]
    source: str


def _padded(vocabulary: int) -> int:
    return -(-vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING


TENSOR_PARALLEL_RULES: Sequence[Rule] = (
    Rule(
        "{num_attention_heads} attention heads",
        ("num_attention_heads",),
        lambda n, size: n["num_attention_heads"] % size == 0,
        "config/model.py:1557-1564",
    ),
    Rule(
        "{num_kv_heads} KV heads",
        ("num_kv_heads",),
        # fewer KV heads than ranks are replicated, which needs a whole number of ranks for each
        lambda n, size: n["num_kv_heads"] % size == 0 or size % n["num_kv_heads"] == 0,
        "model_executor/layers/linear.py:1063-1071",
    ),
    Rule(
        "a vocabulary of {vocab_size} (padded to a multiple of 64)",
        ("vocab_size",),
        lambda n, size: _padded(n["vocab_size"]) % size == 0,
        "model_executor/layers/vocab_parallel_embedding.py:95-97,286-306",
    ),
    Rule(
        "an intermediate size of {intermediate_size}",
        ("intermediate_size",),
        lambda n, size: n["intermediate_size"] % size == 0,
        "model_executor/layers/linear.py:497-503,731,1708",
    ),
    Rule(
        "an expert intermediate size of {moe_intermediate_size}",
        ("moe_intermediate_size", "num_experts"),
        lambda n, size: n["moe_intermediate_size"] % size == 0,
        "model_executor/layers/fused_moe/config.py:1351-1353",
    ),
)


def broken(model: Mapping[str, Any], tensor_parallel_size: int) -> list[Rule]:
    """Return the rules that a model breaks at a tensor parallel size; ``model`` is what model_info says."""
    found = []
    for rule in TENSOR_PARALLEL_RULES:
        numbers = {key: model.get(key) for key in rule.needs}
        if any(value is None for value in numbers.values()):
            continue
        # MLA models share one latent KV head among all ranks (config/model.py:1663-1683)
        if "num_kv_heads" in rule.needs and model.get("mla"):
            continue
        if not rule.holds(
            {key: int(value) for key, value in numbers.items() if value is not None}, tensor_parallel_size
        ):
            found.append(rule)
    return found


def legal_sizes(model: Mapping[str, Any], most: int) -> list[int]:
    """List the tensor parallel sizes from 1 to ``most`` that vLLM accepts for a model."""
    return [size for size in range(1, most + 1) if not broken(model, size)]


def say(model: Mapping[str, Any], rules: Sequence[Rule]) -> str:
    """Name what cannot be divided: "52 attention heads and a vocabulary of 32000 (padded to ...)"."""
    return " and ".join(rule.what.format(**model) for rule in rules)
