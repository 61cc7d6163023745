#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module status_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Reads how the vLLM instances of a host are doing
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Looks at every instance that has settings in C(/etc/vllm) or a receipt, at its unit, its server and its receipt.
    Changes nothing, and sends no request that the model computes.
options:
  timeout:
    description: Seconds to wait for the server of an instance.
    type: int
    default: 5
  receipts:
    description: Whether to return the receipts themselves, and not to ask the servers.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at the instances
  gpufleet.vllm.status_info:
  register: status
"""

RETURN = r"""
receipts:
  description: The receipts of the host.
  returned: with O(receipts)
  type: list
  elements: dict
instances:
  description: The instances by name. What is not known is null.
  returned: without O(receipts)
  type: list
  elements: dict
  contains:
    name:
      description: Name of the instance.
      type: str
    unit:
      description: Name of its unit.
      type: str
    model:
      description: What it serves.
      type: str
    state:
      description: >-
        V(serving), V(loading) (its unit runs and C(/health) does not say 200), V(waiting) (for the other hosts of its
        engine), V(restarting), V(failed) or V(stopped).
      type: str
    restarts:
      description: How often systemd has restarted it by itself.
      type: int
    uptime_seconds:
      description: Age of the process in seconds.
      type: int
    port:
      description: Port that it listens on.
      type: int
    release:
      description: Engine release that the process runs from.
      type: str
      sample: 0.33.0-cuda
    layout:
      description: Parallel sizes, kind of accelerator, devices and the place among the hosts, from the receipt.
      type: dict
    running:
      description: Requests that are computed.
      type: int
    waiting:
      description: Requests that wait.
      type: int
    kv_cache_usage:
      description: Share of the KV cache that is in use, from 0 to 1.
      type: float
    comparison:
      description: What was predicted and what the engine reported, from the receipt.
      type: list
      elements: dict
    warm:
      description: Whether the receipt is of the process that runs.
      type: bool
    warmed_at:
      description: When the receipt was written.
      type: str
    first_token_seconds:
      description: Time to the first token when it was warmed up.
      type: float
    tokens_per_second:
      description: Output tokens per second of one request when it was warmed up.
      type: float
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    client,
    instances,
    metrics,
    receipt,
    receipt_files,
    status,
)


def told(written: dict[str, str], process: dict[str, Any] | None, timeout: int) -> dict[str, Any]:
    """Ask the server of an instance."""
    found: dict[str, Any] = {"now": time.clock_gettime(time.CLOCK_MONOTONIC), "healthy": False}
    if process is None:
        return found
    family = systemd.family(int(process["pid"]))
    release = receipt.release_of_any(text_of(Path(f"/proc/{one}/maps")) or "" for one in family)
    found["release"] = Path(release).name if release else None
    port = good_states.number(written.get("port"), status.DEFAULT_PORT)
    server = client.Server(client.probe_address(written.get("host", "127.0.0.1")), port, timeout)
    # The other hosts of an engine over several have no server.
    if written.get("headless") == "true":
        return {**found, "healthy": True}
    try:
        healthy = client.healthy(server)
        answer = server.request("/metrics") if healthy else (0, "")
    except client.NoAnswer:
        return found
    text = answer[1] if answer[0] == 200 and isinstance(answer[1], str) else ""
    return {**found, "healthy": healthy, **metrics.load(metrics.parse(text))}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"timeout": {"type": "int", "default": 5}, "receipts": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    if module.params["receipts"]:
        read = [receipt.read(text_of(path)) for path in sorted(Path(receipt.FOLDER).glob("[!.]*.json"))]
        module.exit_json(changed=False, receipts=[one for one in read if one])
    found = []
    try:
        wanted = instances.names()
        units = systemd.show([f"vllm@{name}.service" for name in wanted]) if wanted else {}
    except GpufleetError as error:
        module.fail_json(msg=str(error))
    for name in wanted:
        properties = units.get(f"vllm@{name}.service", {})
        written = status.settings(text_of(instances.SETTINGS / f"{name}.yaml") or "")
        process = systemd.process_of(properties)
        found.append(
            status.instance(
                name,
                written,
                systemd.instance_state(properties),
                process,
                told(written, process, module.params["timeout"]),
                receipt_files.found(name),
            )
        )
    module.exit_json(changed=False, instances=found)


if __name__ == "__main__":
    main()
