# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a folder of the control node in the process that is there, and asks the hub once for all hosts of a run."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import hub_answers


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
        if not here or not folder or set(arguments) & {"config", "saved", "save"}:
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        if not folder.startswith("/"):
            return {**result, **self.from_hub(task_vars)}
        try:
            found = model.read_folder(folder)
        except InputError as error:
            if self._task.args.get("required", True) in (True, "true", "yes", "True"):
                return {**result, "failed": True, "msg": str(error)}
            found = {"problem": str(error)}
        return {**result, "changed": False, "model_facts": found}

    def from_hub(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Ask the hub about a model, or take what another host of the run was answered."""
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        arguments = dict(self._task.args)

        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
            # how it was called holds the token's place, and is this task's alone; where it failed is no JSON
            return {key: value for key, value in answer.items() if key not in ("invocation", "exception")}

        def failed(answer: dict[str, Any]) -> bool:
            return bool(answer.get("failed") or (answer.get("model_facts") or {}).get("problem"))

        return hub_answers.asked_once({"arguments": arguments, "environment": environment}, ask, failed)
