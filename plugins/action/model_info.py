# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a folder of the control node in the process that is there: one of its own for each host costs more."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the folder here, or let the module read what lies elsewhere."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        folder = str(arguments.get("model") or "")
        here = self._connection.transport == "local" and not self._connection.become
        if not here or not folder.startswith("/") or set(arguments) & {"config", "saved", "save"}:
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        try:
            found = model.read_folder(folder)
        except InputError as error:
            if self._task.args.get("required", True) in (True, "true", "yes", "True"):
                return {**result, "failed": True, "msg": str(error)}
            found = {"problem": str(error)}
        return {**result, "changed": False, "model_facts": found}
