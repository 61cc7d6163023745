# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says which instances of a host can go back to the state before the last one."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "only": {"type": "list", "elements": "str", "default": []},
    "root": {"type": "path", "default": "/opt/vllm"},
}
MODULE = "gpufleet.vllm.instance_state"


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = plain(self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1])
        asked = {"state": "described", "root": arguments["root"]}
        answer = self._execute_module(module_name=MODULE, module_args=asked, task_vars=task_vars)
        if answer.get("failed") or answer.get("unreachable"):
            return {**result, **answer}
        found = [
            rollout.compare_back(name, one)
            for name, one in answer["instances"].items()
            if not arguments["only"] or name in arguments["only"]
        ]
        return {**result, "changed": False, "comparisons": found}
