"""What Prometheus scrapes, from the inventory alone."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.scrape_targets import split_gateway, targets

CHAT = {"name": "chat", "model": "Qwen/Qwen3-8B", "host": "0.0.0.0"}
LABELS = {"job": "vllm", "host": "gpu01", "vllm_instance": "chat", "model": "Qwen/Qwen3-8B"}


def host(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"vllm_models": list(entries), "ansible_host": "10.0.0.11", **more}


def addresses(found: dict[str, Any], job: str = "vllm") -> list[str]:
    return [one["targets"][0] for one in found["targets"] if one["labels"]["job"] == job]


def test_an_instance_is_a_target_with_few_labels() -> None:
    found = targets({"gpu01": host(CHAT)})
    assert found == {
        "targets": [{"targets": ["10.0.0.11:8000"], "labels": LABELS}],
        "problems": [],
        "left_out": [],
    }


@pytest.mark.parametrize(
    ("entry", "said", "address", "more"),
    [
        pytest.param({"port": 8001}, {}, "10.0.0.11:8001", {}, id="a port of its own"),
        pytest.param({"host": "10.1.0.11"}, {}, "10.1.0.11:8000", {}, id="an address of its own"),
        pytest.param({"host": "fd00::11"}, {}, "[fd00::11]:8000", {}, id="IPv6"),
        pytest.param({"host": "::"}, {"monitoring_address": "fd00::11"}, "[fd00::11]:8000", {}, id="all of IPv6"),
        pytest.param({}, {"monitoring_address": "gpu01.lan"}, "gpu01.lan:8000", {}, id="monitoring_address"),
        pytest.param({}, {"ansible_host": None}, "gpu01:8000", {}, id="no address but the name"),
        pytest.param(
            {}, {"engine_version": "0.33.0"}, "10.0.0.11:8000", {"release": "0.33.0"}, id="release of the host"
        ),
        pytest.param(
            {"engine_version": "0.32.0"},
            {"engine_version": "0.33.0"},
            "10.0.0.11:8000",
            {"release": "0.32.0"},
            id="release of its own",
        ),
        pytest.param(
            {"extra_args": {"ssl_certfile": "/etc/ssl/a.pem"}},
            {},
            "10.0.0.11:8000",
            {"__scheme__": "https"},
            id="TLS",
        ),
    ],
)
def test_where_and_with_what(entry: dict[str, Any], said: dict[str, Any], address: str, more: dict[str, str]) -> None:
    found = targets({"gpu01": host({**CHAT, **entry}, **said)})
    assert found["targets"] == [{"targets": [address], "labels": {**LABELS, **more}}]


def test_a_copied_model_is_named_by_what_is_written() -> None:
    found = targets({"gpu01": host({"name": "a", "model_source": "/srv/tiny", "host": "0.0.0.0"})})
    assert found["targets"][0]["labels"]["model"] == "/srv/tiny"


def test_of_several_nodes_only_the_first_is_scraped() -> None:
    pair = {**CHAT, "nodes": ["gpu02", "gpu01"], "network_interface": "eth1"}
    found = targets({"gpu01": host(pair), "gpu02": host(pair, ansible_host="10.0.0.12")})
    assert addresses(found) == ["10.0.0.12:8000"]
    assert found["problems"] == []


@pytest.mark.parametrize("listens", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_is_scraped_from_the_host_itself_only(listens: str) -> None:
    hosts = {"gpu01": host({**CHAT, "host": listens})}
    written = "[::1]:8000" if listens == "::1" else f"{listens}:8000"
    assert addresses(targets(hosts, scraper="gpu01")) == [written]
    (problem,) = targets(hosts, scraper="mon01")["problems"]
    assert problem.startswith(
        f"gpu01: 'chat' listens on {listens} only, which Prometheus on mon01 cannot reach. Write "
    )
    assert "prometheus_hosts=gpu01" in problem
    assert "monitoring_loopback: skip" in problem
    skipped = targets(hosts, scraper="mon01", loopback="skip")
    assert (skipped["targets"], skipped["problems"], len(skipped["left_out"])) == ([], [], 1)


def test_loopback_is_the_default() -> None:
    entry = {"name": "chat", "model": "/srv/m"}
    assert targets({"gpu01": host(entry)})["problems"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [({"disable-log-stats": True}, "metrics of the engine are off"), ({"uds": "/run/a"}, "socket")],
)
def test_an_instance_without_metrics_is_left_out(arguments: dict[str, Any], why: str) -> None:
    found = targets({"gpu01": host({**CHAT, "extra_args": arguments})})
    assert found["targets"] == []
    assert why in found["left_out"][0]
    assert targets({"gpu01": host({**CHAT, "extra_args": {"disable-log-stats": False}})})["targets"]


def test_exporters_of_hosts_that_have_them() -> None:
    found = targets(
        {
            "gpu01": host(CHAT, monitoring_dcgm_exporter=True, monitoring_node_exporter_port=9100),
            "gpu02": host(CHAT, monitoring_dcgm_exporter=True, monitoring_dcgm_port=9500, ansible_host="10.0.0.12"),
            "gpu03": host(CHAT, ansible_host="10.0.0.13"),
            "mon01": {"monitoring_node_exporter_port": 9100},
        }
    )
    assert addresses(found, "dcgm") == ["10.0.0.11:9400", "10.0.0.12:9500"]
    assert addresses(found, "node") == ["10.0.0.11:9100"]


@pytest.mark.parametrize(
    ("gateway", "parts", "address"),
    [
        ("lb01", ("lb01", ""), "10.0.0.2:8405"),
        ("lb01:9000", ("lb01", "9000"), "10.0.0.2:9000"),
        ("lb02.lan", ("lb02.lan", ""), "lb02.lan:8405"),
        ("10.0.0.9:1", ("10.0.0.9", "1"), "10.0.0.9:1"),
        ("fd00::2", ("fd00::2", ""), "[fd00::2]:8405"),
        ("[fd00::2]", ("fd00::2", ""), "[fd00::2]:8405"),
        ("[fd00::2]:9000", ("fd00::2", "9000"), "[fd00::2]:9000"),
    ],
)
def test_gateways(gateway: str, parts: tuple[str, str], address: str) -> None:
    assert split_gateway(gateway) == parts
    found = targets({"lb01": {"ansible_host": "10.0.0.2", "gateway_metrics_bind": "0.0.0.0"}}, gateways=[gateway])
    assert found["targets"] == [{"targets": [address], "labels": {"job": "vllm-gateway", "host": parts[0]}}]


@pytest.mark.parametrize(
    ("said", "scraper", "address"),
    [
        ({"gateway_metrics_bind": "10.1.0.2"}, "mon01", "10.1.0.2:8405"),
        ({"gateway_metrics_bind": "::", "gateway_metrics_port": 9000}, "mon01", "10.0.0.2:9000"),
        ({}, "lb01", "127.0.0.1:8405"),
        ({"gateway_metrics_bind": "127.0.0.1"}, "mon01", None),
        ({}, "mon01", None),
    ],
)
def test_the_gateway_of_the_role_says_where_its_metrics_are(
    said: dict[str, Any], scraper: str, address: str | None
) -> None:
    hosts = {"lb01": {"ansible_host": "10.0.0.2", **said}}
    found = targets(hosts, scraper=scraper, gateways=["lb01"])
    if address:
        assert (addresses(found, "vllm-gateway"), found["problems"]) == ([address], [])
        return
    (problem,) = found["problems"]
    assert problem.startswith(
        "lb01: the metrics of the gateway are on 127.0.0.1 only, which Prometheus on mon01 cannot"
    )
    assert "gateway_metrics_bind" in problem
    skipped = targets(hosts, scraper=scraper, gateways=["lb01"], loopback="skip")
    assert (skipped["targets"], len(skipped["left_out"])) == ([], 1)


@pytest.mark.parametrize("gateway", ["", ":8405", "lb01:metrics"])
def test_what_is_no_gateway(gateway: str) -> None:
    (problem,) = targets({}, gateways=[gateway])["problems"]
    assert problem.startswith(f"'{gateway}' is no gateway that can be scraped; write ")


def test_faults_of_the_inventory_are_told_for_each_host() -> None:
    found = targets({"gpu01": host({**CHAT, "prot": 1}), "gpu02": host({**CHAT, "prot": 1}), "gpu03": host(CHAT)})
    assert [problem.split(" has ")[0] for problem in found["problems"]] == [
        "gpu01: vllm_models[0] (chat)",
        "gpu02: vllm_models[0] (chat)",
    ]
    assert len(found["targets"]) == 1


@pytest.mark.parametrize("hosts", [{}, {"web01": {}}, {"web01": {"vllm_models": []}}])
def test_nothing_to_scrape_is_said(hosts: dict[str, Any]) -> None:
    (problem,) = targets(hosts)["problems"]
    assert problem.startswith("There is nothing to scrape")
