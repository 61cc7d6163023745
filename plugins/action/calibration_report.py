# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes corrections of the planner of the receipts of a fleet, shows them and writes them, on the control node."""

from __future__ import annotations

from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import calibration
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import corrections
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files, terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "file": {"type": "str"},
}
# What the task of the playbook registered on each host.
RESULT = "calibrate_info"
HEADER = """\
# Corrections of the planner, from the receipts of a fleet (playbook calibrate). Read them; then give them to the
# playbooks plan and deploy as a variable of the hosts, in group_vars or with --extra-vars @FILE.
"""


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at the receipts of all hosts at once, in the one process of a run_once task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        hostvars = (task_vars or {})["hostvars"]
        answers = {host: plain(hostvars[host].get(RESULT) or {}) for host in arguments["hosts"]}
        lost = sorted(host for host, answer in answers.items() if "receipts" not in answer)
        receipts = [one for answer in answers.values() for one in answer.get("receipts") or ()]
        found = calibration.suggest(receipts)
        after = calibration.errors(receipts, calibration.rows(found))
        terminal.show("\n" + corrections.table(found, len(receipts), calibration.errors(receipts), after, lost) + "\n")
        try:
            path = files.target(arguments["file"], "calibration_file")
            text = HEADER + yaml.safe_dump({calibration.VARIABLE: found}, sort_keys=False)
            changed = path is not None and files.differs(path, text)
            if path is not None and changed and not self._task.check_mode:
                files.write(path, text)
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": changed, "corrections": found, "lost": lost}
