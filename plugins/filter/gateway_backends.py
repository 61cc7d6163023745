# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter gateway_backends."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_backends
short_description: Decides which servers a gateway has for each model
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - A backend for each name in the C(vllm_models) of the hosts, with every host that has it, but for entries with
    C(state=absent) and for the other hosts of an engine over several.
  - A host is reached at the C(host) of the entry where that is an address, otherwise at C(gateway_address),
    C(ansible_host) or its name, the first that is written.
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  hosts:
    description: Inventory names of the hosts that may have models.
    type: list
    elements: str
    required: true
  gateway:
    description: >-
      Inventory name of the gateway, which reaches its own models on loopback; the default is a load balancer that is
      on none of the hosts.
    type: str
    default: ""
  requests:
    description: >-
      Requests that a server gets at once. V(0) is no limit, V(auto) the C(max_num_seqs) of the entry, where it has one.
    type: raw
    default: 0
"""

EXAMPLES = r"""
- name: Check what the gateway would have
  ansible.builtin.assert:
    that: found.problems | length == 0
    fail_msg: "{{ found.problems | join('\n') }}"
  vars:
    found: "{{ hostvars | gpufleet.vllm.gateway_backends(hosts=ansible_play_hosts_all, gateway='gw1') }}"
"""

RETURN = r"""
_value:
  description:
    - C(backends), a list of C(name) and C(servers), each with C(name), C(address), C(port), and C(limit), the requests
      that it gets at once, 0 for no limit.
    - C(problems), a sentence for each fault.
  type: dict
  sample:
    backends: [{name: chat, servers: [{name: gpu01, address: 10.0.0.1, port: 8000, limit: 0}]}]
    problems: []
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import gateway as decided
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def gateway_backends(
    hostvars: Mapping[str, Any], hosts: Sequence[str], gateway: str = "", requests: Any = 0
) -> dict[str, Any]:
    """Decide the backends."""
    if requests != "auto" and not str(requests).isdigit():
        raise AnsibleFilterError(f"'requests' is {requests!r}; write a number, 0 for no limit, or auto.")
    # only these: rendering all variables of a fleet takes long
    said = {
        str(host): {name: plain(hostvars[host][name]) for name in decided.VARIABLES if name in hostvars[host]}
        for host in hosts
    }
    return decided.backends(said, str(gateway), "auto" if requests == "auto" else int(requests))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"gateway_backends": gateway_backends}
