# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compares an instance as it is with what it should be, on the control node, which can read its settings."""

from __future__ import annotations

from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "digest": {"type": "str", "required": True},
    "settings": {"type": "dict", "required": True},
    "environment": {"type": "dict", "required": True},
    "release": {"type": "str", "required": True},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "node_rank": {"type": "int", "default": 0},
    "root": {"type": "path", "default": "/opt/vllm"},
}
MODULE = "gpufleet.vllm.instance_state"


def settings(text: str) -> dict[str, Any]:
    """Read the settings of an instance; none where they are no mapping."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    return found if isinstance(found, dict) else {}


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host, and compare."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        wanted = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        wanted = {key: plain(value) for key, value in wanted.items()}
        asked = {"names": [wanted["name"]], "state": "described", "root": wanted["root"]}
        answer = self._execute_module(module_name=MODULE, module_args=asked, task_vars=task_vars)
        if answer.get("failed") or answer.get("unreachable"):
            return {**result, **answer}
        found = answer["instances"][wanted["name"]]
        comparison = rollout.compare(
            {**wanted, "environment": {key: str(value) for key, value in wanted["environment"].items()}},
            {
                **found,
                "settings": settings(found["settings"]),
                "environment": systemd.read_environment(found["environment"]),
            },
        )
        return {**result, "changed": False, "comparison": comparison}
