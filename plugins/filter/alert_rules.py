# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter alert_rules."""

from __future__ import annotations

DOCUMENTATION = r"""
name: alert_rules
short_description: Makes Prometheus rules for a fleet of vLLM servers
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Makes the recording and alert rules for vLLM instances, gateways and GPUs, as a Prometheus server reads them.
options:
  _input:
    description:
      - Thresholds that differ from the defaults, as C(monitoring_thresholds) of the role
        P(gpufleet.vllm.monitoring#role) has them.
    type: dict
    required: true
  runbook:
    description: Address of the page that has a heading for each alert.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the rules
  ansible.builtin.debug:
    msg: "{{ {'first_token_seconds': 2.5} | gpufleet.vllm.alert_rules('https://wiki.example.com/vllm') }}"
"""

RETURN = r"""
_value:
  description: The content of a file of rules.
  type: dict
  sample: {groups: [{name: vllm, rules: []}]}
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_rules as decided
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_thresholds
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def alert_rules(thresholds: Any, runbook: str) -> dict[str, Any]:
    """Make the rules."""
    try:
        return decided.rules(alert_thresholds.read(plain(thresholds)), str(runbook))
    except InputError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"alert_rules": alert_rules}
