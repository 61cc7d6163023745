# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Waits for an all-reduce that the module nccl_check has started, judges it, and narrows a fault down."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    collective_events,
    collective_probes,
    collective_report,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

SECONDS_BETWEEN_LOOKS = 1
SECONDS_BETWEEN_LINES = 10
# Beyond the limit of the check itself.
GRACE_SECONDS = 30
SCHEMA_VERSION = 1


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
        """Pass the short states on; wait for the long one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.vars = task_vars or {}
        self.host = self.vars.get("inventory_hostname", "?")
        arguments = dict(self._task.args)
        if arguments.get("state") != "finished" or self._task.check_mode:
            return {**result, **self._execute_module(module_args=arguments, task_vars=self.vars)}
        self.check = plain(arguments["check"])
        try:
            return {**result, **self.finish()}
        except Broken as broken:
            return {**result, **broken.answer}

    def call(self, state: str, **more: Any) -> dict[str, Any]:
        """Call the module on the host. Raises Broken."""
        arguments = {**self._task.args, "check": self.check, "state": state, **more}
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=self.vars)
        if answer.get("failed") or answer.get("unreachable"):
            raise Broken(answer)
        return answer

    def wait(self, words: str) -> collective_report.Outcome:
        """Look until the unit has ended."""
        begin, shown, shown_at = time.monotonic(), "", 0.0
        limit = self.check["job"]["seconds"] + GRACE_SECONDS
        while True:
            answer = self.call("read")
            events = collective_events.parse(answer["events"])
            waited = time.monotonic() - begin
            stage = collective_events.stage(events)
            if waited - shown_at >= SECONDS_BETWEEN_LINES or (stage != shown and waited - shown_at >= 1):
                shown, shown_at = stage, waited
                terminal.show(f"{self.host}: {self.check['name']}: {words}: {stage} ({waited:.0f} s)")
            if not answer["running"] or waited >= limit:
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return collective_report.Outcome(
            job=self.check["job"],
            place=self.check["place"],
            events=events,
            errors=answer["errors"],
            result=answer["result"],
            expected_gb_s=self.check["expected_gb_s"],
            expected_reason=self.check["expected_reason"],
            surroundings=self.check["surroundings"],
            warn_below=float(self._task.args.get("warn_below", 0.75)),
            fail_below=float(self._task.args.get("fail_below", 0.4)),
            busy=self.check["busy"],
        )

    def finish(self) -> dict[str, Any]:
        """Wait, judge, narrow down, write down."""
        outcome = self.wait("all-reduce")
        search = collective_probes.Search(outcome, collective_report.findings(outcome))
        while probe := search.next():
            self.check["job"] = dict(probe.job)
            self.call("started")
            search.done.append(collective_probes.tried(probe, self.wait(probe.words)))
        self.check["job"] = outcome.job
        found = search.concluded()
        measured = collective_report.measured(outcome)
        severities = {one["severity"] for one in found}
        state = "fail" if "fail" in severities else "warn" if "warn" in severities else "ok"
        record = {
            "schema_version": SCHEMA_VERSION,
            "key": self.check["key"],
            "release": self.check["job"]["release"],
            "state": state,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "measured": measured,
            "findings": found,
        }
        self.call("recorded", record=record)
        told = {"changed": True, "measured": measured, "findings": found}
        sentences = [f"{self.check['name']}: {collective_report.sentence(one)}" for one in found]
        if state == "fail":
            return {**told, "failed": True, "msg": "\n".join(sentences)}
        summary = collective_report.summary(measured) if measured else "done; the first host has the figures"
        terminal.show(f"{self.host}: {self.check['name']}: all-reduce: {summary}")
        return {**told, "msg": summary, "warnings": sentences}
