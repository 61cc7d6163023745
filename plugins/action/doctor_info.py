# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Calls the module doctor_info, and compares the clock of the host with this one."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plan_input import here


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Gather, and see by how much the host's clock is off at least: the call was between two looks at this one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("recorded"):
            # the module would begin a relative path elsewhere
            arguments["recorded"] = str(here(str(arguments["recorded"])))
        begin = time.time()
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        end = time.time()
        found = answer.get("evidence")
        if isinstance(found, dict):
            clock = found.pop("clock", None)
            found["clock_offset_seconds"] = offset(clock, begin, end) if clock else None
        return {**result, **answer}


def offset(clock: list[float], begin: float, end: float) -> float:
    """Seconds by which a clock is surely ahead (or behind, negative); 0 where it may be right."""
    first, last = clock
    if first < begin:
        return first - begin
    return max(0.0, last - end)
