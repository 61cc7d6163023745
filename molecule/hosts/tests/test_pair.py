"""One engine over two nodes: how it is deployed, and what it does when a part of it goes away."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from conftest import NAME, PORT, Deploy, Pair

from tests.deployments import ask, run_playbook, unit

RECEIPT = f"/var/lib/vllm/receipts/{NAME}.json"


def main_engine(pair: Pair, host_number: int) -> str:
    """The pid of vLLM's main process on a host: the child of the unit's main process."""
    host = pair.hosts[host_number]
    (main,) = unit(host, NAME, "MainPID")
    pid: str = host.check_output("cat /proc/%s/task/%s/children", main, main).split()[0]
    return pid


def test_each_node_runs_a_rank(serving: Pair) -> None:
    workers = [
        sorted(title for title in serving.engine(host).values() if title.startswith("VLLM::Worker"))
        for host in serving.hosts
    ]
    assert workers == [["VLLM::Worker_TP0"], ["VLLM::Worker_TP1"]]
    assert serving.status() == [f"runs as rank {rank} of node1, node2" for rank in range(2)]
    assert ask(serving.head, NAME, PORT)["usage"]["completion_tokens"] >= 1


def test_only_the_head_listens(serving: Pair) -> None:
    assert serving.head.socket(f"tcp://127.0.0.1:{PORT}").is_listening
    assert not serving.other.socket(f"tcp://127.0.0.1:{PORT}").is_listening
    address = serving.head.interface("host0").addresses[0]
    assert serving.head.socket(f"tcp://{address}:29502").is_listening
    assert not serving.head.socket("tcp://0.0.0.0:29502").is_listening


def test_each_host_has_a_receipt(serving: Pair) -> None:
    head, other = (json.loads(host.check_output("cat %s", RECEIPT)) for host in serving.hosts)
    assert [one["layout"]["node_rank"] for one in (head, other)] == [0, 1]
    assert [node["host"] for node in other["layout"]["nodes"]] == ["node1", "node2"]
    assert head["engine"]["release"] == other["engine"]["release"] == "0.32.0-cpu"
    assert head["warmup"]["requests"] > 1
    assert other["warmup"] is None
    assert head["actual"]["kv_cache_tokens"] > 0


def test_the_status_shows_both(serving: Pair, tmp_path: Path) -> None:
    report = tmp_path / "status.json"
    run = run_playbook("playbooks/status.yml", extra={"status_report": str(report)})
    assert "2 hosts, 0 without an answer; 2 instances, 2 serving." in run.output, run.output
    assert "TP2 CPU, host 2 of 2" in run.output
    hosts = json.loads(report.read_text())["hosts"]
    assert all(hosts[name]["instances"][0]["warm"] for name in ("node1", "node2"))


def test_systemd_finds_no_fault_in_the_unit(pair: Pair) -> None:
    for host in pair.hosts:
        verified = host.run("systemd-analyze verify vllm@pair.service")
        assert (verified.rc, verified.stdout, verified.stderr) == (0, "", "")


def killed(serving: Pair, host_number: int) -> float:
    """Kill vLLM on a host, and wait until the engine answers again; returns the seconds that took."""
    starts, restarts = serving.starts(), serving.restarts()
    begin = time.monotonic()
    serving.hosts[host_number].check_output("kill -9 %s", main_engine(serving, host_number))
    # both end at once, and not when the next request comes
    serving.wait_for(lambda: all(new != old for new, old in zip(serving.starts(), starts)), 60)
    serving.wait_until_back()
    assert serving.restarts() == [number + 1 for number in restarts]
    return time.monotonic() - begin


def test_a_killed_headless_rank(serving: Pair) -> None:
    print(f"back after {killed(serving, 1):.0f} s")
    journal = serving.head.check_output("journalctl --unit vllm@pair --lines 400 --output cat --no-pager")
    assert ") is gone (its connection was closed), so the engine is ended here too" in journal


def test_a_killed_head(serving: Pair) -> None:
    print(f"back after {killed(serving, 0):.0f} s")


def test_a_unit_that_is_stopped_on_one_host(serving: Pair) -> None:
    """Both stop, the other one waits and does not start again and again; a start brings both back."""
    restarts = serving.restarts()
    serving.other.check_output("systemctl stop vllm@pair")
    assert serving.engine(serving.other) == {}
    serving.wait_for(lambda: serving.status()[0].startswith("waiting for node2 (10."), 60)
    time.sleep(30)
    assert serving.status()[0].startswith("waiting for node2 (10.")
    assert serving.engine(serving.head) == {}
    assert [host.run("systemctl is-active vllm@pair").stdout.strip() for host in serving.hosts] == [
        "active",
        "inactive",
    ]
    assert serving.restarts()[0] == restarts[0] + 1
    shown = run_playbook("playbooks/status.yml")
    assert "node1: pair is waiting" in shown.text
    serving.other.check_output("systemctl start vllm@pair")
    print(f"back after {serving.wait_until_back():.0f} s")
    assert serving.restarts()[0] == restarts[0] + 1


def test_a_node_that_is_rebooted(serving: Pair) -> None:
    booted = serving.other.check_output("cat /proc/1/stat | cut -d' ' -f22")
    before = serving.starts()
    serving.other.run("systemctl reboot")
    serving.wait_for(lambda: serving.other.check_output("cat /proc/1/stat | cut -d' ' -f22") != booted, 120)
    serving.wait_for(lambda: all(new != old for new, old in zip(serving.starts(), before)), 120)
    print(f"back after {serving.wait_until_back():.0f} s")


def test_a_run_after_that_warms_up_again_and_the_next_changes_nothing(serving: Pair, deploy: Deploy) -> None:
    before = serving.starts()
    run = deploy()
    assert run.code == 0, run.output
    # The receipt, which is of other processes now, and the good state with it.
    assert run.output.count("changed=2 ") == 2, run.output
    again = deploy()
    assert again.code == 0, again.output
    assert again.output.count("changed=0") == 2, again.output
    assert serving.starts() == before


def test_a_run_without_one_of_the_hosts(pair: Pair, deploy: Deploy) -> None:
    before = pair.starts()
    refused = deploy("--limit=node1")
    assert refused.code != 0
    assert "pair: 'nodes' names node2, which this run has not looked at." in refused.text
    assert pair.starts() == before


def test_hosts_that_do_not_agree(pair: Pair, deploy: Deploy, entry: dict[str, Any]) -> None:
    before = pair.starts()
    length = "{{ 512 if inventory_hostname == 'node1' else 256 }}"
    refused = deploy(vllm_models=[{**entry, "max_model_len": length}])
    assert refused.code != 0
    assert "pair: Its entries on node1 and node2 differ (max_model_len is 512 and 256)." in refused.text
    assert pair.starts() == before


def test_an_interface_that_is_not_there(pair: Pair, deploy: Deploy, entry: dict[str, Any]) -> None:
    refused = deploy(vllm_models=[{**entry, "network_interface": "eth7"}])
    assert refused.code != 0
    assert "pair: The interface eth7 is not on node1. Write one of these in network_interface:" in refused.text


def test_a_port_between_the_hosts_that_is_taken(pair: Pair, deploy: Deploy, entry: dict[str, Any]) -> None:
    listen = "import socket,time; s=socket.create_server(('',29601)); time.sleep(600)"
    pair.head.check_output("systemd-run --quiet --unit=taken python3 -c %s", listen)
    try:
        refused = deploy(vllm_models=[{**entry, "master_port": 29600}])
    finally:
        pair.head.check_output("systemctl stop taken")
    assert refused.code != 0
    assert "pair: port 29601 is already in use by python3" in refused.text
    assert "Give the instance another 'master_port'" in refused.text
