# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter status_table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status_table
short_description: Shows the status of a fleet as text for a terminal
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Makes a table of the instances of all hosts, with what is wrong below it. A host that could not be asked is a line.
options:
  _input:
    description: What the filter P(gpufleet.vllm.status_report#filter) gave.
    type: dict
    required: true
seealso:
  - plugin: gpufleet.vllm.status_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the status
  ansible.builtin.debug:
    msg: "{{ {inventory_hostname: status} | gpufleet.vllm.status_report | gpufleet.vllm.status_table }}"
"""

RETURN = r"""
_value:
  description:
    - The text, several lines without an end of line after the last.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def status_table(report: Any) -> str:
    """Show a report."""
    return fleet.table(plain(report))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"status_table": status_table}
