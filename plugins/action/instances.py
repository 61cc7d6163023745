# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Renders the files of all instances of a host, and lets the module instances write and run them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.systemd import DIGEST
from ansible_collections.gpufleet.vllm.plugins.modules.instances import ARGUMENTS, TEMPLATE
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = ARGUMENTS

DEFAULT_TIMEOUT = 3600
SECONDS_BETWEEN_LINES = 15


class Broken(Exception):
    """A call of a module failed; the answer is what Ansible is told."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, and call the module once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.vars = task_vars or {}
        self.host = self.vars.get("inventory_hostname", "?")
        given = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        units = {TEMPLATE: given["unit"], **given["units"]}
        texts = {name: self.rendered(template, {}) for name, template in units.items()}
        files = [self.files(given, {given["loop_var"]: one}, one) for one in given["instances"]]
        arguments = {**self._task.args, "instances": [], "unit_texts": texts, "files": files}
        try:
            return {**result, **self.run_all(arguments, {str(one["name"]): one for one in given["instances"]})}
        except Broken as broken:
            return {**result, **broken.answer}

    def run_all(self, arguments: dict[str, Any], layouts: dict[str, Any]) -> dict[str, Any]:
        """Call the module until every instance is started, and wait in between for those that have to answer first."""
        told: dict[str, Any] = {}
        while True:
            answer = self.call("gpufleet.vllm.instances", arguments)
            if answer["started"] or answer["restarted"]:
                terminal.show(f"{self.host}: {answer['msg']}")
            for key in ("written", "started", "restarted", "diff"):
                answer[key] = [*told.get(key, []), *(answer.get(key) or [])]
            told = {**answer, "changed": answer["changed"] or told.get("changed", False)}
            if not answer["waiting"]:
                return told
            for name in sorted(set(answer["waiting"].values())):
                self.wait(layouts[name], int(arguments.get("start_timeout") or DEFAULT_TIMEOUT))

    def wait(self, layout: dict[str, Any], timeout: int) -> None:
        """Wait until an instance has answered a request. Raises Broken."""
        name, begin, shown = str(layout["name"]), time.monotonic(), 0.0
        wanted = {"name": name, "host": layout["host"], "port": layout["port"], "seconds": 0}
        while True:
            answer = self.call("gpufleet.vllm.warmup", wanted)
            waited = time.monotonic() - begin
            if answer["finished"]:
                return
            if waited >= timeout:
                raise Broken(
                    {
                        "failed": True,
                        "msg": f"vllm@{name}.service did not answer within {timeout} s, so those that share its GPUs "
                        "were not started. Raise serve_start_timeout if the model needs longer.",
                    }
                )
            if waited - shown >= SECONDS_BETWEEN_LINES:
                shown = waited
                terminal.show(f"{self.host}: others wait for vllm@{name}: {answer['stage']} ({waited:.0f} s)")
            wanted["restarts_before"] = answer["restarts"]

    def call(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a module on the host. Raises Broken."""
        answer: dict[str, Any] = self._execute_module(module_name=module, module_args=arguments, task_vars=self.vars)
        if answer.get("failed") or answer.get("unreachable"):
            raise Broken(answer)
        return answer

    def files(self, given: dict[str, Any], variables: dict[str, Any], layout: Any) -> dict[str, Any]:
        """Render what one instance has."""
        environment = self.rendered(given["environment"], variables)
        return {
            "name": str(layout["name"]),
            "digest": digest_of(environment),
            "release": str(self.evaluated(given["release_var"], variables)),
            "settings": self.rendered(given["settings"], variables),
            "environment": environment,
            "host": str(layout["host"]),
            "port": int(layout["port"]),
            "start_after": [str(name) for name in layout.get("start_after") or ()],
            "drop_ins": {key: self.rendered(text, variables) or None for key, text in given["drop_ins"].items()},
        }

    def evaluated(self, name: str, variables: dict[str, Any]) -> Any:
        """The value of a variable, as one instance sees it."""
        templar = self._templar.copy_with_new_env(available_variables={**self.vars, **variables})
        return templar.template(trust_as_template(f"{{{{ {name} }}}}"))

    def rendered(self, name: str, variables: dict[str, Any]) -> str:
        """The text of a template of the role, as ansible.builtin.template renders it."""
        source = self._find_needle("templates", name)
        text = trust_as_template(self._loader.get_text_file_contents(source))
        templar = self._templar.copy_with_new_env(
            searchpath=[str(Path(source).parent)], available_variables={**self.vars, **variables}
        )
        found = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})
        return "" if found is None else str(plain(found))


def digest_of(environment: str) -> str:
    """The digest that an environment file holds."""
    lines = (line.partition("=") for line in environment.splitlines())
    return next(value for key, _equals, value in lines if key == DIGEST)
