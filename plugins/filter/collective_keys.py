# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter collective_keys."""

from __future__ import annotations

DOCUMENTATION = r"""
name: collective_keys
short_description: Says what a measurement of the links of each instance has to hold for
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Gives a digest of the GPUs, their driver, the hosts and the network interface, for each instance that has more than
    one rank. A measurement that was made for another digest is made again.
options:
  _input:
    description: The layouts of the instances, from P(gpufleet.vllm.parallel_layout#filter).
    type: list
    elements: dict
    required: true
  gpu_facts:
    description: What M(gpufleet.vllm.gpu_info) returned for the host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Look what was measured
  gpufleet.vllm.nccl_check:
    state: observed
    keys: "{{ layout_instances | gpufleet.vllm.collective_keys(gpu_facts=layout_gpu_facts) }}"
    python: /opt/vllm/current/bin/python
"""

RETURN = r"""
_value:
  description: A digest for each instance, by name.
  type: dict
  sample: {llama-70b: 1f0c4ad51f0c4ad5}
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import collective_jobs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def collective_keys(instances: Any, gpu_facts: Any) -> dict[str, str]:
    """Say what measurements have to hold for."""
    return collective_jobs.keys(plain(instances), plain(gpu_facts))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"collective_keys": collective_keys}
