# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decides the layouts of a host, shows them, and refuses what cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import calibration, instances, layout, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import table
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.layout_inputs import layout_inputs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "models": {"type": "list", "elements": "dict", "required": True},
    "gpu_facts": {"type": "dict", "required": True},
    "model_facts": {"type": "dict", "required": True},
    "model_root": {"type": "path", "required": True},
    "engine_version": {"type": "str"},
    "calibration": {"type": "raw"},
}


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Decide, show, refuse."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = plain(self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1])
        variables = task_vars or {}
        host = str(variables.get("inventory_hostname"))
        try:
            decided = self.decided(host, given, variables.get("hostvars") or {})
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        refused = [one["rejected"]["sentence"] for one in decided if one["rejected"]]
        if refused:
            return {**result, "failed": True, "msg": "\n".join(refused)}
        terminal.show(table.table({"hosts": {host: {"gpu_facts": given["gpu_facts"], "instances": decided}}}))
        files = {name: found.get("files") or [] for name, found in given["model_facts"].items()}
        return {**result, "layouts": decided, "model_files": files}

    def decided(self, host: str, given: dict[str, Any], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Decide for the host alone, or together with those that it runs engines with."""
        if any("nodes" in one for one in given["models"]):
            found: list[dict[str, Any]] = plan.plan_hosts(layout_inputs(host, hostvars))[host]["instances"]
            return found
        corrections = calibration.rows(given["calibration"])
        wanted = instances.wanted(given["models"], given["model_root"], given["engine_version"], corrections)
        return layout.layouts(wanted, given["gpu_facts"], given["model_facts"], host)
