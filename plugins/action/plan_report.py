# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plans a fleet on the control node, shows the plan and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import names, page, report, table
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files, plan_input, plan_models, terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "report": {"type": "str"},
    "page": {"type": "str"},
    "fail_on_rejected": {"type": "bool", "default": False},
}
# What the tasks of the playbook registered on the hosts that were asked.
GPU_RESULT = "plan_gpu"
MODEL_RESULT = "plan_models"
WRITERS = {"report": report.to_json, "page": page.page}


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True  # the hub is asked by a module on the control node

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan all hosts at once, in the one process of a run_once task."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._variables: dict[str, Any] = task_vars or {}
        self._unread: dict[str, str] = {}
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        try:
            targets = {name: files.target(arguments[name], f"plan_{name}") for name in WRITERS}
            asked = plan_input.read(self._variables["hostvars"], arguments["hosts"])
            found = report.build(plan.plan_hosts(self._inputs(asked)))
            terminal.show("\n" + table.table(found) + "\n")
            written = [self._write(path, WRITERS[name](found)) for name, path in targets.items() if path]
        except InputError as error:
            return {**result, "failed": True, "msg": str(error)}
        refused = report.rejected(found)
        result.update(changed=any(written), hosts=len(asked), rejected=len(refused), unread=sorted(self._unread))
        return {**result, **self._verdict(refused, arguments["fail_on_rejected"])}

    def _inputs(self, asked: Mapping[str, plan_input.Asked]) -> dict[str, dict[str, Any]]:
        models = plan_models.Models(self._ask_hub)
        inputs = {}
        for host, one in asked.items():
            gpu_facts = one.gpu_facts if one.gpu_facts is not None else self._live_facts(host)
            on_host = self._live_models(host) if one.live else None
            inputs[host] = {
                "gpu_facts": gpu_facts,
                "models": one.models,
                "model_facts": {entry["name"]: models.facts(entry, on_host, one.hf_token) for entry in one.models},
                "engine_version": one.engine_version,
                "network_interface": one.network_interface,
                "model_root": one.model_root,
                "calibration": one.calibration,
            }
        return inputs

    def _live_facts(self, host: str) -> dict[str, Any]:
        """What the host told; of one that told nothing, facts that say so."""
        told = self._registered(host, GPU_RESULT)
        if "gpu_facts" in told:
            found: dict[str, Any] = told["gpu_facts"]
            return found
        reason = _reason(told)
        self._unread[host] = reason
        state = "unreachable" if told.get("unreachable") else "unreadable"
        return {**facts.build_facts({}), "state": state, "message": f"The host could not be read: {reason}"}

    def _live_models(self, host: str) -> dict[str, dict[str, Any]]:
        answers = self._registered(host, MODEL_RESULT).get("results") or []
        return {one["item"]: one["model_facts"] for one in answers if "model_facts" in one}

    def _registered(self, host: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = plain(self._variables["hostvars"][host].get(name) or {})
        return found

    def _ask_hub(self, name: str, revision: str, hf_token: str) -> dict[str, Any]:
        answer = self._execute_module(
            module_name="gpufleet.vllm.model_info",
            module_args={"model": name, "revision": revision, "required": False, "token": hf_token},
            task_vars=self._variables,
        )
        found: dict[str, Any] = answer.get("model_facts") or {"problem": f"{name}: {answer.get('msg')}"}
        return found

    def _write(self, path: Path, text: str) -> bool:
        """Write a file where it differs, and say so; in check mode say so only."""
        differs = files.differs(path, text)
        if differs and not self._task.check_mode:
            files.write(path, text)
        done = "is as it was" if not differs else "would be written" if self._task.check_mode else "written"
        terminal.show(f"{path}: {done}")
        return differs

    def _verdict(self, refused: list[tuple[str, str]], fail_on_rejected: bool) -> dict[str, Any]:
        """A plan with refusals is a result; one that lacks hosts is not."""
        if self._unread:
            said = "\n".join(f"{host}: {reason}" for host, reason in self._unread.items())
            return {"failed": True, "msg": f"{names.fold(self._unread)} could not be read:\n{said}"}
        if refused and fail_on_rejected:
            said = ", ".join(sorted({f"{name} on {host}" for host, name in refused})[:20])
            return {"failed": True, "msg": f"{len(refused)} instance(s) refused: {said}"}
        return {}


def _reason(told: Mapping[str, Any]) -> str:
    """Why a host told nothing, in one line: Ansible's message, and the end of what the host itself printed."""
    said = [told.get("msg") or "it was not asked", *str(told.get("module_stderr") or "").strip().splitlines()[-1:]]
    return " ".join(" ".join(str(line).split()) for line in said)
