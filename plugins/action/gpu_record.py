# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Records a host, and lets nothing through but the files of a recording: their names become paths here."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import recorded


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and check its answer."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        answer = self._execute_module(module_args=self._task.args, task_vars=task_vars)
        if answer.get("failed") or answer.get("unreachable") or answer.get("skipped"):
            return {**result, **answer}
        try:
            recorded.checked(answer.get("files"))
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, **answer}
