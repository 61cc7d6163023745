#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module warmup. The action plugin of the same name calls it again and again while an engine loads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: warmup
short_description: Waits until a vLLM instance has answered, and warms it up
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Waits for the unit and for C(/health), checks the name and the length in C(/v1/models), then sends a request of the
    first kind that the model takes (chat, completion, embedding, score, rerank, classification, pooling). Only an
    answer counts as ready, and only one whose probabilities or numbers are numbers.
  - Then sends what traffic will send. Every other kind that the server offers, several requests at once, a long prompt
    and prompts of several lengths together; and measures the time to the first token and the output tokens per second.
  - A process that its receipt says was warmed up gets one short request alone.
  - While the engine loads, prints a line whenever its stage changes and at least every 15 seconds, and one for each
    step of the warm-up.
  - An engine that dies ends the wait at once; the message gives the reason, what to do about it where the table of
    signatures knows it (docs/troubleshooting.md), and the last lines of its journal.
  - Of an engine over several hosts the first one answers. A host that still waits for another one 120 seconds after its
    unit was started is a failure that names the other.
  - Where the process has an API key in C(VLLM_API_KEY), the requests carry it; it does not leave the host.
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
  node_rank:
    description:
      - Place of this host among those of the engine. On all but the first no server is waited for; the unit has to run
        beside the others.
    type: int
    default: 0
  max_model_len:
    description: Length in tokens that the server must offer. Not checked when left out.
    type: int
  layout:
    description:
      - The layout of the instance. With it, C(recorded) tells whether M(gpufleet.vllm.receipt) has nothing left to do.
    type: dict
  tolerance:
    description: As for M(gpufleet.vllm.receipt).
    type: float
    default: 0.1
  timeout:
    description: Seconds to wait for the engine to load.
    type: int
    default: 3600
  request_timeout:
    description: Seconds to wait for the answer to one request.
    type: int
    default: 300
  concurrency:
    description: Requests that the warm-up sends at once.
    type: int
    default: 8
  prompt_tokens:
    description: Length in tokens of the longest prompt; three quarters of what the server offers limit it too.
    type: int
    default: 4096
  seconds:
    description: Seconds after which no further step of the warm-up is begun. V(0) sends the first request alone.
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
  step:
    description: One step of the warm-up, as a call without it returned them. For the action plugin.
    type: dict
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
    description: The part on the control node prints how far the engine is, and goes through the steps.
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
  description:
    - Kind of the request that was answered, its time in seconds, and the tokens or numbers of the answer. Null where
      another host of the engine answers.
  returned: when finished
  type: dict
  sample: {"kind": "chat", "seconds": 0.8, "tokens": 16}
recorded:
  description:
    - Whether the receipt already says all of this, warns of nothing, and is kept with the last good state.
  returned: when finished, and false in check mode
  type: bool
steps:
  description: The steps that are left. Of the action plugin, in C(proof), what each of them measured.
  returned: when finished
  type: list
  elements: dict
proof:
  description: What M(gpufleet.vllm.receipt) writes down. C(process), whether it was C(warm) before, C(warmup).
  returned: when all steps are done
  type: dict
"""

import time
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import compilers, systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    client,
    fault,
    garbage,
    journal,
    receipt,
    receipt_files,
    requests,
    warm,
)

LINES_READ = 3000
# A dead engine takes a moment until its unit ends (worker and engine shutdown time limits of vLLM 0.33).
SECONDS_TO_DIE = 20
KEY = "VLLM_API_KEY"
# All hosts of an engine have started their units by then; a unit that has ended is back after serve_restart_seconds.
SECONDS_TO_MEET = 120


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
        self.process: dict[str, Any] | None = None
        self.status = ""
        self.compiling: str | None = None

    def journal(self) -> list[str]:
        """Return the lines of the start that died last, since the unit was started by somebody else than systemd."""
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
        return fault.of_last_death(journal.starts(lines, self.name)[-1 - self.restarts :])

    def state(self) -> dict[str, Any]:
        """Ask systemd, and remember how often the unit had restarted before the wait began, and which process runs."""
        properties = systemd.show([self.unit]).get(self.unit, {})
        if properties.get("LoadState") != "loaded":
            raise Failed(f"{self.unit} is not installed on this host; run the role gpufleet.vllm.serve first.")
        state = systemd.instance_state(properties)
        self.restarts = int(str(state["restarts"]))
        self.process = systemd.process_of(properties)
        self.compiling = compilers.stage(systemd.pids_of(properties))
        self.status = str(state["status"] or "")
        if systemd.waits(state):
            self.check_patience()
        # vLLM takes it from there too (entrypoints/launchers/app.py); --api-key is refused by instance_problems
        key = systemd.environment_of(int(str(state["main_pid"]))).get(KEY) if state["main_pid"] else None
        self.server = replace(self.server, key=key)
        return state

    def check_patience(self) -> None:
        """Raise when other hosts of the engine have not come for too long."""
        waited = time.clock_gettime(time.CLOCK_MONOTONIC) - (self.process or {}).get("started", 0)
        if waited > SECONDS_TO_MEET:
            raise Failed(
                f"{self.unit} has been {self.status} for {waited:.0f} s. Look at {self.unit} and its journal there, "
                "and at what keeps the hosts from reaching each other."
            )

    def died(self, state: dict[str, Any]) -> bool:
        """Tell whether the unit ended since the wait began."""
        if self.restarts_before is None:
            # One that answers may have restarted last month; one that does not has just died.
            self.restarts_before = state["restarts"] if self.ready() else 0
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

    def ready(self) -> bool:
        """Tell whether /health says yes, or the rank runs where another host has the server."""
        if self.module.params["node_rank"]:
            return self.status.startswith("runs as rank")
        return client.healthy(self.server)

    def wait_for_health(self) -> bool:
        """Wait for /health for the time of one call."""
        deadline = time.monotonic() + self.module.params["poll"]
        while True:
            self.check_alive("while starting")
            if self.ready():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.5)

    def prove(self) -> dict[str, Any]:
        """Send the first request, and plan the others."""
        params = self.module.params
        if params["node_rank"]:
            return {"request": None, "process": self.process, **self.known(), "steps": []}
        try:
            length = client.check_models(self.server, self.name, params["max_model_len"])
            paths = client.offered_paths(self.server)
            answer = requests.first_request(self.server, self.name, paths)
        except (client.NoAnswer, client.WrongAnswer) as error:
            raise self.fault(error, "on its first request, after /health had said that it was well") from error
        known = self.known()
        remark = garbage.remark(answer.words)
        return {
            "max_model_len": length,
            "request": {"kind": answer.kind, "seconds": round(answer.seconds, 3), "tokens": answer.size},
            "process": self.process,
            **known,
            "remarks": [remark] if remark else [],
            "steps": []
            if known["warm"] or not params["seconds"]
            else warm.plan(answer.kind, paths, length, params["concurrency"], params["prompt_tokens"]),
        }

    def known(self) -> dict[str, bool]:
        """Tell whether the process was warmed up before, and whether all that is to be written down is."""
        layout = self.module.params["layout"]
        return {
            "warm": receipt.is_of(receipt_files.found(self.name), self.process),
            "recorded": bool(layout) and receipt_files.stands(layout, self.process, self.module.params["tolerance"]),
        }

    def step(self) -> dict[str, Any]:
        """Take one step of the warm-up."""
        self.check_alive("after its first request")
        wanted = self.module.params["step"]
        step = warm.Step(**{**wanted, "prompts": tuple(wanted["prompts"])})
        try:
            return warm.run(self.server, self.name, step)
        except (client.NoAnswer, client.WrongAnswer) as error:
            raise self.fault(error, f"while it was warmed up ({step.words})") from error

    def fault(self, error: Exception, when: str) -> Failed:
        """Say what became of a request, once the engine had time to die of it."""
        deadline = time.monotonic() + SECONDS_TO_DIE
        while time.monotonic() < deadline:
            self.check_alive(f"{when} ({error})")
            time.sleep(0.5)
        why = journal.reason(self.journal())
        told = f" Its journal says: {why}." if why else ""
        return Failed(f"{self.unit} is healthy and does not serve: {error}.{told}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "required": True},
            "node_rank": {"type": "int", "default": 0},
            "max_model_len": {"type": "int"},
            "layout": {"type": "dict"},
            "tolerance": {"type": "float", "default": 0.1},
            "timeout": {"type": "int", "default": 3600},
            "request_timeout": {"type": "int", "default": 300},
            "concurrency": {"type": "int", "default": 8},
            "prompt_tokens": {"type": "int", "default": 4096},
            "seconds": {"type": "int", "default": 300},
            "poll": {"type": "int", "default": 5},
            "restarts_before": {"type": "int"},
            "step": {"type": "dict"},
        },
        supports_check_mode=False,
    )
    warmup = Warmup(module)
    try:
        if module.params["step"]:
            module.exit_json(changed=False, measured=warmup.step())
        finished = warmup.wait_for_health()
        result = warmup.prove() if finished else {}
    except Failed as failure:
        known = {"port": str(module.params["port"]), "host": module.params["host"]}
        module.fail_json(msg=fault.message(str(failure), warmup.journal(), warmup.name, known))
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    if finished:
        stage = "answered"
    else:
        waits = warmup.status.startswith("waiting")
        stage = warmup.status if waits else warmup.compiling or journal.stage(warmup.journal())
    module.exit_json(changed=False, finished=finished, stage=stage, restarts=warmup.restarts_before, **result)


if __name__ == "__main__":
    main()
