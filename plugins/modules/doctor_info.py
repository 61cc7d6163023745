#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module doctor_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_info
short_description: Gathers the evidence of a host that the doctor judges
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Looks at the GPUs as M(gpufleet.vllm.gpu_info) does, at the kernel's log, the disks, and at every instance of vLLM -
    its unit, journal, settings, receipt, model, server. Changes nothing.
  - M(gpufleet.vllm.doctor_report) judges it; the playbook C(gpufleet.vllm.doctor) does both.
  - Tokens, keys and passwords are taken out of what is returned.
options:
  timeout:
    description: Seconds that each step may take.
    type: float
    default: 20
  request:
    description: Whether to send one short request to each server that says that it is well.
    type: bool
    default: true
  recorded:
    description:
      - Folder that the playbook C(gpufleet.vllm.record) has written. It is read in place of the host, so the task is to
        be delegated to the machine that the folder is on.
    type: path
attributes:
  action:
    description: The clock of the host is compared on the control node.
    support: full
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - module: gpufleet.vllm.doctor_report
  - module: gpufleet.vllm.gpu_info
"""

EXAMPLES = r"""
- name: Gather the evidence
  gpufleet.vllm.doctor_info:
  register: doctor_info

- name: Gather it from a recording
  gpufleet.vllm.doctor_info:
    recorded: /srv/recordings/gpu01
  delegate_to: localhost
  register: doctor_info
"""

RETURN = r"""
evidence:
  description: What was found. What is not known is null.
  returned: success
  type: dict
  contains:
    schema_version:
      description: Raised when the meaning of a field changes.
      type: int
    source:
      description: V(live) or V(recorded).
      type: str
    now:
      description: Second of the epoch at which it was gathered.
      type: float
    gpu_facts:
      description: What M(gpufleet.vllm.gpu_info) returns.
      type: dict
    kernel:
      description: Last lines of the kernel's log.
      type: list
      elements: str
    fabric_manager:
      description: Last lines of the fabric manager's journal.
      type: list
      elements: str
    clock_synchronized:
      description: Whether systemd says that the clock is kept.
      type: bool
    clock_offset_seconds:
      description: By how much the clock is ahead of the control node's at least; negative where it is behind.
      type: float
    disks:
      description: File systems with C(total_mib) and C(free_mib).
      type: list
      elements: dict
    instances:
      description: The instances with their units, journals, settings, receipts, models and servers.
      type: list
      elements: dict
    late:
      description: Steps that got no answer in time.
      type: list
      elements: str
      sample: []
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import recorded
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import evidence, gathering


def gather(params: dict[str, Any]) -> dict[str, Any]:
    """Return the evidence that the options ask for. Raises GpufleetError."""
    if params["recorded"] is not None:
        return evidence.build(recorded.read_recording(params["recorded"]), "recorded")
    begin = time.time()
    found = evidence.build(gathering.outputs(params["timeout"], os.environ, params["request"]), "live")
    return {**found, "clock": [begin, time.time()]}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "float", "default": 20},
            "request": {"type": "bool", "default": True},
            "recorded": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg=f"timeout is {module.params['timeout']:g}: write seconds, more than 0.")
    try:
        module.exit_json(changed=False, evidence=gather(module.params))
    except GpufleetError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
