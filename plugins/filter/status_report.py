# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter status_report."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status_report
short_description: Puts the status of a fleet together
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Takes what M(gpufleet.vllm.status_info) returned on each host, and of hosts that could not be asked what Ansible
    says of them.
options:
  _input:
    description: By host, the registered result of M(gpufleet.vllm.status_info).
    type: dict
    required: true
seealso:
  - plugin: gpufleet.vllm.status_table
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
    - C(schema_version) and C(hosts), by host C(state) (V(reached), V(unreachable) or V(unknown)), C(problem), the
      reason or null, and C(instances).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import fleet
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def status_report(results: Any) -> dict[str, Any]:
    """Put the answers together."""
    return fleet.report(plain(results))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"status_report": status_report}
