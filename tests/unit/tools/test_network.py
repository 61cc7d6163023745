from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.nodes.errors import NodeError
from tools.nodes.network import choose_subnet, masquerade_rules, networks_in

SEED = "e2666dc330"


def test_routes_and_addresses_are_read_and_the_default_route_is_not() -> None:
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "0.0.0.0/0", "dev": "tun0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"type": "local", "dst": "10.1.2.3", "dev": "lo"},
    ]
    addresses = [
        {"ifname": "eth0", "addr_info": [{"family": "inet", "local": "192.0.2.2", "prefixlen": 24}]},
        {"ifname": "docker0", "addr_info": [{"family": "inet6", "local": "fe80::1", "prefixlen": 64}]},
        {},
    ]
    found = networks_in(json.dumps(routes), json.dumps(addresses))
    assert sorted(set(map(str, found))) == ["10.1.2.3/32", "192.0.2.0/24"]


def test_no_output_means_no_networks() -> None:
    assert networks_in("", "") == []


@given(used=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), max_size=8))
def test_a_chosen_subnet_overlaps_nothing_in_use(used: list[tuple[int, int]]) -> None:
    networks = [IPv4Network((address, prefix), strict=False) for address, prefix in used]
    try:
        chosen = choose_subnet(networks, SEED)
    except NodeError:
        return
    assert chosen.prefixlen == 24
    assert chosen.is_private
    assert not any(chosen.overlaps(network) for network in networks)


def test_the_same_seed_gives_the_same_subnet() -> None:
    assert choose_subnet([], SEED) == choose_subnet([], SEED)
    assert choose_subnet([], SEED) != choose_subnet([], "0")


def test_a_wide_route_moves_the_choice_to_another_pool() -> None:
    assert choose_subnet([IPv4Network("10.0.0.0/8")], SEED).subnet_of(IPv4Network("172.16.0.0/12"))


def test_no_free_subnet_is_met_with_a_sentence() -> None:
    pools = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
    with pytest.raises(NodeError, match=r"No private /24 network is free .*ip route show table all"):
        choose_subnet(pools, SEED)


def test_the_table_is_made_anew_in_one_transaction() -> None:
    lines = masquerade_rules("gpufleet_x", "gf-x", "10.208.1.0/24").splitlines()
    assert lines[:3] == ["table ip gpufleet_x", "delete table ip gpufleet_x", "table ip gpufleet_x {"]
    assert '    ip saddr 10.208.1.0/24 oifname != "gf-x" masquerade' in lines
