# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of doctor_report, which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_report
short_description: Says what is wrong with a fleet, why, and what to do
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Judges what M(gpufleet.vllm.doctor_info) registered on each host as C(doctor_info), and prints it by host, the
    worst first, each with its evidence and its remedies. A host that could not be asked is a line of it.
  - Fails when something is broken, or a host gave no answer. Warnings do not fail it.
options:
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  report:
    description:
      - File on the control node that the verdicts are written to as JSON. A relative path begins in the folder that the
        command was started in.
      - It has C(schema_version), C(summary) and C(hosts), by host C(state) (V(reached), V(recorded), V(unreachable) or
        V(unknown)), C(problem), the reason or null, C(instances) and C(verdicts), each with C(id), C(severity)
        (V(fail), V(warn) or V(note)), C(instance), C(title), C(cause), C(evidence), C(remedies), C(sources) and
        C(help).
    type: str
attributes:
  action:
    description: All of it runs on the control node.
    support: full
  check_mode:
    description: Shows the report and writes nothing.
    support: full
  diff_mode:
    description: Shows no difference between files.
    support: none
  idempotent:
    description: A file that would not differ is left alone.
    support: full
seealso:
  - module: gpufleet.vllm.doctor_info
"""

EXAMPLES = r"""
- name: Say what is wrong
  gpufleet.vllm.doctor_report:
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
summary:
  description: Numbers of hosts and of verdicts by severity, and the hosts that gave no answer.
  returned: always
  type: dict
  sample: {"hosts": 2, "lost": [], "fail": 0, "warn": 1, "note": 0}
"""
