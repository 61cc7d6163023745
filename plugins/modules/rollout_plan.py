# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of rollout_plan, which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_plan
short_description: Plans a roll-out, shows it, and begins its record
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Puts together what M(gpufleet.vllm.instance_compare) found on each host, divides the hosts where something changes
    into a canary and batches, and shows what will change where. For the role P(gpufleet.vllm.rollout#role).
  - Fails where a batch would take all replicas of a model that serve out of service at once, and where an engine over
    several hosts would change of which one is not among O(hosts).
options:
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  fleet:
    description: Names of all hosts that have instances, also of those that are not in the play (C(--limit)).
    type: list
    elements: str
    default: []
  kind:
    description: What is planned.
    type: str
    choices: [rollout, rollback]
    default: rollout
  only:
    description: Names of the instances that a person wants to go back. Fails where one of them cannot.
    type: list
    elements: str
    default: []
  canary:
    description: How many hosts are changed first, or their names.
    type: raw
    default: 1
  batch:
    description: How many hosts are changed at once after that, a number or a share such as V(25%).
    type: raw
    default: 25%
  settings:
    description: What bounds the roll-out; goes into the record.
    type: dict
    default: {}
  record:
    description: File on the control node. By default one with the time in its name, in the current folder.
    type: str
  begin:
    description: Whether the record is begun. Otherwise the plan is only shown.
    type: bool
    default: false
  shown:
    description:
      - The batches that were shown before. With O(begin), the plan is shown again where it has others now, such as by a
        token that was brought meanwhile.
    type: list
    elements: raw
attributes:
  action:
    description: All of it runs on the control node.
    support: full
  check_mode:
    description: Shows the plan and writes nothing.
    support: full
  diff_mode:
    description: The plan is the difference.
    support: none
  idempotent:
    description: Where nothing changes, nothing is written.
    support: full
"""

EXAMPLES = r"""
- name: Show what changes where
  gpufleet.vllm.rollout_plan:
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
record:
  description: The file of the record.
  returned: success
  type: str
batches:
  description: Names of the hosts that change, batch by batch, the canary first.
  returned: success
  type: list
  elements: list
  sample: [[gpu01], [gpu02, gpu03]]
drained:
  description: Hosts with instances that are as they should be and were left out of service by an earlier run.
  returned: success
  type: list
  elements: str
alone:
  description: Names of instances that one host alone has.
  returned: success
  type: list
  elements: str
together:
  description: By host that changes, those that change with it since they run an engine together, itself among them.
  returned: success
  type: dict
touched:
  description: By host that changes, the names of the instances that do, or that run an engine with one that does.
  returned: success
  type: dict
back:
  description: By host and instance that changes, the digests of the states to come back to, best first.
  returned: success
  type: dict
changes:
  description: Whether there is anything to do.
  returned: success
  type: bool
"""
