#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module warmup. The action plugin of the same name calls it again and again while an engine loads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: warmup
short_description: Waits until a vLLM instance has answered a real request
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Waits for the unit and for C(/health), checks the name and the length in C(/v1/models), then sends a chat request,
    or a completion or an embedding when the model offers no chat. Only an answer counts as ready.
  - While the engine loads, prints a line whenever its stage changes and at least every 15 seconds.
  - An engine that dies ends the wait at once; the message gives the reason and the last lines of its journal.
options:
  name:
    description: Name of the instance.
    type: str
    required: true
  host:
    description: Address that the server listens on.
    type: str
    default: 127.0.0.1
  port:
    description: Port that the server listens on.
    type: int
    required: true
  max_model_len:
    description: Length in tokens that the server must offer. Not checked when left out.
    type: int
  timeout:
    description: Seconds to wait for the engine to load.
    type: int
    default: 3600
  request_timeout:
    description: Seconds to wait for the answer to one request.
    type: int
    default: 300
  poll:
    description: Seconds that one call on the host waits before it reports how far the engine is.
    type: int
    default: 5
  restarts_before:
    description:
      - How often systemd had restarted the unit before the wait began. Left out, the first call finds it out;
        the action plugin carries it from one call to the next.
    type: int
attributes:
  check_mode:
    description: In check mode the task is skipped, since nothing was started that could answer.
    support: none
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing on the host.
    support: full
  action:
    description: The part on the control node prints how far the engine is.
    support: full
"""

EXAMPLES = r"""
- name: Wait until it answers
  gpufleet.vllm.warmup:
    name: llama-70b
    port: 8000
"""

RETURN = r"""
finished:
  description: Whether the instance answered. The action plugin asks again until it did.
  returned: always
  type: bool
  sample: true
stage:
  description: What the engine is doing.
  returned: always
  type: str
  sample: loading weights, 40 %
restarts:
  description: How often systemd has restarted the unit by itself.
  returned: always
  type: int
  sample: 0
waited_seconds:
  description: How long the instance took until it answered.
  returned: when finished
  type: float
  sample: 41.5
max_model_len:
  description: Length in tokens that the server offers.
  returned: when finished
  type: int
  sample: 32768
request:
  description: Kind of the request that was answered, its time in seconds, and the tokens or numbers of the answer.
  returned: when finished
  type: dict
  sample: {"kind": "chat", "seconds": 0.8, "tokens": 16}
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, journal

LINES_READ = 2000
LINES_SHOWN = 15
# A dead engine takes a moment until its unit ends (worker and engine shutdown time limits of vLLM 0.33).
SECONDS_TO_DIE = 20


class Failed(Exception):
    """The instance cannot be ready; the message says why."""


class Warmup:
    """One look, or a short wait, at one instance."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.unit = f"vllm@{self.name}.service"
        self.server = client.Server(
            client.probe_address(module.params["host"]),
            module.params["port"],
            module.params["request_timeout"],
        )
        self.restarts = 0
        self.restarts_before: int | None = module.params["restarts_before"]

    def journal(self) -> list[str]:
        """Return the lines of the unit's journal since it was last started by somebody else than systemd itself."""
        command = [
            "journalctl",
            "--unit",
            self.unit,
            "--lines",
            str(LINES_READ),
            "--output",
            "cat",
            "--no-pager",
            "--boot",
        ]
        lines = self.module.run_command(command)[1].splitlines()
        return journal.since_start(lines, self.name, self.restarts + 1)

    def state(self) -> dict[str, Any]:
        """Ask systemd, and remember how often the unit had restarted before the wait began."""
        properties = systemd.show([self.unit]).get(self.unit, {})
        if properties.get("LoadState") != "loaded":
            raise Failed(f"{self.unit} is not installed on this host; run the role gpufleet.vllm.serve first.")
        state = systemd.instance_state(properties)
        self.restarts = int(str(state["restarts"]))
        return state

    def died(self, state: dict[str, Any]) -> bool:
        """Tell whether the unit ended since the wait began."""
        if self.restarts_before is None:
            # One that answers may have restarted last month; one that does not has just died.
            self.restarts_before = state["restarts"] if client.healthy(self.server) else 0
        alive = state["active_state"] in ("active", "activating", "reloading") and state["sub_state"] != "auto-restart"
        return not alive or state["restarts"] > self.restarts_before

    def death(self, when: str) -> Failed:
        """Say how the engine died."""
        why = journal.reason(self.journal())
        return Failed(f"{self.unit} died {when}: {why or 'its journal gives no reason'}.")

    def check_alive(self, when: str) -> None:
        """Raise when the unit ended."""
        if self.died(self.state()):
            raise self.death(when)

    def wait_for_health(self) -> bool:
        """Wait for /health for the time of one call."""
        deadline = time.monotonic() + self.module.params["poll"]
        while True:
            self.check_alive("while starting")
            if client.healthy(self.server):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)

    def prove(self) -> dict[str, Any]:
        """Send the real requests."""
        try:
            length = client.check_models(self.server, self.name, self.module.params["max_model_len"])
            return {"max_model_len": length, "request": client.first_request(self.server, self.name)}
        except (client.NoAnswer, client.WrongAnswer) as error:
            deadline = time.monotonic() + SECONDS_TO_DIE
            while time.monotonic() < deadline:
                self.check_alive(f"on its first request, after /health had said that it was well ({error})")
                time.sleep(0.5)
            why = journal.reason(self.journal())
            told = f" Its journal says: {why}." if why else ""
            raise Failed(f"{self.unit} is healthy and does not serve: {error}.{told}") from error


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "required": True},
            "max_model_len": {"type": "int"},
            "timeout": {"type": "int", "default": 3600},
            "request_timeout": {"type": "int", "default": 300},
            "poll": {"type": "int", "default": 5},
            "restarts_before": {"type": "int"},
        },
        supports_check_mode=False,
    )
    warmup = Warmup(module)
    try:
        finished = warmup.wait_for_health()
        result = warmup.prove() if finished else {}
    except Failed as failure:
        lines = [
            f"Last lines of the journal of {warmup.unit}:",
            *journal.telling(warmup.journal(), LINES_SHOWN),
        ]
        module.fail_json(msg="\n".join([str(failure), *lines]))
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    stage = "answered" if finished else journal.stage(warmup.journal())
    module.exit_json(changed=False, finished=finished, stage=stage, restarts=warmup.restarts_before, **result)


if __name__ == "__main__":
    main()
