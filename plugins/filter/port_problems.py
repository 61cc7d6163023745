# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter port_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: port_problems
short_description: Says which ports of vLLM instances are taken
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Compares the ports of the instances with what listens on a host. A port that the unit of the instance itself holds
    is free.
options:
  _input:
    description: The layouts of the instances, from P(gpufleet.vllm.parallel_layout#filter).
    type: list
    elements: dict
    required: true
  listeners:
    description: What M(gpufleet.vllm.host_info) returned as RV(gpufleet.vllm.host_info#module:listeners).
    type: list
    elements: dict
    required: true
  leaving:
    description: Names of instances that are removed first, so that their ports are free.
    type: list
    elements: str
    default: []
seealso:
  - module: gpufleet.vllm.host_info
"""

EXAMPLES = r"""
- name: Check the ports
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ layout_instances | gpufleet.vllm.port_problems(host.listeners) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each fault; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import preflight
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def port_problems(instances: Any, listeners: Any, leaving: Any = ()) -> list[str]:
    """Say which ports are taken."""
    return preflight.port_problems(plain(instances), plain(listeners), plain(list(leaving)))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"port_problems": port_problems}
