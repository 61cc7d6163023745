"""Drivers of a fleet that serves, in the order in which an operator meets it: each test begins where the last ended."""

from __future__ import annotations

import json

from conftest import NODES, play, recap
from testinfra.host import Host

from tests.deployments import unit
from tests.driver_nodes import boots, version
from tests.load import Running

FIRST, NEXT = "580.95.05", "580.105.08"
# The last test asks for as many answered requests at least.
REQUESTS = 3000
Nodes = dict[str, Host]


def starts(nodes: Nodes) -> dict[str, list[str]]:
    """Which start of the instance runs on each node."""
    return {name: unit(host, "chat", "InvocationID") for name, host in nodes.items()}


def in_state(gate: Host, state: str) -> list[str]:
    """Nodes that the gateway says are in a state."""
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8405/metrics').read().decode())"
    told = gate.check_output("python3 -c %s", script)
    lines = [line for line in told.splitlines() if line.startswith("haproxy_server_status{") and line.endswith(" 1")]
    return [name for name in NODES if any(f'server="{name}"' in line and f'state="{state}"' in line for line in lines)]


def installed(nodes: Nodes) -> dict[str, str]:
    """Version of the driver's packages on each node."""
    return {name: version(host, "nvidia-driver-cuda").split("-")[0] for name, host in nodes.items()}


def test_a_check_says_what_would_be_done_where(load: Running, nodes: Nodes, gate: Host) -> None:
    before = starts(nodes)
    run = play("drivers", "--check", cuda_driver_version=FIRST)
    assert run.code == 0, run.output
    for name in NODES:
        assert f"{name}: the NVIDIA driver would be installed ({FIRST})" in run.text
    assert run.text.count("vllm@chat would be drained, stopped, started again, warmed up") == len(NODES)
    assert recap(run, "changed") == dict.fromkeys(NODES, 1)
    assert starts(nodes) == before
    assert in_state(gate, "UP") == list(NODES)


def test_a_deployment_does_not_change_a_driver_below_an_engine(load: Running, nodes: Nodes) -> None:
    before = starts(nodes)
    run = play("deploy", cuda_driver_version=FIRST)
    assert run.code != 0
    assert "vllm@chat runs on this host, and the NVIDIA driver would be installed" in run.text, run.output
    assert "Run playbooks/drivers.yml" in run.text
    assert recap(run, "changed") == dict.fromkeys(NODES, 0)
    assert starts(nodes) == before


def test_host_after_host_gets_a_driver(load: Running, nodes: Nodes, gate: Host) -> None:
    before, booted = starts(nodes), {name: boots(host) for name, host in nodes.items()}
    run = play("drivers", cuda_driver_version=FIRST)
    assert run.code == 0, run.output
    assert installed(nodes) == dict.fromkeys(NODES, FIRST)
    assert {name: boots(host) for name, host in nodes.items()} == {name: number + 1 for name, number in booted.items()}
    assert not [name for name, start in starts(nodes).items() if start == before[name]]
    assert in_state(gate, "UP") == list(NODES)
    for host in nodes.values():
        assert host.service("vllm@chat").is_enabled
        assert not host.file("/etc/vllm/drivers.json").exists
        assert "<state>Completed</state>" in host.check_output("nvidia-smi -q -x")
    assert load.told()["faults"] == []
    again = play("drivers", cuda_driver_version=FIRST)
    assert (again.code, recap(again, "changed")) == (0, dict.fromkeys(NODES, 0)), again.output


def test_a_host_that_fails_ends_it_and_is_gone_on_with(load: Running, nodes: Nodes, gate: Host) -> None:
    model = "/var/lib/vllm/models/first/config.json"
    nodes["node2"].check_output("mv %s /root/config.json", model)
    run = play("drivers", cuda_driver_version=NEXT)
    nodes["node2"].check_output("mv /root/config.json %s", model)
    assert run.code != 0
    assert "node2 stays out of service (vllm@chat), and no further host was begun." in run.text, run.output
    assert "run the same command again" in run.text
    assert installed(nodes) == {"node1": NEXT, "node2": NEXT, "node3": FIRST}
    assert in_state(gate, "UP") == ["node1", "node3"]
    before = starts(nodes)
    assert load.told()["faults"] == []

    again = play("drivers", cuda_driver_version=NEXT)
    assert again.code == 0, again.output
    assert "node2: an earlier run is carried on" in again.text
    assert installed(nodes) == dict.fromkeys(NODES, NEXT)
    after = starts(nodes)
    assert [name for name in NODES if after[name] == before[name]] == ["node1"]
    assert in_state(gate, "UP") == list(NODES)
    assert load.told()["faults"] == []


def test_of_all_requests_none_failed_and_none_was_cut(load: Running) -> None:
    load.wait_for(REQUESTS, seconds=3600)
    told = load.stop()
    print(json.dumps(told, indent=2))
    assert (told["failed"], told["cut"], told["faults"]) == (0, 0, [])
    assert told["answered"] == told["sent"] >= REQUESTS
    assert told["streamed"] > REQUESTS / 4
