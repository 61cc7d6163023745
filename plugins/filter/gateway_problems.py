# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter gateway_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_problems
short_description: Says what stands in the way of a gateway
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Checks what was asked of the role P(gpufleet.vllm.gateway#role), before it changes anything. No sentence shows a
    key.
options:
  _input:
    description: What is asked for, the role's variables without their prefix.
    type: dict
    required: true
  backends:
    description: The backends, from P(gpufleet.vllm.gateway_backends#filter).
    type: list
    elements: dict
    required: true
  listeners:
    description: What M(gpufleet.vllm.host_info) returned for the gateway's ports.
    type: list
    elements: dict
    required: true
  config:
    description: What M(gpufleet.vllm.gateway_info) returned as RV(gpufleet.vllm.gateway_info#module:config).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Check what is asked for
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: >-
      {{ wishes | gpufleet.vllm.gateway_problems(backends=found.backends, listeners=host.listeners,
         config=gateway.config) }}
"""

RETURN = r"""
_value:
  description: One sentence for each fault; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import gateway_wishes
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def gateway_problems(wishes: Any, backends: Any, listeners: Any, config: str) -> list[str]:
    """Say what stands in the way."""
    return gateway_wishes.problems(plain(wishes), plain(backends), plain(listeners), str(config))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"gateway_problems": gateway_problems}
