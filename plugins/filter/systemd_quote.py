# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter systemd_quote."""

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_quote
short_description: Quotes a value for a systemd EnvironmentFile
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Quotes a value so that systemd reads back just that value from a line of a file named by C(EnvironmentFile=).
options:
  _input:
    description: The value. It must not hold control characters other than tab and line break.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write a line of an environment file
  ansible.builtin.debug:
    msg: "GREETING={{ 'costs $5, or 100 %' | gpufleet.vllm.systemd_quote }}"
"""

RETURN = r"""
_value:
  description: The value between double quotes, with what has a meaning there escaped.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.systemd import quote_environment


def systemd_quote(value: Any) -> str:
    """Quote for an environment file."""
    return quote_environment(str(value))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"systemd_quote": systemd_quote}
