# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter wheel_platforms."""

from __future__ import annotations

DOCUMENTATION = r"""
name: wheel_platforms
short_description: Lists the tags of wheels that run on a platform
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - pip takes only the tags that it is told, uv knows a platform by one name.
options:
  _input:
    description: The platform in uv's words.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ 'x86_64-manylinux_2_34' | gpufleet.vllm.wheel_platforms }}"
"""

RETURN = r"""
_value:
  description: The tags, the newest first.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import bundles
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError


def wheel_platforms(platform: str) -> list[str]:
    """List the tags."""
    try:
        return bundles.wheel_platforms(str(platform))
    except InputError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"wheel_platforms": wheel_platforms}
