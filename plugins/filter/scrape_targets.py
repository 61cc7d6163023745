# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter scrape_targets."""

from __future__ import annotations

DOCUMENTATION = r"""
name: scrape_targets
short_description: Decides what Prometheus scrapes on a fleet
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Makes the targets of vLLM instances, of GPU and node exporters and of gateways from the inventory alone, as
    Prometheus' file-based service discovery reads them.
  - Of each host C(vllm_models), C(engine_version), C(ansible_host), C(monitoring_address), C(monitoring_dcgm_exporter),
    C(monitoring_dcgm_port), C(monitoring_node_exporter_port), C(gateway_metrics_bind) and C(gateway_metrics_port) are
    read.
options:
  _input:
    description: Inventory names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  scraper:
    description: Inventory name of the host that runs Prometheus.
    type: str
    default: localhost
  gateways:
    description: Inventory names or addresses of the gateways, with or without a port.
    type: list
    elements: str
    default: []
  gateway_port:
    description: Port of the gateways' metrics where none is written.
    type: int
    default: 8405
  loopback:
    description: >-
      What becomes of an instance or a gateway that listens on loopback of another host. V(refuse) makes it a problem,
      V(skip) leaves it out.
    type: str
    choices: [refuse, skip]
    default: refuse
"""

EXAMPLES = r"""
- name: Show what would be scraped
  ansible.builtin.debug:
    msg: "{{ groups['all'] | gpufleet.vllm.scrape_targets(hostvars, scraper=inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description:
    - C(targets), the groups of targets with their labels; C(problems), a sentence for each thing that has to be
      mended first; C(left_out), a sentence for each instance that is not scraped.
  type: dict
  sample:
    targets:
      - targets: ["10.0.0.11:8000"]
        labels: {job: vllm, host: gpu01, vllm_instance: chat, model: Qwen/Qwen3-8B}
    problems: []
    left_out: []
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import scrape_targets as decided
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def scrape_targets(
    hosts: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    scraper: str = "localhost",
    gateways: Any = (),
    gateway_port: int = 8405,
    loopback: str = "refuse",
) -> dict[str, Any]:
    """Decide what is scraped."""
    if loopback not in decided.LOOPBACK:
        raise AnsibleFilterError(f"monitoring_loopback is {loopback!r}; write one of {', '.join(decided.LOOPBACK)}.")
    addressed = [str(gateway) for gateway in gateways]
    # Gateways are looked up too; a host outside of the inventory has no variables.
    asked = {str(host): _read(hostvars, str(host)) for host in hosts}
    others = {name for name, _port in map(decided.split_gateway, addressed)} - set(asked)
    inventory = sorted(name for name in others if name in hostvars)
    known = {**asked, **{name: {**_read(hostvars, name), "vllm_models": []} for name in inventory}}
    return decided.targets(known, str(scraper), addressed, int(gateway_port), str(loopback))


def _read(hostvars: Mapping[str, Mapping[str, Any]], host: str) -> dict[str, Any]:
    # hostvars has no answer of its own for a host that the inventory lacks.
    said = hostvars[host] if host in hostvars else {}  # noqa: SIM401
    return {name: plain(said[name]) for name in decided.VARIABLES if name in said}


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"scrape_targets": scrape_targets}
