# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings a snapshot about through the module model_snapshot, and shows how far it is meanwhile."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import download
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import progress
from ansible_collections.gpufleet.vllm.plugins.modules.model_snapshot import ARGUMENTS

ARGUMENT_SPEC = ARGUMENTS
SECONDS_BETWEEN_LOOKS = 2
SECONDS_BETWEEN_LINES = 10
# A file that is damaged on its way is fetched once more; then it is not chance.
ROUNDS = 2

display = Display()


class Stopped(Exception):
    """It cannot go on; ``answer`` is what Ansible is told."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


def failed(message: str) -> Stopped:
    """Stop with a sentence."""
    return Stopped({"failed": True, "msg": message})


class ActionModule(ActionBase):
    """Ansible's entry."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, download, compare, and again what was damaged."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.vars = task_vars or {}
        self.host = self.vars.get("inventory_hostname", "?")
        self.arguments = dict(self._task.args)
        self.warned: list[str] = []
        try:
            self.know_files()
            if self.arguments.get("state", "present") != "present":
                return {**result, **self.call(self.arguments["state"])}
            return {**result, **self.present(), "warnings": self.warned}
        except Stopped as stopped:
            return {**result, **stopped.answer}

    def know_files(self) -> None:
        """Ask the hub for the files where the caller has not."""
        if self.arguments.get("files"):
            return
        before = os.environ.get("HF_ENDPOINT")
        try:
            if self.arguments.get("endpoint"):
                os.environ["HF_ENDPOINT"] = str(self.arguments["endpoint"])
            found = hub.read(str(self.arguments["model"]), str(self.arguments["revision"]))
        except InputError as error:
            raise failed(str(error)) from error
        finally:
            os.environ.pop("HF_ENDPOINT", None)
            if before is not None:
                os.environ["HF_ENDPOINT"] = before
        self.arguments.update(files=found["files"], revision=found["revision"])

    def call(self, state: str, **more: Any) -> dict[str, Any]:
        """Call the module on the host."""
        arguments = {**self.arguments, **more, "state": state}
        answer: dict[str, Any] = self._execute_module(
            module_name="gpufleet.vllm.model_snapshot", module_args=arguments, task_vars=self.vars
        )
        if answer.get("failed") or answer.get("unreachable"):
            raise Stopped(answer)
        return answer

    def say(self, words: str) -> None:
        """Show a line."""
        display.display(f"{self.host}: {self.arguments['model']}: {words}")

    def present(self) -> dict[str, Any]:
        """Bring the snapshot about."""
        seen = self.call("observed")
        told = {"total_bytes": seen["total_bytes"], "downloaded_bytes": seen["missing_bytes"], "wrong": []}
        if not seen["missing"] and not seen["unverified"]:
            return {**told, "changed": False}
        if self._task.check_mode:
            what = progress.size(seen["missing_bytes"])
            verb = (
                "would be downloaded" if seen["missing"] else "is there, and would be compared with the hub's digests"
            )
            self.say(f"{what} {verb}")
            return {**told, "changed": bool(seen["missing"])}
        changed = bool(seen["missing"])
        wrong: list[str] = []
        for number in range(ROUNDS):
            if seen["missing"]:
                self.download(seen)
                seen = self.call("observed")
                if seen["missing"]:
                    raise failed(
                        f"{self.arguments['model']}: {', '.join(seen['missing'][:5])} are missing after the download."
                    )
            # after the first round only what was fetched again is open
            wrong = self.verify(seen["unverified"])
            if not wrong:
                return {**told, "changed": changed}
            changed = True
            names = ", ".join(wrong)
            if number + 1 < ROUNDS:
                self.warned.append(
                    f"{self.arguments['model']}: {names} did not have the digest that the hub states, and was "
                    "downloaded again."
                )
            self.call("dropped", names=wrong)
            seen = self.call("observed")
        raise failed(
            f"{self.arguments['model']}: {', '.join(wrong)} does not have the digest that the hub states, twice. Look "
            "for what changes it on its way (a proxy, a mirror), and for errors of the disk in the kernel's log. It is "
            "not kept."
        )

    def download(self, seen: dict[str, Any]) -> None:
        """Start the unit, or join one that runs, and wait."""
        self.call("started")
        begin = shown = time.monotonic()
        already, total = seen["total_bytes"] - seen["missing_bytes"], seen["total_bytes"]
        # the cache holds other commits too
        others = seen["present_bytes"] - already
        while True:
            answer = self.call("read")
            now = time.monotonic()
            done = max(already, answer["present_bytes"] - others)
            if not answer["running"]:
                break
            if now - shown >= SECONDS_BETWEEN_LINES:
                shown = now
                self.say(progress.download_line(done, total, (done - already) / (now - begin)))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if answer["result"] != "success":
            lines = [line.strip() for line in answer["output"] if line.strip()][-8:]
            said, remedy = download.cause(answer["output"], answer["result"])
            raise failed(
                f"{self.arguments['model']} could not be downloaded: {said}. Remedy: {remedy}.\n"
                + "\n".join(f"  {line}" for line in lines)
            )
        seconds = time.monotonic() - begin
        self.say(f"downloaded {progress.size(seen['missing_bytes'])} in {progress.duration(seconds)}")

    def verify(self, names: list[str]) -> list[str]:
        """Compare files with their digests; returns those that differ."""
        left, wrong = list(names), []
        while left:
            answer = self.call("verified", names=left)
            wrong += answer["wrong"]
            left = [name for name in left if name not in set(answer["done"])]
            if left:
                self.say(f"compared with the hub's digests, {len(left)} files left")
        return wrong
