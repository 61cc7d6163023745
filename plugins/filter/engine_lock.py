# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter engine_lock."""

from __future__ import annotations

DOCUMENTATION = r"""
name: engine_lock
short_description: Says what the resolved list of a release of vLLM is called
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Returns the file name of the list that the role P(gpufleet.vllm.engine#role) would install a release from. Whether
    the role has such a list is another matter.
options:
  _input:
    description: The version of vLLM.
    type: str
    required: true
  variant:
    description: The build, V(cuda), V(rocm) or V(cpu).
    type: str
    required: true
  python:
    description: Version of the Python on the host; null where it is not known.
    type: str
    required: true
  machine:
    description: The host's processors, as C(uname -m) says; null where it is not known.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ '0.33.0' | gpufleet.vllm.engine_lock('cuda', '3.11.2', 'x86_64') }}"
"""

RETURN = r"""
_value:
  description: Such as V(0.33.0-cuda-py3.11-x86_64.txt); empty where Python or processors are not known.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import locks


def engine_lock(version: Any, variant: str, python: Any, machine: Any) -> str:
    """Name the list."""
    return locks.lock_name(str(version), str(variant), python and str(python), machine and str(machine))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"engine_lock": engine_lock}
