#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module instance_measure."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_measure
short_description: Measures real requests to a vLLM instance
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Sends a number of requests of the first kind that the model takes, one after the other, and gives how many failed,
    the time to the first token and the output tokens per second, as medians.
  - Two instances are compared by it, before and after a change. Both should be out of service then, and get the same
    number of requests.
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
  requests:
    description: How many requests are sent.
    type: int
    default: 16
  tokens:
    description: Length in tokens of the answers; an eighth of what the server offers limits it too.
    type: int
    default: 64
  request_timeout:
    description: Seconds to wait for the answer to one request.
    type: int
    default: 300
  idle_seconds:
    description:
      - Seconds to wait until the server has no request that runs or waits, before the first is sent. V(0) does not
        wait. Fails when it is not idle by then.
    type: int
    default: 0
attributes:
  check_mode:
    description: In check mode the task is skipped.
    support: none
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing on the host.
    support: full
"""

EXAMPLES = r"""
- name: Measure
  gpufleet.vllm.instance_measure:
    name: llama-70b
    port: 8000
"""

RETURN = r"""
measured:
  description: >-
    C(requests) that were sent, C(errors), a sentence for each that failed, and, as medians of those that were answered,
    C(first_token_seconds) (of a kind that is not streamed the time of the whole answer) and C(tokens_per_second), the
    tokens of a streamed answer by the time from the request to its end.
  returned: success
  type: dict
  sample: {"source": "requests", "requests": 16, "errors": [], "first_token_seconds": 0.05, "tokens_per_second": 71.2}
"""

import secrets
import statistics
import time
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, metrics, requests, warm

KEY = "VLLM_API_KEY"
METRICS_SECONDS = 30
# A server that fails this often in a row is not asked again.
MOST_ERRORS = 3


def server_of(params: dict[str, Any]) -> client.Server:
    """Return the server, with the key that its process has."""
    unit = f"vllm@{params['name']}.service"
    process = systemd.process_of(systemd.show([unit]).get(unit, {}))
    key = systemd.environment_of(int(str(process["pid"]))).get(KEY) if process else None
    return client.Server(client.probe_address(params["host"]), params["port"], params["request_timeout"], key)


def busy(server: client.Server) -> int:
    """Count the requests that a server has not finished; none where it does not tell (--disable-log-stats)."""
    try:
        status, text = replace(server, seconds=METRICS_SECONDS).request("/metrics")
    except client.NoAnswer:
        return 0
    load = metrics.load(metrics.parse(text)) if status == 200 and isinstance(text, str) else {}
    return int(load.get("running") or 0) + int(load.get("waiting") or 0)


def wait_until_idle(server: client.Server, seconds: int, name: str) -> None:
    """Wait until a server has nothing to do. Raises GpufleetError."""
    deadline = time.monotonic() + seconds
    while count := busy(server):
        if time.monotonic() >= deadline:
            raise GpufleetError(
                f"{name} still has {count} requests {seconds} s after it was taken out of service; a change would cut "
                "them. Raise rollout_drain_timeout, or look who asks it directly."
            )
        time.sleep(0.5)


def measure(server: client.Server, params: dict[str, Any]) -> dict[str, Any]:
    """Send the requests."""
    errors: list[str] = []
    answers: list[requests.Answer] = []
    name = params["name"]
    try:
        length = client.check_models(server, name, None)
        kind = requests.first_request(server, name, client.offered_paths(server)).kind
    except (client.NoAnswer, client.WrongAnswer) as error:
        return {"source": "requests", "requests": 1, "errors": [str(error)]}
    tokens = max(1, min(params["tokens"], int((length or 2048) * warm.ANSWER_SHARE)))
    # Begins with what no other has, or the prefix cache would answer for the model.
    mark = secrets.token_hex(4)
    for number in range(params["requests"]):
        try:
            answers.append(requests.ask(server, name, kind, f"{mark}{number}. {requests.PROMPT}", tokens))
        except (client.NoAnswer, client.WrongAnswer) as error:
            errors.append(str(error))
            if len(errors) >= MOST_ERRORS:
                break
    firsts = [one.seconds if one.first_token_seconds is None else one.first_token_seconds for one in answers]
    # By the whole answer: a client that is busy itself sees the pieces of a stream late and all at once.
    rates = [one.size / one.seconds for one in answers if one.first_token_seconds is not None and one.seconds]
    return {
        "source": "requests",
        "requests": len(answers) + len(errors),
        "errors": errors,
        "first_token_seconds": round(statistics.median(firsts), 4) if firsts else None,
        "tokens_per_second": round(statistics.median(rates), 2) if rates else None,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "required": True},
            "requests": {"type": "int", "default": 16},
            "tokens": {"type": "int", "default": 64},
            "request_timeout": {"type": "int", "default": 300},
            "idle_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=False,
    )
    try:
        server = server_of(module.params)
        if module.params["idle_seconds"]:
            wait_until_idle(server, module.params["idle_seconds"], module.params["name"])
        measured = measure(server, module.params)
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, measured=measured)


if __name__ == "__main__":
    main()
