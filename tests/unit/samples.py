"""Hosts and models that several tests speak of, and the folder of real data beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

CHECKOUT = Path(__file__).parents[2]
SHARED = CHECKOUT.parent / "shared"

# config.json of real models, as far as it is read; sizes of weights are those of their bfloat16 checkpoints.
LLAMA_70B_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN25_7B_CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN3_06B_CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
LLAMA_70B = model.facts(LLAMA_70B_CONFIG, 141107412992)
QWEN25_7B = model.facts(QWEN25_7B_CONFIG, 15231233024)
QWEN3_06B = model.facts(QWEN3_06B_CONFIG, 1503300328)


def shared(name: str) -> Path:
    """Return a file or folder of the real data, or skip the test where it is not beside the checkout."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there: real data is checked only where it lies beside the checkout")
    return path


def shared_json(name: str) -> Any:
    """Return the content of a JSON file of the real data, or skip."""
    return json.loads(shared(name).read_text(encoding="utf-8"))


def cpu_host(cores: int = 4, memory_mib: int | None = 24576) -> dict[str, Any]:
    """Facts of a host without a GPU."""
    return {
        "accelerator": "cpu",
        "state": "ready",
        "message": "No GPU was found: the CPU is the accelerator.",
        "devices": [],
        "numa_nodes": [{"id": 0, "cpus": list(range(cores)), "memory_total_mib": memory_mib}],
        "memory_total_mib": memory_mib,
    }


def gpu(index: int, name: str = "NVIDIA H100 80GB HBM3", mib: int | None = 81559, **more: Any) -> dict[str, Any]:
    """One device of an NVIDIA host."""
    return {"index": index, "name": name, "memory_total_mib": mib, "compute_capability": "9.0", **more}


def t4(index: int) -> dict[str, Any]:
    """A GPU without bfloat16."""
    return gpu(index, "Tesla T4", 15360, compute_capability="7.5")


def nvidia_host(*devices: dict[str, Any]) -> dict[str, Any]:
    """Facts of a host with GPUs."""
    return {
        "accelerator": "cuda",
        "state": "ready",
        "message": f"{len(devices)} NVIDIA GPUs.",
        "devices": list(devices),
        "numa_nodes": [],
        "memory_total_mib": 2_000_000,
    }
