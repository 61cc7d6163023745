# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes the steps of a roll-out into its record on the control node, and decides by it whether it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout, rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import rollout as show
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import rollout_file
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ASKS = ("goes_on", "to_back_out")
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "record": {"type": "path", "required": True},
    "step": {"type": "str", "choices": [*ASKS, *rollout_record.STEPS, "together", "concluded"], "required": True},
    "host": {"type": "str"},
    "failure": {"type": "dict"},
    "before": {"type": "dict", "default": {}},
    "after": {"type": "dict", "default": {}},
    "bounds": {"type": "dict", "default": {}},
}

display = Display()


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take one step, or answer one question."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        self.path = Path(arguments["record"])
        self.host = arguments["host"] or (task_vars or {}).get("inventory_hostname", "?")
        step = arguments["step"]
        try:
            if step in ASKS:
                answer = getattr(rollout_record, step)(rollout_file.read(self.path), self.host)
                return {**result, "changed": False, step: answer}
            if step == "concluded":
                return {**result, **self._conclude()}
            if step == "together":
                return {**result, **self._together()}
            if step == "verified":
                return {**result, **self._verify(plain(arguments))}
            learnt = {
                name: {when: plain(arguments[when])[name]} for when in ("before", "after") for name in arguments[when]
            }
            failure = arguments["failure"]
            self._step(step, rollout_record.reason_of(plain(failure)) if failure else None, learnt)
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": True}

    def _step(self, name: str, reason: str | None, learnt: dict[str, dict[str, Any]]) -> None:
        now = rollout_file.now()
        rollout_file.changed(
            self.path, lambda record: rollout_record.step(record, self.host, name, now, reason, learnt)
        )

    def _together(self) -> dict[str, Any]:
        """Fail where another host of an engine has failed: the engine is changed on all of them, or on none."""
        others = rollout_record.not_ready(rollout_file.read(self.path), self.host)
        if not others:
            return {"changed": False}
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
        self._step("verified", None, learnt)
        sentences = [f"{name}: {sentence}." for name, found in worse.items() for sentence in found]
        if sentences:
            return {"failed": True, "msg": "Changed, it is worse than before. " + " ".join(sentences)}
        return {"changed": True}

    def _conclude(self) -> dict[str, Any]:
        """End the record, and say how it ended."""
        now = rollout_file.now()
        record = rollout_file.changed(self.path, lambda found: rollout_record.conclude(found, now))
        table = show.result(record)
        display.display(f"\n{table}\n" if table else "")
        told = f"{rollout_record.sentence(record)}\nThe record is {self.path}."
        return {"changed": True, "msg": told, "failed": record["state"] != rollout_record.ENDED}
