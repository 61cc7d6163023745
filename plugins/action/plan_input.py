# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks what the inventory says for a plan, and names the hosts that have to be asked."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import plan_input

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {"hosts": {"type": "list", "elements": "str", "required": True}}


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the variables of all hosts at once, in the one process of a run_once task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        try:
            asked = plan_input.read((task_vars or {})["hostvars"], arguments["hosts"])
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        live = {host: _paths(one.models) for host, one in asked.items() if one.live}
        return {**result, "changed": False, "live": list(live), "paths": live}


def _paths(models: list[dict[str, Any]]) -> list[str]:
    """The paths of models that have to be read on their host, each once."""
    read_here = ("model_config", "model_source")
    paths = [one["model"] for one in models if not any(field in one for field in read_here)]
    return list(dict.fromkeys(path for path in paths if path.startswith("/")))
