# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes the steps of a roll-out into its record on the control node, and decides by it whether it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout, rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import rollout as show
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import rollout_file, terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ASKS = ("goes_on", "to_back_out")
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "record": {"type": "path", "required": True},
    "step": {"type": "str", "choices": [*ASKS, *rollout_record.STEPS, "together", "concluded"], "required": True},
    "host": {"type": "str"},
    "required": {"type": "bool", "default": True},
    "failure": {"type": "dict"},
    "before": {"type": "dict", "default": {}},
    "answered": {"type": "list", "elements": "str", "default": []},
    "after": {"type": "dict", "default": {}},
    "bounds": {"type": "dict", "default": {}},
}
# A fact of each host: the steps that could not be written down yet.
UNWRITTEN = "gpufleet_rollout_unwritten"


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take one step, or answer one question."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        self.path = Path(arguments["record"])
        self.variables = task_vars or {}
        self.host = arguments["host"] or self.variables.get("inventory_hostname", "?")
        self.required = arguments["required"]
        step = arguments["step"]
        try:
            if step in ASKS:
                answer = getattr(rollout_record, step)(self._read(), self.host)
                return {**result, "changed": False, step: answer}
            if step == "concluded":
                return {**result, **self._conclude()}
            if step == "together":
                return {**result, **self._together()}
            if step == "verified":
                return {**result, **self._verify(plain(arguments))}
            failure = arguments["failure"]
            reason = rollout_record.reason_of(plain(failure)) if failure is not None else None
            return {**result, "reason": reason, **self._step(step, reason, self._learnt(plain(arguments)))}
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}

    @staticmethod
    def _learnt(arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Put together what a step says of each instance."""
        found: dict[str, dict[str, Any]] = {}
        for when in ("before", "after"):
            for name, measured in arguments[when].items():
                found.setdefault(name, {})[when] = measured
        for name in arguments["answered"]:
            found.setdefault(name, {})["answered"] = True
        return found

    def _unwritten(self, host: str) -> list[dict[str, Any]]:
        """Return the steps of a host that are in no file."""
        known = self.variables if host == self.variables.get("inventory_hostname") else {}
        known = known or (self.variables.get("hostvars") or {}).get(host) or {}
        return list(plain((known.get("ansible_facts") or {}).get(UNWRITTEN) or []))

    def _read(self) -> dict[str, Any]:
        """Read the record, with what could not be written of this host and of those that run an engine with it."""
        found = rollout_file.read(self.path)
        for host in (self.host, *found["hosts"].get(self.host, {}).get("together", ())):
            found = rollout_record.told(found, self._unwritten(host))
        return found

    def _step(self, name: str, reason: str | None, learnt: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Write a step down, and the earlier ones that could not be. One that need not be written never fails."""
        event = {"host": self.host, "name": name, "time": rollout_file.now(), "reason": reason, "instances": learnt}
        before = self._unwritten(self.host)
        events = [*before, event]
        done: dict[str, Any] = {"changed": True}
        try:
            rollout_file.changed(self.path, lambda record: rollout_record.told(record, events))
            if before:
                done["ansible_facts"] = {UNWRITTEN: []}
        except InputError as error:
            if self.required:
                raise
            done.update(changed=False, warnings=[str(error)], ansible_facts={UNWRITTEN: events})
        if name == "failed":
            done.update(self._way())
        return done

    def _way(self) -> dict[str, Any]:
        """Say what to do after a failure. Where no record is left to tell how far it came, the host is put back."""
        try:
            record = self._read()
        except InputError:
            return {"way": rollout_record.PUT_BACK, "told": True, "unkept": True}
        return {
            "way": rollout_record.way(record, self.host),
            "told": rollout_record.gateways_told(record, self.host),
            "unkept": rollout_record.unkept(record, self.host),
        }

    def _together(self) -> dict[str, Any]:
        """Fail where another host of an engine did not come as far: each step is made on all of them, or on none."""
        record = self._read()
        others = rollout_record.behind(record, self.host)
        if not others:
            return {"changed": False, "answered": rollout_record.answered(record, self.host)}
        return {"failed": True, "msg": f"{', '.join(others)}, which runs an engine with {self.host}, is not good."}

    def _verify(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Compare each instance with what it was before."""
        worse = {
            name: rollout.verdict(arguments["before"].get(name), measured, arguments["bounds"])
            for name, measured in arguments["after"].items()
        }
        learnt = {name: {"after": arguments["after"][name], "worse": found} for name, found in worse.items()}
        for name, before in arguments["before"].items():
            learnt.setdefault(name, {})["before"] = before
        done = self._step("verified", None, learnt)
        sentences = [f"{name}: {sentence}." for name, found in worse.items() for sentence in found]
        if sentences:
            return {"failed": True, "msg": "Changed, it is worse than before. " + " ".join(sentences)}
        return done

    def _conclude(self) -> dict[str, Any]:
        """End the record, and say how it ended, also where the file cannot be written."""
        now = rollout_file.now()
        hosts = list(self.variables.get("hostvars") or {})
        events = [event for host in hosts for event in self._unwritten(host)]
        told = f"The record is {self.path}."

        def ended(found: dict[str, Any]) -> dict[str, Any]:
            return rollout_record.conclude(rollout_record.told(found, events), now)

        try:
            record = rollout_file.changed(self.path, ended)
        except InputError as error:
            told = f"The record could not be ended: {error}"
            try:
                record = ended(rollout_file.read(self.path))
            except InputError:
                return {"failed": True, "msg": "\n".join([told, *rollout_record.lines(events)])}
        table = show.result(record)
        terminal.show(f"\n{table}\n" if table else "")
        failed = record["state"] != rollout_record.ENDED or not told.startswith("The record is")
        return {"changed": True, "msg": f"{rollout_record.sentence(record)}\n{told}", "failed": failed}
