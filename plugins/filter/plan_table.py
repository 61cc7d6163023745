# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter plan_table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_table
short_description: Shows a plan as text for a terminal
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Makes a table of the instances of each host, with the reasons, warnings and refusals below it. Hosts that are alike
    are shown once.
options:
  _input:
    description:
      - A plan report, as the playbook C(gpufleet.vllm.plan) writes it, or what its C(hosts) holds, a mapping of the
        names of hosts to C(gpu_facts) and C(instances).
    type: dict
    required: true
  width:
    description: Columns that sentences are wrapped to. Rows of the table may be a little longer.
    type: int
    default: 110
seealso:
  - plugin: gpufleet.vllm.parallel_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what was decided
  ansible.builtin.debug:
    msg: "{{ {inventory_hostname: {'gpu_facts': gpu.gpu_facts, 'instances': layouts}} | gpufleet.vllm.plan_table }}"
"""

RETURN = r"""
_value:
  description: The text, several lines without an end of line after the last.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import table
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def plan_table(plan: Any, width: int = table.WIDTH) -> str:
    """Show a report, or the hosts of one."""
    given = plain(plan)
    return table.table(given if "schema_version" in given else {"hosts": given}, int(width))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"plan_table": plan_table}
