# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of status_report, which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_report
short_description: Shows the status of a fleet and writes it
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Prints a table of the instances of all hosts, with what is wrong below it, from what M(gpufleet.vllm.status_info)
    registered on each host as C(status_info). A host that could not be asked is a line of it.
options:
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  report:
    description:
      - File on the control node that the status is written to as JSON. A relative path begins in the folder that the
        command was started in.
      - It has C(schema_version) and C(hosts), by host C(state) (V(reached), V(unreachable) or V(unknown)), C(problem),
        the reason or null, and C(instances) as M(gpufleet.vllm.status_info) returns them.
    type: str
attributes:
  action:
    description: All of it runs on the control node.
    support: full
  check_mode:
    description: Shows the table and writes nothing.
    support: full
  diff_mode:
    description: Shows no difference between files.
    support: none
  idempotent:
    description: A file that would not differ is left alone.
    support: full
"""

EXAMPLES = r"""
- name: Show the fleet
  gpufleet.vllm.status_report:
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
lost:
  description: Hosts that gave no answer.
  returned: success
  type: list
  elements: str
  sample: []
"""
