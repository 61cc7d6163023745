"""Which servers a gateway has, whether one may be drained, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import draining, gateway, gateway_wishes
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.haproxy import FORCED_DRAIN, RUNNING, Server

OPEN = {"name": "chat", "model": "/m", "host": "0.0.0.0"}


def servers(hosts: dict[str, Any], name: str = "edge", **more: Any) -> dict[str, list[tuple[str, str, int]]]:
    found = gateway.backends(hosts, name, **more)
    assert found["problems"] == []
    return {
        backend["name"]: [(one["name"], one["address"], one["port"]) for one in backend["servers"]]
        for backend in found["backends"]
    }


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({"vllm_models": [OPEN]}, ("gpu1", 8000)),
        ({"vllm_models": [OPEN], "ansible_host": "10.0.0.1"}, ("10.0.0.1", 8000)),
        ({"vllm_models": [OPEN], "ansible_host": "203.0.113.9", "gateway_address": "10.9.0.1"}, ("10.9.0.1", 8000)),
        ({"vllm_models": [{**OPEN, "host": "10.1.1.1", "port": 9000}], "ansible_host": "10.0.0.1"}, ("10.1.1.1", 9000)),
        ({"vllm_models": [{**OPEN, "host": "::"}], "ansible_host": "fd00::1"}, ("[fd00::1]", 8000)),
        ({"vllm_models": [{**OPEN, "nodes": ["gpu1", "gpu2"], "network_interface": "ib0"}]}, ("gpu1", 8000)),
        ({"vllm_models": [{**OPEN, "state": "present"}]}, ("gpu1", 8000)),
    ],
)
def test_where_a_server_is(said: dict[str, Any], where: tuple[str, int]) -> None:
    assert servers({"gpu1": said}) == {"chat": [("gpu1", *where)]}


def test_the_gateways_own_models_are_reached_on_loopback() -> None:
    hosts = {
        "edge": {"vllm_models": [{"name": "chat", "model": "/m"}], "ansible_host": "10.0.0.9"},
        "gpu1": {"vllm_models": [OPEN]},
    }
    assert servers(hosts) == {"chat": [("edge", "127.0.0.1", 8000), ("gpu1", "gpu1", 8000)]}


def test_a_load_balancer_elsewhere_gets_the_address() -> None:
    hosts = {"gpu1": {"vllm_models": [{"name": "chat", "model": "/m"}], "ansible_host": "10.0.0.1"}}
    assert servers(hosts, name="") == {"chat": [("gpu1", "10.0.0.1", 8000)]}


def test_a_backend_for_each_name_in_a_fixed_order() -> None:
    other = {"name": "embed", "model": "/e", "host": "0.0.0.0", "port": 8001}
    absent = {"name": "old", "model": "/o", "state": "absent"}
    part = {**OPEN, "nodes": ["gpu1", "gpu2"], "network_interface": "ib0"}
    hosts = {
        "gpu3": {"vllm_models": [OPEN, other, absent]},
        "gpu2": {"vllm_models": [part]},
        "gpu1": {"vllm_models": [OPEN]},
        "web": {},
    }
    assert servers(hosts) == {
        "chat": [("gpu1", "gpu1", 8000), ("gpu3", "gpu3", 8000)],
        "embed": [("gpu3", "gpu3", 8001)],
    }


@pytest.mark.parametrize(
    ("entry", "requests", "limit"),
    [
        ({}, 0, 0),
        ({}, 64, 64),
        ({}, "auto", 0),
        ({"max_num_seqs": 128}, "auto", 128),
        ({"max_num_seqs": 128, "data_parallel_size": 4}, "auto", 512),
        ({"max_num_seqs": 128, "data_parallel_size": "auto"}, "auto", 128),
        ({"max_num_seqs": 128}, 8, 8),
    ],
)
def test_how_many_requests_a_server_gets(entry: dict[str, Any], requests: Any, limit: int) -> None:
    (backend,) = gateway.backends({"g": {"vllm_models": [{**OPEN, **entry}]}}, "edge", requests)["backends"]
    assert backend["servers"][0]["limit"] == limit


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({}, "None of the hosts (there are none) has a model in vllm_models"),
        ({"web": {}}, "None of the hosts (web) has a model in vllm_models"),
        (
            {"gpu1": {"vllm_models": [{"name": "chat", "model": "/m"}]}},
            "gpu1: chat listens on 127.0.0.1, where the gateway edge cannot reach it. Write 'host: 0.0.0.0',",
        ),
        ({"gpu1": {"vllm_models": [{**OPEN, "host": "localhost"}]}}, "gpu1: chat listens on localhost, where"),
        ({"gpu 1": {"vllm_models": [OPEN]}}, "gpu 1: HAProxy does not take this inventory name for a server"),
        ({"gpu1": {"vllm_models": [{**OPEN, "name": "health"}]}}, "gpu1: a model named health cannot be told from"),
        ({"gpu1": {"vllm_models": [{**OPEN, "prot": 1}]}}, "gpu1: vllm_models[0] (chat) has the unknown field 'prot'"),
        ({"gpu1": {"vllm_models": "chat"}}, "gpu1: "),
    ],
)
def test_what_is_refused(hosts: dict[str, Any], said: str) -> None:
    (problem,) = gateway.backends(hosts, "edge")["problems"]
    assert problem.startswith(said)


UP, DOWN = Server("chat", "up", 0, RUNNING), Server("chat", "down", 0, 0)
DRAINED = Server("chat", "drained", FORCED_DRAIN, RUNNING)


@pytest.mark.parametrize(
    ("there", "name", "allow_last", "refused"),
    [
        ([UP], "up", False, True),
        ([UP], "up", True, False),
        ([UP, DOWN], "up", False, True),
        ([UP, DRAINED], "up", False, True),
        ([UP, DOWN], "down", False, False),
        ([UP, DRAINED], "drained", False, False),
        ([UP, Server("chat", "other", 0, RUNNING)], "up", False, False),
        ([UP], "unknown", False, False),
    ],
)
def test_the_last_server_is_kept(there: list[Server], name: str, allow_last: bool, refused: bool) -> None:
    assert (draining.refusal(there, name, allow_last) is not None) is refused


KEY = "0123456789abcdef01234567"
GOOD: dict[str, Any] = {
    "api_keys": {"team-a": KEY},
    "anonymous": False,
    "aliases": {"org/lora": "chat"},
    "routes": ["/v1/models", "/v1/"],
    "tls_certificate": "",
    "tls_certificate_exists": False,
    "tls_pem": "",
    "ports": {"gateway_port": 8080},
    "take_over": False,
}


def problems(config: str = "none", listeners: Any = (), **changed: Any) -> list[str]:
    return gateway_wishes.problems({**GOOD, **changed}, [{"name": "chat"}], listeners, config)


def test_what_is_good() -> None:
    for config in ("none", "package", "ours"):
        assert problems(config) == []
    assert problems("other", take_over=True) == []
    assert problems(api_keys={}, anonymous=True) == []
    assert problems(tls_certificate="/etc/ssl/edge.pem", tls_certificate_exists=True) == []
    assert problems(listeners=[{"port": 8080, "unit": "haproxy.service", "process": "haproxy", "pid": 1}]) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"api_keys": {}}, "gateway_api_keys is empty, so everybody"),
        ({"anonymous": True}, "gateway_anonymous is true and there are gateway_api_keys"),
        ({"api_keys": [KEY]}, "gateway_api_keys is not a mapping"),
        ({"api_keys": {"team a": KEY}}, "gateway_api_keys, entry 1 of 1: its name is none for a key"),
        (
            {"api_keys": {"a": "short"}},
            "gateway_api_keys, entry 1 of 1: write a name, and then a key of at least 24 characters",
        ),
        ({"api_keys": {"a": f"{KEY} x"}}, "gateway_api_keys, entry 1 of 1: write a name"),
        ({"api_keys": {"a": 12345678901234567890123456}}, "gateway_api_keys, entry 1 of 1: write a name"),
        ({"api_keys": {"a": f"{KEY},x"}}, "gateway_api_keys, entry 1 of 1: write a name"),
        ({"api_keys": {"b": KEY[::-1], KEY: "a"}}, "gateway_api_keys, entry 2 of 2: write a name"),
        ({"api_keys": {"a": KEY, "b": KEY}}, "gateway_api_keys: a and b have the same key"),
        ({"aliases": {"lora": "other"}}, "gateway_aliases.lora is 'other', which no host serves; the models are chat."),
        ({"aliases": {"chat": "chat"}}, "gateway_aliases.chat is the name of a model already"),
        ({"aliases": {"a b": "chat"}}, "gateway_aliases: 'a b' is no name of a model"),
        ({"routes": ["v1/models"]}, "gateway_routes: 'v1/models' is no path"),
        ({"routes": ["/v1/a if x"]}, "gateway_routes: '/v1/a if x' is no path"),
        ({"tls_certificate": "/none.pem"}, "gateway_tls_certificate is /none.pem, which is not on the gateway."),
        ({"tls_pem": "x"}, "gateway_tls_pem has to hold a certificate"),
        ({"config": "other"}, "/etc/haproxy/haproxy.cfg was written by somebody else"),
        (
            {"listeners": [{"port": 8080, "unit": "nginx.service", "process": "nginx", "pid": 7}]},
            "Port 8080 is already in use by nginx (nginx.service). Write another one in gateway_port",
        ),
    ],
)
def test_what_is_said_of_wishes(changed: dict[str, Any], said: str) -> None:
    (problem,) = problems(**changed)
    assert problem.startswith(said)
    assert KEY not in problem
