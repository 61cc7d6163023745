# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copies the folder of a model when the host has not just these files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import places
from ansible_collections.gpufleet.vllm.plugins.modules.model_copy import ARGUMENTS

ARGUMENT_SPEC: dict[str, dict[str, Any]] = ARGUMENTS


class Broken(Exception):
    """A part failed; the answer is what Ansible is told."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


def below(trees: Mapping[str, Mapping[str, Any]], folder: str) -> dict[str, Any] | None:
    """The files of a folder, out of the trees of folders that it may be in; None when it is in none of them."""
    for root, tree in trees.items():
        if PurePosixPath(folder).is_relative_to(root):
            begin = PurePosixPath(folder).relative_to(root)
            names = {name: PurePosixPath(name) for name in tree}
            return {
                str(path.relative_to(begin)): tree[name] for name, path in names.items() if path.is_relative_to(begin)
            }
    return None


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare sizes and times, and copy what differs."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.vars = task_vars or {}
        arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)[1]
        wanted = places.tree(Path(arguments["source"]))
        try:
            seen = below(arguments["seen"] or {}, arguments["folder"])
            if seen is None:
                seen = self.call()["tree"]
            differing = [name for name, told in wanted.items() if list(seen.get(name) or ()) != told]
            changed = self.copy(arguments) if differing else False
            if differing and not self._task.check_mode:
                self.call(times={name: wanted[name][1] for name in wanted})
        except Broken as broken:
            return {**result, **broken.answer}
        return {**result, "changed": changed, "files": differing}

    def call(self, **more: Any) -> dict[str, Any]:
        """Call the module on the host. Raises Broken."""
        arguments = {key: self._task.args[key] for key in ("source", "folder")}
        return self._checked(self._execute_module(module_args={**arguments, **more}, task_vars=self.vars))

    def copy(self, arguments: dict[str, Any]) -> bool:
        """Let Ansible's own modules make the folder and copy; returns whether they changed anything."""
        claimed = self.call(claimed=True)
        folder = self._checked(
            self._execute_module(
                module_name="ansible.builtin.file",
                module_args={"path": arguments["folder"], "state": "directory", "mode": "0755"},
                task_vars=self.vars,
            )
        )
        task = self._task.copy()
        task.args = {
            "src": arguments["source"].rstrip("/") + "/",
            "dest": arguments["folder"].rstrip("/") + "/",
            "mode": "0644",
            "directory_mode": "0755",
        }
        # The files are too large for a diff.
        task.diff = False
        action = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        copied = self._checked(action.run(task_vars=self.vars))
        return any(answer.get("changed") for answer in (claimed, folder, copied))

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if answer.get("failed") or answer.get("unreachable"):
            raise Broken(answer)
        return answer
