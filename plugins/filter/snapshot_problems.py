# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter snapshot_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: snapshot_problems
short_description: Says what stands against downloads
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Adds up what is missing of all snapshots and compares it with what is free, and passes on what the module has found
    of the cache's folder and of the file of certificates.
options:
  _input:
    description:
      - For each snapshot, its C(model), and what M(gpufleet.vllm.model_snapshot) returned with
        O(gpufleet.vllm.model_snapshot#module:state=observed).
    type: list
    elements: dict
    required: true
  cache:
    description: Folder of the cache.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Check the disk
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\n') }}"
  vars:
    problems: "{{ observed.results | gpufleet.vllm.snapshot_problems(cache='/var/lib/vllm/hub') }}"
"""

RETURN = r"""
_value:
  description: One sentence for each fault; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import snapshots
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def snapshot_problems(observed: Any, cache: str) -> list[str]:
    """Say what stands against them."""
    wanted = [
        {
            "model": one["item"]["model"] if "item" in one else one["model"],
            "missing_bytes": one["missing_bytes"],
            "free_bytes": one["free_bytes"],
            "problems": one.get("problems"),
        }
        for one in plain(observed)
    ]
    return snapshots.problems(wanted, str(cache))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"snapshot_problems": snapshot_problems}
