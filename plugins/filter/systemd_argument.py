# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter systemd_argument."""

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_argument
short_description: Quotes an argument of a command in a unit of systemd
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Quotes a text so that a command of a unit, such as C(ExecStart=), gets just that text as one argument.
options:
  _input:
    description: The text. It must not hold control characters other than tab and line break, nor what is no character.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write a command
  ansible.builtin.debug:
    msg: "ExecStart=/bin/echo {{ 'costs $5, or 100 %' | gpufleet.vllm.systemd_argument }}"
"""

RETURN = r"""
_value:
  description: The text between double quotes, with what has a meaning there escaped.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.systemd import quote_argument


def systemd_argument(value: Any) -> str:
    """Quote for a command of a unit."""
    return quote_argument(str(value))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"systemd_argument": systemd_argument}
