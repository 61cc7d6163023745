# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter rocm_build."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rocm_build
short_description: Says what vLLM's wheels for ROCm are called in a release
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Returns what follows the C(+) in the version of the wheels for ROCm, which is also the last part of the address of
    their index. A release that is newer than the table is taken to have the last one's.
options:
  _input:
    description: The version of vLLM.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ '0.31.0' | gpufleet.vllm.rocm_build }}"
"""

RETURN = r"""
_value:
  description: The name of the build, such as V(rocm723); V(rocm) for a release that has no such wheels.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import rocm_release_of


def rocm_build(version: Any) -> str:
    """Look the build up."""
    release = rocm_release_of(str(version))
    return release.build if release else "rocm"


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"rocm_build": rocm_build}
