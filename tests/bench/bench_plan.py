"""Prints how long plan.yml takes for 10, 100, 500 and 1,000 described hosts of three models each.

Run: python tests/bench/bench_plan.py. The inventories and models are made here; the whole command is timed, with the
JSON report and the page. It exits 1 where 1,000 hosts take more than 30 seconds, or where a host of the second 500
takes more than twice what one of the first 500 takes: the time is to grow with the hosts, not faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
SIZES = (10, 100, 500, 1000)
LIMIT_S = 30
MOST_GROWTH = 2
# Hosts as a fleet has them: a few makes, here with a number of GPUs that differs from host to host.
KINDS = (
    {"name": "H100", "interconnect": "nvswitch", "count": 8},
    {"name": "A100-SXM4-80GB", "interconnect": "nvswitch", "count": 8},
    {"name": "L40S", "interconnect": "pcie", "count": 4},
    {"name": "RTX 4090", "interconnect": "pcie", "count": 2},
)
MODELS = {
    "large": (80, 8192, 64, 8, 28672, 141107412992),
    "middle": (64, 5120, 64, 8, 25600, 65524246528),
    "small": (36, 4096, 32, 8, 12288, 16381470720),
}


def config(layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int) -> dict[str, Any]:
    """A config.json of the Llama kind."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }


def inventory(folder: Path, hosts: int) -> Path:
    """Write an inventory whose hosts all carry their own variables, which is the slowest way to write it."""
    models = []
    for port, (name, numbers) in enumerate(MODELS.items(), start=8000):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config(*numbers[:5])))
        entry = {"name": name, "model": f"org/{name}", "port": port, "max_model_len": 8192}
        models.append({**entry, "model_config": str(path), "weights_bytes": numbers[5]})
    entries = {
        f"gpu{number:04d}": {"gpu_profile": KINDS[number % len(KINDS)], "vllm_models": models}
        for number in range(hosts)
    }
    path = folder / f"{hosts}.yml"
    path.write_text(json.dumps({"all": {"hosts": entries}}, indent=1))
    return path


def seconds(folder: Path, hosts: int) -> float:
    """Wall time of one run; raises CalledProcessError where it fails."""
    report, page = folder / f"{hosts}.plan.json", folder / f"{hosts}.html"
    command = [sys.executable, "-m", "ansible", "playbook", "playbooks/plan.yml", "-i", str(inventory(folder, hosts))]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "-e", f"plan_report={report}", "-e", f"plan_page={page}"],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_LOCAL_TEMP": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.monotonic() - begun
    if done.returncode:
        print(done.stdout + done.stderr)
        done.check_returncode()
    planned = json.loads(report.read_text())["hosts"]
    assert len(planned) == hosts
    assert all(len(entry["instances"]) == len(MODELS) for entry in planned.values())
    sizes = f"report {report.stat().st_size / 2**20:.1f} MiB, page {page.stat().st_size / 2**20:.2f} MiB"
    print(f"plan: {hosts:5d} hosts x {len(MODELS)} models: {taken:6.2f} s, {sizes}", flush=True)
    return taken


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        taken = {hosts: seconds(Path(folder), hosts) for hosts in SIZES}
    few, half, all_of_them = (taken[hosts] for hosts in (10, 500, 1000))
    first, second = (half - few) / 490 * 1000, (all_of_them - half) / 500 * 1000
    ratio = second / first
    print(f"plan: {first:.1f} ms for each host up to 500, {second:.1f} ms for each after: {ratio:.2f} x")
    return 0 if all_of_them < LIMIT_S and ratio < MOST_GROWTH else 1


if __name__ == "__main__":
    raise SystemExit(main())
