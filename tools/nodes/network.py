"""The fleet's network: a bridge, a /24 of its own, masquerading, forwarding."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tools.nodes.errors import NodeError
from tools.nodes.shell import locked, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Network

    from tools.nodes.names import FleetNames

# RFC 1918. The upper part of 10/8 first: clouds and offices number from below.
_POOLS = ("10.208.0.0/12", "172.16.0.0/12", "192.168.0.0/16")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_RUN = Path("/run/gpufleet-nodes")
_LARGEST_MTU = 1500


def networks_in(routes: str, addresses: str) -> list[IPv4Network]:
    """Networks that this machine already knows, from the JSON of `ip route` and `ip address`.

    The default route is left out: it covers everything and says nothing about what is in use.
    """
    found = [entry["dst"] for entry in json.loads(routes or "[]") if entry.get("dst", "default") != "default"]
    for link in json.loads(addresses or "[]"):
        found += [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", []) if a.get("family") == "inet"]
    networks = [ipaddress.IPv4Network(text, strict=False) for text in found]
    return [network for network in networks if network.prefixlen > 0]


def _candidates(seed: str) -> Iterator[IPv4Network]:
    """Every private /24, the first pool's beginning at a place that `seed` decides."""
    for pool in _POOLS:
        subnets = list(ipaddress.IPv4Network(pool).subnets(new_prefix=24))
        start = int(seed, 16) % len(subnets)
        yield from subnets[start:] + subnets[:start]


def choose_subnet(used: Iterable[IPv4Network], seed: str) -> IPv4Network:
    """A private /24 that overlaps none of `used`; the same `seed` (hexadecimal) gives the same where it can.

    Raises NodeError when there is none.
    """
    taken = list(used)
    for candidate in _candidates(seed):
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise NodeError(
        "No private /24 network is free for the nodes: this machine's routes (ip route show table all) cover "
        f"{', '.join(_POOLS)}. Remove a route that is wider than it needs to be."
    )


def used_networks(except_bridge: str) -> list[IPv4Network]:
    """Networks in this machine's routes and addresses, without those of the fleet's own bridge."""
    routes = json.loads(run(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]")
    addresses = json.loads(run(["ip", "-j", "-4", "address", "show"]) or "[]")
    return networks_in(
        json.dumps([entry for entry in routes if entry.get("dev") != except_bridge]),
        json.dumps([link for link in addresses if link.get("ifname") != except_bridge]),
    )


def masquerade_rules(table: str, bridge: str, subnet: str) -> str:
    """The nftables script that (re)makes the fleet's own table."""
    return (
        f"table ip {table}\n"
        f"delete table ip {table}\n"
        f"table ip {table} {{\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f'    ip saddr {subnet} oifname != "{bridge}" masquerade\n'
        "  }\n"
        "}\n"
    )


def outer_mtu() -> int:
    """The smallest MTU of the interfaces that carry a default route, in bytes, at most 1500.

    A node that sends larger packets than the way out takes would lose them where ICMP is filtered.
    """
    routes = json.loads(run(["ip", "-j", "-4", "route", "show", "default"]) or "[]")
    paths = [Path("/sys/class/net") / str(route.get("dev")) / "mtu" for route in routes]
    return min([int(path.read_text()) for path in paths if path.exists()] + [_LARGEST_MTU])


def bridge_exists(bridge: str) -> bool:
    """Whether the machine has an interface of this name."""
    return (Path("/sys/class/net") / bridge).exists()


def ensure(names: FleetNames, kept: str | None) -> str:
    """Make the fleet's network where it is missing; returns its subnet, `kept` where that is still free."""
    with locked(Path("/run"), "Waiting for another run to set up its network"):
        used = used_networks(names.bridge)
        free = kept is not None and not any(ipaddress.IPv4Network(kept).overlaps(network) for network in used)
        subnet = kept if kept is not None and free else str(choose_subnet(used, names.bridge[3:]))
        gateway = ipaddress.IPv4Network(subnet)[1]
        if not bridge_exists(names.bridge):
            run(["ip", "link", "add", names.bridge, "type", "bridge"])
        run(["ip", "address", "replace", f"{gateway}/24", "dev", names.bridge])
        run(["ip", "link", "set", names.bridge, "mtu", str(outer_mtu()), "up"])
        run(["nft", "-f", "-"], stdin=masquerade_rules(names.table, names.bridge, subnet))
        _accept_forwarding(names.bridge)
        _enable_forwarding(names.bridge)
    return subnet


def remove(names: FleetNames) -> None:
    """Remove all that `ensure` made, whatever of it is there."""
    with locked(Path("/run"), "Waiting for another run to set up its network"):
        if shutil.which("nft") and f"table ip {names.table}\n" in run(["nft", "list", "tables"], check=False):
            run(["nft", "delete", "table", "ip", names.table])
        for rule in _forward_rules(names.bridge):
            while shutil.which("iptables") and _iptables("-C", rule):
                _iptables("-D", rule)
        if bridge_exists(names.bridge):
            run(["ip", "link", "delete", names.bridge])
        _release_forwarding(names.bridge)


def _forward_rules(bridge: str) -> list[list[str]]:
    """The rules that let the bridge's traffic through, without the iptables command before them."""
    comment = ["-m", "comment", "--comment", f"gpufleet {bridge}", "-j", "ACCEPT"]
    return [["FORWARD", "-i", bridge, *comment], ["FORWARD", "-o", bridge, *comment]]


def _iptables(command: str, rule: list[str]) -> bool:
    """Run one iptables command; whether it succeeded."""
    argv = ["iptables", "--wait", command, *rule]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _accept_forwarding(bridge: str) -> None:
    """Let the bridge through where the FORWARD policy drops, as Docker sets it."""
    if not shutil.which("iptables") or "-P FORWARD DROP" not in run(["iptables", "-S", "FORWARD"], check=False):
        return
    for rule in _forward_rules(bridge):
        if not _iptables("-C", rule) and not _iptables("-I", rule):
            raise NodeError(f"iptables drops forwarded packets and refused a rule for the bridge {bridge}.")


def _enable_forwarding(bridge: str) -> None:
    """Switch IPv4 forwarding on, remembering what it was before the first fleet that needed it."""
    _RUN.mkdir(exist_ok=True)
    before = _RUN / "ip_forward"
    if not before.exists():
        before.write_text(_FORWARD.read_text())
    (_RUN / bridge).touch()
    _FORWARD.write_text("1")


def _release_forwarding(bridge: str) -> None:
    """Put IPv4 forwarding back to what it was when no other fleet's bridge needs it."""
    (_RUN / bridge).unlink(missing_ok=True)
    before = _RUN / "ip_forward"
    if not before.exists():
        return
    if not any(bridge_exists(path.name) for path in _RUN.iterdir() if path != before):
        _FORWARD.write_text(before.read_text())
        shutil.rmtree(_RUN)
