# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter engine_constraints."""

from __future__ import annotations

DOCUMENTATION = r"""
name: engine_constraints
short_description: Says what is pinned when a release of vLLM is resolved anew
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Returns the lines of a constraints file without which a release would be resolved to packages that do not work
    together.
options:
  _input:
    description: The version of vLLM.
    type: str
    required: true
  variant:
    description: The build, V(cuda), V(rocm) or V(cpu).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ '0.33.0' | gpufleet.vllm.engine_constraints('cuda') }}"
"""

RETURN = r"""
_value:
  description: Lines such as V(cuda-python>=13); none where nothing has to be pinned.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import locks


def engine_constraints(version: Any, variant: str) -> list[str]:
    """Look them up."""
    return locks.constraints(str(version), str(variant))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"engine_constraints": engine_constraints}
