# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter python_packages."""

from __future__ import annotations

DOCUMENTATION = r"""
name: python_packages
short_description: Says which packages of the distribution a Python interpreter needs
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Returns the packages with the virtual environments and the headers of an interpreter in C(/usr/bin). One that lies
    elsewhere has its own.
options:
  _input:
    description: Path of the interpreter.
    type: path
    required: true
  os_family:
    description: The distribution's family, as Ansible calls it.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ '/usr/bin/python3.12' | gpufleet.vllm.python_packages('Debian') }}"
"""

RETURN = r"""
_value:
  description: Such as V(python3.12-venv) and V(python3.12-dev).
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import preflight


def python_packages(python: Any, os_family: Any) -> list[str]:
    """Name them."""
    return preflight.python_packages(str(python), str(os_family))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"python_packages": python_packages}
