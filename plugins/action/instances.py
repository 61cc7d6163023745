# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Renders the files of all instances of a host, and lets the module instances write and run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible.utils.display import Display
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.systemd import DIGEST
from ansible_collections.gpufleet.vllm.plugins.modules.instances import ARGUMENTS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

ARGUMENT_SPEC: dict[str, dict[str, Any]] = ARGUMENTS

display = Display()


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, and call the module once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.vars = task_vars or {}
        given = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        unit = self.rendered(given["unit"], {})
        files = [
            self.files(given, {given["loop_var"]: one, given["unit_var"]: unit}, str(one["name"]))
            for one in given["instances"]
        ]
        arguments = {**self._task.args, "instances": [], "unit_text": unit, "files": files}
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=self.vars)
        if answer.get("started") or answer.get("restarted"):
            display.display(f"{self.vars.get('inventory_hostname', '?')}: {answer['msg']}")
        return {**result, **answer}

    def files(self, given: dict[str, Any], variables: dict[str, Any], name: str) -> dict[str, Any]:
        """Render what one instance has."""
        environment = self.rendered(given["environment"], variables)
        return {
            "name": name,
            "digest": digest_of(environment),
            "release": str(self.evaluated(given["release_var"], variables)),
            "settings": self.rendered(given["settings"], variables),
            "environment": environment,
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
