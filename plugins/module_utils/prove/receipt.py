# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The receipt of an instance: what was asked, decided and predicted, and what the engine then did. Pure.

docs/receipt.md says what each field is. A change of a field's meaning raises SCHEMA_VERSION.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import engine_report

SCHEMA_VERSION = 1
FOLDER = PurePosixPath("/var/lib/vllm/receipts")
# Where the role nccl_check keeps what it measured.
CHECKS = PurePosixPath("/var/lib/vllm/checks")
SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel")
LAYOUT = (*SIZES, "accelerator", "nodes", "node_rank", "devices", "dtype", "max_model_len", "serve_args")
# What was measured of a process, and holds for as long as it runs.
MEASURED = ("engine", "process", "actual", "warmup")
# Parts of the memory account, of the rank with the least room.
MEMORY = ("weights_gib", "activation_gib", "cuda_graphs_gib", "non_torch_gib", "kv_cache_gib")

# Values that are mappings where they are there.
PARTS = frozenset(("layout", "predicted", "actual", "checks", "engine", "process", "warmup"))


def read(text: str | None) -> dict[str, Any] | None:
    """Read a receipt; None for one that is not there, cannot be read or is of another version."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        return None
    # a damaged part is as if it had not been written
    return {key: None if key in PARTS and not isinstance(value, dict) else value for key, value in found.items()}


def text(receipt: Mapping[str, Any]) -> str:
    """Write a receipt: the same content gives the same bytes."""
    return json.dumps(receipt, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def is_of(receipt: Mapping[str, Any] | None, process: Mapping[str, Any] | None) -> bool:
    """Tell whether a receipt is of a process that runs: the same start of the unit, from the same things."""
    told = (receipt or {}).get("process")
    if not isinstance(told, Mapping) or not process or not process.get("invocation"):
        return False
    return all(told.get(key) == process.get(key) for key in ("invocation", "pid", "digest"))


def comparison(receipt: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What of a receipt compares predicted with actual, as far as it is whole."""
    found = receipt.get("comparison")
    return [
        entry
        for entry in (found if isinstance(found, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("quantity"), str)
        and all(isinstance(entry.get(key), (int, float)) for key in ("predicted", "actual", "ratio"))
    ]


def predicted(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the predictions out of a layout: tokens of KV cache, requests of full length, the memory account in GiB."""
    return {
        "kv_cache_tokens": layout.get("kv_cache_tokens"),
        "max_concurrency": layout.get("max_concurrency"),
        "memory": layout.get("memory"),
        "assumed": layout.get("assumed"),
        "estimate": layout.get("estimate"),
    }


def build(
    layout: Mapping[str, Any], measured: Mapping[str, Any], checks: Mapping[str, Any], tolerance: float, time: str
) -> dict[str, Any]:
    """Put a receipt together.

    ``layout`` is an entry of the filter parallel_layout, ``measured`` has :data:`MEASURED`, ``checks`` what other roles
    measured of the instance by name, ``time`` is when it is written. Of the environment only the names are taken.
    """
    prediction = predicted(layout)
    flat = {**prediction, **{part: (prediction["memory"] or {}).get(part) for part in MEMORY}}
    return {
        "schema_version": SCHEMA_VERSION,
        "time": time,
        "instance": layout["name"],
        "unit": layout["unit"],
        "model": layout["model"],
        "revision": layout.get("revision"),
        "layout": {**{key: layout.get(key) for key in LAYOUT}, "environment": sorted(layout.get("environment") or ())},
        "predicted": prediction,
        **{key: measured.get(key) for key in MEASURED},
        "comparison": engine_report.comparison(flat, measured.get("actual") or {}, tolerance),
        "checks": dict(checks),
    }


def measured_of(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Pick out of a receipt what was measured of its process."""
    return {key: receipt.get(key) for key in MEASURED}


def same(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Tell whether two receipts say the same, whenever they were written."""
    return old is not None and {**old, "time": None} == {**json.loads(text(new)), "time": None}


def warnings(receipt: Mapping[str, Any]) -> list[str]:
    """Say what of a receipt a person should look at, a sentence each."""
    found = [
        f"{receipt['instance']}: {_name(one['quantity'])} was predicted as {one['predicted']:g} and is "
        f"{one['actual']:g} ({one['ratio'] - 1:+.0%}); the plan of other instances on such hosts may be off as much."
        for one in receipt["comparison"]
        if one["beyond"]
    ]
    remarks = (receipt.get("warmup") or {}).get("remarks") or ()
    return [*found, *(f"{receipt['instance']}: {remark}." for remark in remarks)]


def _name(quantity: str) -> str:
    return {"kv_cache_tokens": "the KV cache in tokens", "weights_gib": "the memory of the weights in GiB"}[quantity]


def release_of_any(maps: Iterable[str]) -> str | None:
    """Find the virtual environment that the first of several processes runs from which runs from one."""
    return next(filter(None, map(release_of, maps)), None)


def release_of(maps: str) -> str | None:
    """Find the virtual environment that a process runs from in its /proc/PID/maps: the one torch's library lies in."""
    for line in maps.splitlines():
        path = line[line.find("/") :] if "/" in line else ""
        folder, found, _rest = path.partition("/site-packages/torch/lib/")
        if found:
            return str(PurePosixPath(folder).parent.parent)
    return None
