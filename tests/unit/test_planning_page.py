# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The worked example of docs/planning.md, recomputed by the planner."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, model

from tests.unit.samples import CHECKOUT

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def example() -> str:
    text = (CHECKOUT / "docs/planning.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- worked example.*?-->(.*)<!-- end -->", text, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def layout() -> dict[str, Any]:
    entry = {"name": "m", "model": "meta-llama/Llama-3.1-8B-Instruct", "max_model_len": 32768}
    host = {
        "gpu_facts": facts.facts_from_profile({"name": "L40S"}),
        "models": [entry],
        "model_facts": {"m": model.facts(LLAMA_8B)},
    }
    (found,) = plan.plan_hosts({"host": host})["host"]["instances"]
    assert found["rejected"] is None
    return found


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ("budget", "budget_gib"),
        ("weights", "weights_gib"),
        ("activation", "activation_gib"),
        ("CUDA graphs", "cuda_graphs_gib"),
        ("outside of PyTorch", "non_torch_gib"),
        ("KV cache", "kv_cache_gib"),
    ],
)
def test_the_table(example: str, layout: dict[str, Any], row: str, key: str) -> None:
    printed = re.search(rf"^\| {row} \|.*\| ([\d.]+) \|$", example, re.MULTILINE)
    assert printed
    assert float(printed[1]) == pytest.approx(layout["memory"][key], abs=0.006)


def test_tokens_and_concurrency(example: str, layout: dict[str, Any]) -> None:
    assert f"{layout['kv_cache_tokens']:,} tokens" in example
    assert f"concurrency of\n{layout['max_concurrency']:.2f}." in example


def test_the_parameters(example: str) -> None:
    counted = sum(tensor["parameters"] for tensor in model.facts(LLAMA_8B)["weights"]["tensors"])
    assert f"{counted:,} parameters" in example
