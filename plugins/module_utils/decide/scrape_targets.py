# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide what Prometheus scrapes: targets for its file-based service discovery, from the inventory alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances

# The variables of a host that are read, and what each must be.
VARIABLES = (
    "ansible_host",
    "engine_version",
    "gateway_metrics_bind",
    "gateway_metrics_port",
    "monitoring_address",
    "monitoring_dcgm_exporter",
    "monitoring_dcgm_port",
    "monitoring_node_exporter_port",
    "vllm_models",
)
# Names of the jobs; the rules and the dashboard know them.
VLLM, DCGM, NODE, GATEWAY = "vllm", "dcgm", "node", "vllm-gateway"
# Where dcgm-exporter listens unless told otherwise (dcgm-exporter, pkg/cmd/app.go: --address, ":9400").
DCGM_PORT = 9400
LOOPBACK = ("refuse", "skip")
# Options of vllm serve with which there is nothing to scrape, or not on the port.
BLIND = {
    "disable-log-stats": "its metrics of the engine are off",
    "uds": "it listens on a socket file in place of a port",
}


def targets(
    hosts: Mapping[str, Mapping[str, Any]],
    scraper: str = "localhost",
    gateways: Sequence[str] = (),
    gateway_port: int = 8405,
    loopback: str = "refuse",
) -> dict[str, Any]:
    """Return ``targets`` (groups of file_sd), ``problems`` and ``left_out`` (a sentence each).

    ``hosts`` has :data:`VARIABLES` of each inventory host, in the order of the file. ``scraper`` is the inventory name
    of the host that runs Prometheus; what listens on loopback can be scraped from its own host only, and is a problem
    elsewhere, or left out where ``loopback`` is "skip". ``gateways`` are inventory names or addresses, with
    or without a port.
    """
    found: dict[str, Any] = {"targets": [], "problems": [], "left_out": []}
    judged: dict[str, list[str]] = {}
    for name, said in hosts.items():
        models = said.get("vllm_models") or []
        key = repr(models)
        if key not in judged:
            judged[key] = instances.problems(models) if models else []
        if judged[key]:
            found["problems"].extend(f"{name}: {problem}" for problem in judged[key])
            continue
        for entry in models:
            _add_instance(found, name, said, entry, scraper, loopback)
        _add_exporters(found, name, said, models)
    for gateway in gateways:
        _add_gateway(found, gateway, hosts, gateway_port, scraper, loopback)
    if not found["targets"] and not found["problems"] and not found["left_out"]:
        found["problems"].append(
            "There is nothing to scrape: none of the hosts has vllm_models. Name the right hosts with vllm_hosts "
            "(playbook) or monitoring_hosts (role)."
        )
    return found


def _add_instance(
    found: dict[str, Any],
    host: str,
    said: Mapping[str, Any],
    entry: Mapping[str, Any],
    scraper: str,
    loopback: str,
) -> None:
    nodes = entry.get("nodes") or [host]
    # Of an engine over several hosts only the first has a server.
    if entry.get("state") == "absent" or nodes[0] != host:
        return
    name = entry["name"]
    arguments = {instances.argument_name(key): value for key, value in (entry.get("extra_args") or {}).items()}
    blind = next((why for option, why in BLIND.items() if arguments.get(option)), None)
    if blind:
        found["left_out"].append(f"{host}: '{name}' is not scraped, because {blind} (extra_args).")
        return
    listens = str(entry.get("host", "127.0.0.1"))
    if _is_loopback(listens) and scraper != host:
        where = f"{host}: '{name}' listens on {listens} only, which Prometheus on {scraper} cannot reach."
        if loopback == "skip":
            found["left_out"].append(f"{where} It is left out (monitoring_loopback: skip).")
        else:
            found["problems"].append(
                f"{where} Write an address of a private network of the host in its 'host' (vllm_models); or scrape it "
                f"from {host} itself, with prometheus_hosts={host}; or leave such instances out with "
                "monitoring_loopback: skip."
            )
        return
    labels = {
        "host": host,
        "vllm_instance": name,
        "model": str(entry.get("model") or entry.get("model_source") or name),
    }
    release = entry.get("engine_version") or said.get("engine_version")
    if release:
        labels["release"] = str(release)
    if arguments.get("ssl-certfile"):
        labels["__scheme__"] = "https"
    address = _address(host, said) if _is_every_interface(listens) else listens
    _add(found, VLLM, address, int(entry.get("port", 8000)), labels)


def _add_exporters(
    found: dict[str, Any], host: str, said: Mapping[str, Any], models: Sequence[Mapping[str, Any]]
) -> None:
    """Targets of the host itself, whose metrics are those of all its instances."""
    if not models:
        return
    if said.get("monitoring_dcgm_exporter"):
        _add(found, DCGM, _address(host, said), int(said.get("monitoring_dcgm_port") or DCGM_PORT), {"host": host})
    port = int(said.get("monitoring_node_exporter_port") or 0)
    if port:
        _add(found, NODE, _address(host, said), port, {"host": host})


def split_gateway(gateway: str) -> tuple[str, str]:
    """Part what a person wrote into a name or address, and a port or an empty text: lb01:8405, [::1]:8405, ::1."""
    name, colon, port = gateway.rpartition(":")
    whole = not colon or "]" in port or (":" in name and not name.startswith("["))
    return (gateway.strip("[]"), "") if whole else (name.strip("[]"), port)


def _add_gateway(
    found: dict[str, Any],
    gateway: str,
    hosts: Mapping[str, Mapping[str, Any]],
    default_port: int,
    scraper: str,
    loopback: str,
) -> None:
    name, port = split_gateway(gateway)
    said = hosts.get(name, {})
    written = port or str(said.get("gateway_metrics_port") or default_port)
    if not name or not written.isdigit():
        found["problems"].append(
            f"'{gateway}' is no gateway that can be scraped; write a name of the inventory or an address in "
            "monitoring_gateways, with or without a port, such as lb01 or lb01:8405."
        )
        return
    # One of the inventory is that of the role gateway, whose metrics are on loopback unless it says otherwise; a port
    # that is written names something else.
    listens = str(said.get("gateway_metrics_bind") or "127.0.0.1") if name in hosts and not port else ""
    if _is_loopback(listens) and scraper != name:
        where = f"{name}: the metrics of the gateway are on {listens} only, which Prometheus on {scraper} cannot reach."
        if loopback == "skip":
            found["left_out"].append(f"{where} It is left out (monitoring_loopback: skip).")
        else:
            found["problems"].append(
                f"{where} Write an address of a private network of the host in gateway_metrics_bind; or leave such "
                "gateways out with monitoring_loopback: skip."
            )
        return
    address = _address(name, said) if _is_every_interface(listens) else listens
    _add(found, GATEWAY, address, int(written), {"host": name})


def _add(found: dict[str, Any], job: str, address: str, port: int, labels: Mapping[str, str]) -> None:
    written = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    found["targets"].append({"targets": [written], "labels": {"job": job, **labels}})


def _address(host: str, said: Mapping[str, Any]) -> str:
    return str(said.get("monitoring_address") or said.get("ansible_host") or host)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _is_loopback(listens: str) -> bool:
    found = _ip(listens)
    return listens == "localhost" or (found is not None and found.is_loopback)


def _is_every_interface(listens: str) -> bool:
    found = _ip(listens)
    return listens == "" or (found is not None and found.is_unspecified)
