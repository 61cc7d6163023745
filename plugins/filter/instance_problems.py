# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter instance_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: instance_problems
short_description: Says what is wrong with a list of vLLM instances
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Checks the list that a person wrote (C(vllm_models)) and returns a sentence for every fault; needs no host.
options:
  _input:
    description: The list of instances, as the role P(gpufleet.vllm.layout#role) documents it.
    type: raw
    required: true
seealso:
  - plugin: gpufleet.vllm.parallel_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Check the inventory
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ vllm_models | gpufleet.vllm.instance_problems }}"
"""

RETURN = r"""
_value:
  description: One sentence for each fault; empty when the list can be used.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def instance_problems(models: Any) -> list[str]:
    """Say what is wrong with ``vllm_models``."""
    return instances.problems(plain(models))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"instance_problems": instance_problems}
