# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Calls the module warmup until the instance answered and is warm, and shows how far it is meanwhile."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import warm
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal

DEFAULT_TIMEOUT = 3600
DEFAULT_SECONDS = 300
SECONDS_BETWEEN_LINES = 15


class Broken(Exception):
    """A call of the module failed; the answer is what Ansible is told."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Wait until the instance answers, then go through the steps of the warm-up."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            why = "Check mode: nothing was started that could answer."
            return {**result, "skipped": True, "recorded": False, "msg": why}
        self.vars = task_vars or {}
        self.title = f"{self.vars.get('inventory_hostname', '?')}: vllm@{self._task.args.get('name')}"
        try:
            return self.prove(result)
        except Broken as broken:
            return {**result, **broken.answer}

    def prove(self, result: dict[str, Any]) -> dict[str, Any]:
        """Wait, and warm it up where it has a server."""
        answer = self.wait()
        if answer["request"] is None:
            words = f"rank {self._task.args.get('node_rank')} runs; the first of its hosts answers for it"
            terminal.show(f"{self.title}: {words}")
            proof = {"process": answer["process"], "warm": answer["warm"], "warmup": None}
            return {**result, **answer, "msg": words, "proof": proof}
        return {**result, **answer, **self.warm(answer)}

    def call(self, **more: Any) -> dict[str, Any]:
        """Call the module on the host. Raises Broken."""
        answer: dict[str, Any] = self._execute_module(module_args={**self._task.args, **more}, task_vars=self.vars)
        if answer.get("failed") or answer.get("unreachable"):
            raise Broken(answer)
        return answer

    def wait(self) -> dict[str, Any]:
        """Poll the host until the first request was answered; each poll is one short call of the module."""
        timeout = int(self._task.args.get("timeout") or DEFAULT_TIMEOUT)
        begin = time.monotonic()
        shown, shown_at = "", begin
        more: dict[str, Any] = {}
        while True:
            answer = self.call(**more)
            waited = time.monotonic() - begin
            if answer["finished"]:
                return {**answer, "waited_seconds": round(waited, 1)}
            if answer["stage"] != shown or time.monotonic() - shown_at >= SECONDS_BETWEEN_LINES:
                shown, shown_at = answer["stage"], time.monotonic()
                terminal.show(f"{self.title}: {shown} ({waited:.0f} s)")
            if waited >= timeout:
                raise Broken(
                    {
                        "failed": True,
                        "msg": f"{self.title.split(': ')[1]}.service did not answer within {timeout} s; it was at: "
                        f"{shown}. Raise warmup_timeout if the model needs longer.",
                    }
                )
            more = {"restarts_before": answer["restarts"]}

    def warm(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Take the steps that are left, for as long as there is time."""
        seconds = self._task.args.get("seconds")
        limit = float(DEFAULT_SECONDS if seconds is None else seconds)
        begin = time.monotonic()
        measured: list[dict[str, Any]] = []
        remarks = list(answer["remarks"])
        for number, step in enumerate(answer["steps"], start=1):
            waited = time.monotonic() - begin
            if waited >= limit:
                left = len(answer["steps"]) - number + 1
                remarks.append(f"the warm-up left out {left} of its steps after {waited:.0f} s (warmup_seconds)")
                break
            terminal.show(f"{self.title}: warming up, {number} of {len(answer['steps'])}: {step['words']}")
            measured.append(self.call(step=step, restarts_before=answer["restarts"])["measured"])
        warmed = {
            "kind": answer["request"]["kind"],
            "first_request_seconds": answer["request"]["seconds"],
            "seconds": round(time.monotonic() - begin, 1),
            "requests": 1 + sum(step.get("requests", 0) for step in measured),
            **warm.summary(measured),
            "remarks": remarks,
            "steps": measured,
        }
        words = warm.sentence(answer["warm"], warmed)
        terminal.show(f"{self.title}: {words}")
        return {
            "msg": words,
            "proof": {"process": answer["process"], "warm": answer["warm"], "warmup": warmed},
        }
