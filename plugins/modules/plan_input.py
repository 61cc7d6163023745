# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of plan_input, all of which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_input
short_description: Checks what the inventory says for a plan
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Reads the variables C(vllm_models), C(gpu_profile), C(gpu_recording), C(engine_version) and
    C(vllm_network_interface) of many hosts at once, and fails with a sentence for each fault, naming hosts and field.
  - Says which hosts are neither described nor recorded, so that they have to be asked.
options:
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
attributes:
  action:
    description: All of it runs on the control node.
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
  - module: gpufleet.vllm.plan_report
"""

EXAMPLES = r"""
- name: Check the inventory
  gpufleet.vllm.plan_input:
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
live:
  description: Hosts that have to be asked.
  returned: success
  type: list
  elements: str
  sample: [gpu01.example.com]
paths:
  description: For each of them, the paths of models that have to be read on it.
  returned: success
  type: dict
  sample: {"gpu01.example.com": ["/srv/models/llama-70b"]}
"""
