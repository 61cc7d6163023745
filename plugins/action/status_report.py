# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shows the status of a fleet and writes it, on the control node."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files, terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "report": {"type": "str"},
}
# What the task of the playbook registered on each host.
RESULT = "status_info"


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show all hosts at once, in the one process of a run_once task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        hostvars = (task_vars or {})["hostvars"]
        found = fleet.report({host: plain(hostvars[host].get(RESULT) or {}) for host in arguments["hosts"]})
        terminal.show("\n" + fleet.table(found) + "\n")
        try:
            path = files.target(arguments["report"], "status_report")
            text = json.dumps(found, indent=2, sort_keys=True) + "\n"
            changed = path is not None and files.differs(path, text)
            if path is not None and changed and not self._task.check_mode:
                files.write(path, text)
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        lost = sorted(host for host, entry in found["hosts"].items() if entry["problem"])
        return {**result, "changed": changed, "lost": lost}
