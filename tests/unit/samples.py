"""Hosts and models that several tests speak of, and the folder of real data beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
SHARED = CHECKOUT.parent / "shared"

# Numbers of real models, as model_info gives them; the weights are those of their bfloat16 checkpoints.
LLAMA_70B = {
    "num_attention_heads": 64,
    "num_kv_heads": 8,
    "vocab_size": 128256,
    "intermediate_size": 28672,
    "max_model_len": 8192,
    "dtype": "bfloat16",
    "weight_bytes": 141107412992,
}
QWEN25_7B = {
    "num_attention_heads": 28,
    "num_kv_heads": 4,
    "vocab_size": 152064,
    "intermediate_size": 18944,
    "max_model_len": 32768,
    "dtype": "bfloat16",
    "weight_bytes": 15231233024,
}
QWEN3_06B = {
    "num_attention_heads": 16,
    "num_kv_heads": 8,
    "vocab_size": 151936,
    "intermediate_size": 3072,
    "max_model_len": 40960,
    "dtype": "bfloat16",
    "weight_bytes": 1503300328,
}


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
