# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plans a roll-out over all hosts, shows it, and begins its record, on the control node."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout, rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import rollout as show
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files, rollout_file, terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "fleet": {"type": "list", "elements": "str", "default": []},
    "kind": {"type": "str", "choices": ["rollout", "rollback"], "default": "rollout"},
    "only": {"type": "list", "elements": "str", "default": []},
    "canary": {"type": "raw", "default": 1},
    "batch": {"type": "raw", "default": "25%"},
    "settings": {"type": "dict", "default": {}},
    "record": {"type": "str"},
    "begin": {"type": "bool", "default": False},
    "shown": {"type": "list", "elements": "raw"},
}
# What the role registered on each host.
RESULT = {"rollout": "serve_compared", "rollback": "rollout_back"}


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan all hosts at once, in the one process of a run_once task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        hostvars = (task_vars or {})["hostvars"]
        kind = arguments["kind"]
        comparisons = {
            host: self._comparisons(plain(hostvars[host].get(RESULT[kind]) or {})) for host in arguments["hosts"]
        }
        try:
            faults = rollout.back_problems(comparisons, plain(arguments["only"])) if kind == "rollback" else []
            if faults:
                raise InputError("\n".join(faults))
            others = [
                plain(hostvars[host].get("vllm_models") or []) for host in set(arguments["fleet"]) - {*comparisons}
            ]
            elsewhere = Counter(
                entry.get("name") for entries in others for entry in entries if entry.get("state") != "absent"
            )
            found = rollout.plan(comparisons, plain(arguments["canary"]), plain(arguments["batch"]), elsewhere)
            path = rollout_file.target(arguments["record"], kind)
            shown = plain(arguments["shown"])
            if not arguments["begin"] or (shown is not None and shown != found["batches"]):
                terminal.show("\n" + show.plan(found) + "\n")
            begins = arguments["begin"] and bool(found["batches"] or found["drained"]) and not self._task.check_mode
            if begins:
                record = rollout_record.begin(
                    kind,
                    found["batches"],
                    found["hosts"],
                    plain(arguments["settings"]),
                    rollout_file.by(),
                    rollout_file.now(),
                    found["together"],
                )
                files.write(path, rollout_record.text(record))
                terminal.show(f"The record of this {kind} is {path}.")
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {
            **result,
            "changed": begins,
            "record": str(path),
            "batches": found["batches"],
            "drained": found["drained"],
            "alone": found["alone"],
            "together": found["together"],
            "touched": found["touched"],
            "back": found["back"],
            "changes": bool(found["batches"] or found["drained"]),
        }

    @staticmethod
    def _comparisons(registered: dict[str, Any]) -> list[dict[str, Any]]:
        looped = [one["comparison"] for one in registered.get("results") or [] if "comparison" in one]
        return looped + list(registered.get("comparisons") or [])
