# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings a snapshot about through the module model_snapshot, and shows how far it is meanwhile."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import download as ends
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import progress
from ansible_collections.gpufleet.vllm.plugins.modules.model_snapshot import ARGUMENTS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import hub_answers, terminal

ARGUMENT_SPEC = ARGUMENTS
SECONDS_BETWEEN_LOOKS = 2
SECONDS_BETWEEN_LINES = 10
# Before the first attempt after one in vain, twice as long before each further one.
PAUSE_SECONDS = 5
# The most that huggingface_hub fetches without Xet (huggingface_hub 2.4, file_download.py, http_get).
PLAIN_BYTES = 50_000_000_000
# A file that is damaged on its way is fetched once more; then it is not chance.
ROUNDS = 2


class Stopped(Exception):
    """It cannot go on; ``answer`` is what Ansible is told."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer


def failed(message: str) -> Stopped:
    """Stop with a sentence."""
    return Stopped({"failed": True, "msg": message})


def ask_hub(model: str, revision: str, endpoint: str) -> dict[str, Any]:
    """Ask for the commit and the files of a model; a sentence as ``problem`` where that is not answered."""
    before = os.environ.get("HF_ENDPOINT")
    try:
        if endpoint:
            os.environ["HF_ENDPOINT"] = endpoint
        found = hub.read(model, revision)
    except InputError as error:
        return {"problem": str(error)}
    finally:
        os.environ.pop("HF_ENDPOINT", None)
        if before is not None:
            os.environ["HF_ENDPOINT"] = before
    return {"files": found["files"], "revision": found["revision"]}


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
        question = {key: str(self.arguments.get(key) or "") for key in ("model", "revision", "endpoint")}
        found = hub_answers.asked_once(question, lambda: ask_hub(**question), lambda answer: "problem" in answer)
        if "problem" in found:
            raise failed(found["problem"])
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
        terminal.show(f"{self.host}: {self.arguments['model']}: {words}")

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
        """Download what is missing; begin again, a few times, after what may pass. Raises Stopped."""
        begin, before, in_vain = time.monotonic(), seen, 0
        retries, timeout = self.number("retries"), self.number("timeout")
        while True:
            left = timeout - int(time.monotonic() - begin)
            found, lines = self.attempt(before, max(left, 1))
            if found is None:
                break
            now = self.call("observed")
            if not now["missing"]:
                break
            in_vain = 0 if now["missing_bytes"] < before["missing_bytes"] else in_vain + 1
            pause = PAUSE_SECONDS * 2 ** max(in_vain - 1, 0)
            if not found.later or in_vain > retries or left <= pause:
                raise failed(
                    f"{self.arguments['model']} could not be downloaded: {found.said}. Remedy: {found.remedy}."
                    + "".join(f"\n  {line}" for line in lines)
                )
            self.without_xet(now, lines, stalled=not lines)
            self.say(f"{found.said}; going on in {pause} s with what is not whole")
            time.sleep(pause)
            before = now
        seconds = time.monotonic() - begin
        self.say(f"downloaded {progress.size(seen['missing_bytes'])} in {progress.duration(seconds)}")

    def attempt(self, seen: dict[str, Any], timeout: int) -> tuple[ends.Cause | None, list[str]]:
        """Start the unit, or join one that runs, and wait; returns why it ended before all was there, and its words."""
        self.call("started", timeout=timeout)
        begin = shown = moved = time.monotonic()
        already, total = seen["total_bytes"] - seen["missing_bytes"], seen["total_bytes"]
        # the cache holds other commits too
        others = seen["present_bytes"] - already
        activity = None
        while True:
            answer = self.call("read")
            now = time.monotonic()
            if not answer["running"]:
                break
            if answer["activity"] != activity:
                activity, moved = answer["activity"], now
            elif now - moved >= self.number("stall_seconds"):
                self.call("stopped")
                return ends.stalled(self.number("stall_seconds"), self.xet()), []
            done = max(already, answer["present_bytes"] - others)
            if now - shown >= SECONDS_BETWEEN_LINES:
                shown = now
                self.say(progress.download_line(done, total, (done - already) / (now - begin)))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if answer["result"] == "success":
            return None, []
        lines = [line.strip() for line in answer["output"] if line.strip()][-8:]
        return ends.cause(answer["output"], answer["result"]), lines or ["(no word)"]

    def without_xet(self, seen: dict[str, Any], lines: list[str], stalled: bool) -> None:
        """Go on without Xet, which may be closed where the hub is open, after it stalled or failed."""
        largest = max(file["size"] for file in self.arguments["files"] if file["path"] in seen["missing"])
        if not self.xet() or largest > PLAIN_BYTES or not (stalled or re.search("(?i)xet", "\n".join(lines))):
            return
        self.arguments["xet"] = False
        self.warned.append(
            f"{self.arguments['model']}: the download did not get on with Xet and goes on without it. If it then does, "
            "set model_xet: false."
        )

    def number(self, name: str) -> int:
        """An option that is a number."""
        given = self.arguments.get(name)
        return int(ARGUMENTS[name]["default"] if given is None else given)

    def xet(self) -> bool:
        """Whether Xet is used."""
        return bool(boolean(self.arguments.get("xet", True)))

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
