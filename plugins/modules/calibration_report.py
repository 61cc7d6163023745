# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of calibration_report, which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: calibration_report
short_description: Makes corrections of the planner of the receipts of a fleet
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Compares what was predicted with what the engines reported, in the receipts that M(gpufleet.vllm.status_info)
    registered on each host as C(calibrate_info), and suggests corrections of the planner's measured numbers, of memory
    and of speed; each for a release of vLLM, a tensor parallel size and a compute capability, the median of its
    receipts.
  - Shows them, and by how much predictions are off without and with them. Nothing uses them before they are given to
    the playbooks as C(vllm_calibration).
options:
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  file:
    description:
      - File on the control node that they are written to as YAML, with the one variable C(vllm_calibration). A relative
        path begins in the folder that the command was started in.
    type: str
attributes:
  action:
    description: All of it runs on the control node.
    support: full
  check_mode:
    description: Shows the corrections and writes nothing.
    support: full
  diff_mode:
    description: Shows no difference between files.
    support: none
  idempotent:
    description: A file that would not differ is left alone.
    support: full
"""

EXAMPLES = r"""
- name: Suggest corrections
  gpufleet.vllm.calibration_report:
    hosts: "{{ ansible_play_hosts_all }}"
    file: calibration.yml
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
corrections:
  description: The corrections, with C(name), C(value) and what they hold for.
  returned: success
  type: list
  elements: dict
lost:
  description: Hosts whose receipts could not be read.
  returned: success
  type: list
  elements: str
  sample: []
"""
