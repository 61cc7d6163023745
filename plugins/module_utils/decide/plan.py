# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan a whole fleet: the layouts of every host, from what is known of hosts and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances, layout

HostInput = Mapping[str, Any]
# Fields that say how a model is read, which is done before anything is decided.
READING_FIELDS = ("model_config", "weights_bytes", "weights_index")
_MODEL_ROOT = "/var/lib/vllm/models"
_ABSENT: Mapping[str, Any] = {
    "data_parallel_size": 1,
    "enable_expert_parallel": False,
    "memory": None,
    "kv_cache_tokens": None,
    "max_concurrency": None,
    "estimate": None,
}


def plan_hosts(hosts: Mapping[str, HostInput]) -> dict[str, dict[str, Any]]:
    """Decide the layouts of every host; equal inputs are decided once.

    ``hosts`` maps a host's name to ``{"gpu_facts", "models" (checked entries of vllm_models), "model_facts" (by the
    name of the instance), "engine_version", "network_interface"}``. Returns, by host, ``gpu_facts`` and
    ``instances``, the layouts in the order of the models.
    """
    known: dict[str, str] = {}
    result = {}
    for host, given in hosts.items():
        key = json.dumps([given["gpu_facts"], given["models"], given["model_facts"]], sort_keys=True)
        if key not in known:
            known[key] = json.dumps(_layouts(given))
        decided = json.loads(known[key])
        for one in decided:
            one["nodes"] = [{"host": host, "devices": one["devices"]}]
        result[host] = {"gpu_facts": given["gpu_facts"], "instances": decided}
    return result


def _layouts(given: HostInput) -> list[dict[str, Any]]:
    entries = [{key: value for key, value in one.items() if key not in READING_FIELDS} for one in given["models"]]
    wanted = instances.instances(entries, _MODEL_ROOT)
    facts = given["model_facts"]
    return [
        {
            **_ABSENT,
            **one,
            "rejected": one["rejected"] and {"reason": one["rejected"], "rule": "other", "remedies": []},
            "dtype": one["serve_args"].get("dtype") or facts.get(one["name"], {}).get("dtype"),
            "max_model_len": one["serve_args"].get("max-model-len") or facts.get(one["name"], {}).get("max_model_len"),
            "alternatives": [],
        }
        for one in layout.layouts(wanted, given["gpu_facts"], facts)
    ]
