# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter collective_jobs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: collective_jobs
short_description: Decides which all-reduces a host takes part in
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - An all-reduce for each instance of several ranks that was not measured since its GPUs, driver, hosts or release
    changed, over exactly its GPUs and hosts, with the bus bandwidth that its links should reach.
options:
  _input:
    description: The layouts of the instances, from P(gpufleet.vllm.parallel_layout#filter).
    type: list
    elements: dict
    required: true
  host:
    description: Name of the host, as the layouts have it.
    type: str
    required: true
  seen:
    description:
      - What M(gpufleet.vllm.nccl_check) with O(gpufleet.vllm.nccl_check#module:state=observed) returned, by host.
    type: dict
    required: true
  gpu_facts:
    description: What M(gpufleet.vllm.gpu_info) returned for the host.
    type: dict
    required: true
  when:
    description: >-
      V(new) measures what was not measured for these GPUs, driver, hosts and release, or failed the last time;
      V(always) everything, V(never) nothing.
    type: str
    choices: [new, always, never]
    default: new
  seconds:
    description: Time limit of one check.
    type: int
    default: 120
  port:
    description: TCP port on the first host at which the ranks meet. The next one is used too.
    type: int
    default: 29400
  warn_below:
    description: Share of the expected bandwidth below which it warns, and looks for the weak link.
    type: float
    default: 0.75
  fail_below:
    description: Share of the expected bandwidth below which it fails.
    type: float
    default: 0.4
  expected_gb_s:
    description: >-
      Bus bandwidth in 10**9 bytes per second that the links should reach; V(0.0) takes what the tables say.
    type: float
    default: 0.0
"""

EXAMPLES = r"""
- name: Show what would be measured
  ansible.builtin.debug:
    msg: "{{ found.jobs | map(attribute='name') | list }}"
  vars:
    found: >-
      {{ layout_instances | gpufleet.vllm.collective_jobs(host=inventory_hostname, seen=seen,
         gpu_facts=layout_gpu_facts) }}
"""

RETURN = r"""
_value:
  description:
    - C(jobs), for M(gpufleet.vllm.nccl_check), and C(problems), a sentence for each thing that stands in the way.
  type: dict
  sample: {jobs: [], problems: []}
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import collective_jobs as decided
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collective_check import Wishes
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def collective_jobs(
    instances: Any,
    host: str,
    seen: Any,
    gpu_facts: Any,
    when: str = "new",
    seconds: int = 120,
    port: int = 29400,
    warn_below: float = 0.75,
    fail_below: float = 0.4,
    expected_gb_s: float = 0.0,
) -> dict[str, Any]:
    """Decide what is measured."""
    if when not in decided.CHOICES:
        raise AnsibleFilterError(f"'when' is {when!r}; write one of {', '.join(decided.CHOICES)}.")
    wishes = Wishes(
        when=str(when),
        seconds=int(seconds),
        port=int(port),
        warn_below=float(warn_below),
        fail_below=float(fail_below),
        expected_gb_s=float(expected_gb_s) or None,
    )
    return decided.collective_jobs(plain(instances), str(host), plain(seen), plain(gpu_facts), wishes)


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"collective_jobs": collective_jobs}
