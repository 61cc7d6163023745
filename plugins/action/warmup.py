# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Calls the module warmup until the instance answered, and shows how far the engine is meanwhile."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

DEFAULT_TIMEOUT = 3600
SECONDS_BETWEEN_LINES = 15

display = Display()


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Poll the host; each poll is one short call of the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "Check mode: nothing was started that could answer."}
        host = (task_vars or {}).get("inventory_hostname", "?")
        name = self._task.args.get("name")
        timeout = int(self._task.args.get("timeout") or DEFAULT_TIMEOUT)
        begin = time.monotonic()
        shown, shown_at = "", begin
        arguments = dict(self._task.args)
        while True:
            answer = self._execute_module(module_args=arguments, task_vars=task_vars)
            waited = time.monotonic() - begin
            if answer.get("failed") or answer.get("unreachable"):
                return {**result, **answer}
            if answer["finished"]:
                return {**result, **answer, "waited_seconds": round(waited, 1)}
            if answer["stage"] != shown or time.monotonic() - shown_at >= SECONDS_BETWEEN_LINES:
                shown, shown_at = answer["stage"], time.monotonic()
                display.display(f"{host}: vllm@{name}: {shown} ({waited:.0f} s)")
            if waited >= timeout:
                return {
                    **result,
                    "failed": True,
                    "msg": f"vllm@{name}.service did not answer within {timeout} s; it was at: {shown}. "
                    "Raise warmup_timeout if the model needs longer.",
                }
            arguments["restarts_before"] = answer["restarts"]
