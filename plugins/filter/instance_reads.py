# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter instance_reads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: instance_reads
short_description: Says what an instance reads when it starts, and on which mounts that may lie
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - For the unit of an instance, which waits for file systems that are mounted late.
options:
  _input:
    description: The layout of the instance, from P(gpufleet.vllm.parallel_layout#filter).
    type: dict
    required: true
  root:
    description: Folder of the engine.
    type: path
    required: true
  cache:
    description: Folder of the hub's models.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show what an instance waits for
  ansible.builtin.debug:
    msg: "{{ layout_instances | first | gpufleet.vllm.instance_reads(root='/opt/vllm', cache='/var/lib/vllm/hub') }}"
"""

RETURN = r"""
_value:
  description: >-
    C(files) that have to be there, and C(mounts), the names of the units of all mounts that may be on the way to what
    the instance reads.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_reads as decided
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def instance_reads(layout: Any, root: Any, cache: Any) -> dict[str, list[str]]:
    """Say what an instance reads."""
    return decided.reads(plain(layout), str(root), str(cache))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"instance_reads": instance_reads}
