# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an instance is doing, put together from its settings, its unit, its server and its receipt. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt

# A line of the file that the role serve writes: plain YAML, an option of vllm serve each, none of these quoted.
SETTING = re.compile(
    r"^(host|port|model|revision|headless): *['\"]?([^'\"\n ](?:[^'\"\n]*[^'\"\n ])?)['\"]? *$", re.MULTILINE
)
DEFAULT_PORT = 8000
SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel")


def settings(text: str) -> dict[str, str]:
    """Read the settings of an instance that say where it is and what it serves."""
    return dict(SETTING.findall(text))


def state(unit: Mapping[str, Any], healthy: bool) -> str:
    """Say in a word how an instance is doing: serving, loading, waiting, restarting, failed or stopped.

    ``unit`` has systemd's ``active_state`` and ``sub_state``, and the ``status`` that the unit gives itself.
    """
    if unit.get("sub_state") == "auto-restart":
        return "restarting"
    if systemd.waits(unit):
        return "waiting"
    if unit.get("active_state") in ("active", "activating", "reloading"):
        return "serving" if healthy else "loading"
    return "failed" if unit.get("active_state") == "failed" else "stopped"


def instance(
    name: str,
    written: Mapping[str, str],
    unit: Mapping[str, Any],
    process: Mapping[str, Any] | None,
    told: Mapping[str, Any],
    old: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Put an instance together.

    ``written`` are its settings, ``unit`` its state and ``process`` its process as observe.systemd gives them, ``told``
    what its server says (``healthy``, ``now`` in seconds of the monotonic clock, ``release``, and metrics.load),
    ``old`` its receipt. What is not known is None.
    """
    found = old or {}
    layout = found.get("layout") or {}
    warmed = found.get("warmup") or {}
    return {
        "name": name,
        "unit": f"vllm@{name}.service",
        "model": written.get("model") or found.get("model"),
        "state": state(unit, bool(told.get("healthy"))),
        "restarts": unit.get("restarts"),
        "uptime_seconds": int(told["now"] - process["started"]) if process else None,
        "port": good_states.number(written.get("port"), DEFAULT_PORT),
        "release": told.get("release") or (found.get("engine") or {}).get("release"),
        "layout": {key: layout.get(key) for key in (*SIZES, "accelerator", "nodes", "node_rank")} if layout else None,
        "running": told.get("running"),
        "waiting": told.get("waiting"),
        "kv_cache_usage": told.get("kv_cache_usage"),
        "comparison": found.get("comparison") or [],
        "warm": receipt.is_of(old, process),
        "warmed_at": found.get("time"),
        "first_token_seconds": warmed.get("first_token_seconds"),
        "tokens_per_second": warmed.get("tokens_per_second"),
    }
