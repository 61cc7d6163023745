#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write docs/sizing.md from the planner: `make sizing`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / ".collections"))

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import plan, sizing  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import facts_from_profile  # noqa: E402

PAGE = CHECKOUT / "docs/sizing.md"
CONFIGS: Mapping[str, Any] = json.loads((Path(__file__).parent / "sizing_models.json").read_text(encoding="utf-8"))
CONTEXT = 4096
GPUS = ("RTX 4090", "RTX 5090", "L40S", "A100 80GB", "H100", "H200", "B200", "MI300X")
GUIDE_GPUS = ("RTX 4090", "H100", "H200")
# What the widely read guide says for these at 4 bits, as far as it does; None is "none".
GUIDE: Mapping[str, tuple[int | None, ...]] = {
    "Llama 3.1 8B": (1, 1),
    "Llama 3.1 70B": (2, 1),
    "Qwen3.5 35B-A3B": (1, 1),
    "Qwen3.5 122B-A10B": (4, 1),
    "Mixtral 8x22B": (4, 2),
    "DeepSeek R1 671B": (None, 8),
    "Llama 3.1 405B": (None, 4, 3),
}
# Checkpoints as they are published.
PUBLISHED = {
    "Llama 3.1 8B": "BF16",
    "Qwen3 32B": "BF16",
    "Llama 3.1 70B": "BF16",
    "Llama 3.1 405B": "BF16",
    "Mixtral 8x22B": "BF16",
    "Qwen3 235B-A22B": "BF16",
    "gpt-oss-20b": "MXFP4",
    "gpt-oss-120b": "MXFP4",
    "DeepSeek R1 671B": "FP8",
}


def facts(name: str, four_bit: bool) -> dict[str, Any]:
    """Describe a model as it is published, or as its AWQ checkpoint."""
    found = model.facts(CONFIGS[name])
    return sizing.in_four_bit(found) if four_bit else found


def cell(row: Mapping[str, Any]) -> str:
    """Say a line of the sizing table in a cell: "2 (TP2)"."""
    if row["gpus"] is None:
        return "none"
    parts = [f"TP{row['tensor_parallel_size']}"] if row["tensor_parallel_size"] > 1 else []
    parts += [f"PP{row['pipeline_parallel_size']}"] if row["pipeline_parallel_size"] > 1 else []
    parts += [f"DP{row['data_parallel_size']}"] if row["data_parallel_size"] > 1 else []
    parts += ["EP"] if row["enable_expert_parallel"] else []
    return f"{row['gpus']} ({' '.join(parts)})" if parts else str(row["gpus"])


def table(names: Sequence[str], gpus: Sequence[str], four_bit: bool, notes: Mapping[str, str]) -> list[str]:
    """Make the lines of a table of models by kinds of GPUs."""
    lines = [f"| model | {' | '.join(gpus)} |", f"| --- |{' --- |' * len(gpus)}"]
    for name in names:
        found = [cell(sizing.fewest_gpus(name, facts(name, four_bit), gpu, CONTEXT)) for gpu in gpus]
        lines.append(f"| {name}{notes.get(name, '')} | {' | '.join(found)} |")
    return lines


def account(name: str, gpu: str, count: int, four_bit: bool = True) -> str:
    """Say the memory of one GPU for a model that takes ``count`` of them, or why it does not fit."""
    host = {
        "gpu_facts": facts_from_profile({"name": gpu, "count": count}),
        "models": [{"name": "m", "model": "/m", "gpus": count, "max_model_len": CONTEXT}],
        "model_facts": {"m": facts(name, four_bit)},
    }
    (found,) = plan.plan_hosts({"host": host})["host"]["instances"]
    if found["rejected"]:
        return str(found["rejected"]["reason"]) + "."
    memory = found["memory"]
    rest = memory["activation_gib"] + memory["cuda_graphs_gib"] + memory["non_torch_gib"]
    return (
        f"of {memory['budget_gib']:.1f} GiB, weights take {memory['weights_gib']:.1f}, the rest {rest:.1f}, and "
        f"{memory['kv_cache_gib']:.1f} are left: {found['kv_cache_tokens']:,} tokens."
    )


def refused() -> str:
    """Plan the guide's command for Llama 3.1 70B on two RTX 4090, in bfloat16."""
    host = {
        "gpu_facts": facts_from_profile({"name": "RTX 4090", "count": 2}),
        "models": [{"name": "llama-70b", "model": "/m", "dtype": "bfloat16", "tensor_parallel_size": 2}],
        "model_facts": {"llama-70b": facts("Llama 3.1 70B", four_bit=False)},
    }
    (found,) = plan.plan_hosts({"host": host})["host"]["instances"]
    return str(found["rejected"]["sentence"])


def differences() -> list[str]:
    """List the cells in which the planner and the guide differ, each with its arithmetic."""
    lines = []
    for name, wanted in GUIDE.items():
        for gpu, guess in zip(GUIDE_GPUS, wanted):
            row = sizing.fewest_gpus(name, facts(name, four_bit=True), gpu, CONTEXT)
            if row["gpus"] == guess:
                continue
            said = f"- **{name} on {gpu}**: the guide says {guess or 'none'}, the planner {cell(row)}."
            if guess and (row["gpus"] or 99) > guess:
                said += f" On {guess}: {account(name, gpu, guess)}"
            if row["gpus"]:
                said += f" On {row['gpus']}: {account(name, gpu, row['gpus'])}"
            lines.append(said)
    return lines


HEAD = f"""# How many GPUs does a model need?

Made by `make sizing` from the planner that decides layouts, and kept true by a test. A cell says the fewest GPUs of one
host (up to {sizing.MOST_GPUS}) that hold the model and one request of {CONTEXT:,} tokens, with vLLM 0.33.0 at its own
defaults, with fewer sequences at once where only those make it fit, and the sizes where there are several: TP tensor
parallel, PP pipeline parallel, DP data parallel, EP expert parallel. It says what fits, not what is fast: more GPUs
give more room for the KV cache. Ask for your own model, length and GPUs with `plan.yml` or the filter
`gpufleet.vllm.sizing_table`.

## Weights in 4 bits (AWQ, groups of 128)

Linear layers in 4 bits with their scales; embeddings, head, norms and routers as they are. The distilled R1 70B is a
Llama 3.1 70B.
"""
DIFFERENCES = """
AMD's memory outside of PyTorch was not measured: the column MI300X is a guess.

## Where this differs from the widely read guide

The guide that this project began from gives numbers for RTX 4090 and H100 at 4 bits, without a length.
"""
MORE = """
- **Llama 3.1 405B in 16 bits**: the guide says 8 x H100 for about 810 GB of weights. The planner:
  {in_16_bits}

The guide also prints `--dtype bfloat16 --tensor-parallel-size 2` for Llama 3.1 70B on two RTX 4090. The planner:

> {refused}
"""


def page() -> str:
    """Write the whole page."""
    notes = {name: f", {kind}" for name, kind in PUBLISHED.items()}
    in_16_bits = account("Llama 3.1 405B", "H100", 8, four_bit=False)
    return "\n".join(
        [
            HEAD,
            *table(tuple(GUIDE), GPUS, four_bit=True, notes={}),
            "",
            "## As published",
            "",
            *table(tuple(PUBLISHED), GPUS, four_bit=False, notes=notes),
            DIFFERENCES,
            *differences(),
            MORE.strip("\n").format(in_16_bits=in_16_bits, refused=refused()),
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(CHECKOUT)} written.")
