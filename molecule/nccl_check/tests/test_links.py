"""The links between two hosts: measured when they are well, and what is wrong with them named when they are not."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from conftest import PLAY, SECONDS, Check
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, Run, run_playbook, user_environment

RECORD = "/var/lib/vllm/checks/pair.json"


def seconds_of(run: Callable[[], Run]) -> tuple[Run, float]:
    """Run, and say how long it took."""
    begin = time.monotonic()
    done = run()
    return done, time.monotonic() - begin


def wait_until_back(node: Host) -> None:
    """Wait until a node answers again."""
    deadline = time.monotonic() + SECONDS + 60
    while True:
        try:
            node.check_output("true")
            return
        except RuntimeError:
            assert time.monotonic() < deadline
            time.sleep(1)


def test_a_healthy_pair_was_measured_by_converge(node1: Host, node2: Host) -> None:
    record = json.loads(node1.check_output("cat %s", RECORD))
    assert (record["state"], record["findings"]) == ("ok", [])
    measured = record["measured"]
    assert [one["bytes"] for one in measured["sizes"]] == [8, 64 * 1024, 1024**2, 16 * 1024**2]
    assert 0.05 < measured["bus_gb_s"] < 20
    assert 10 < measured["latency_us"] < 100_000
    assert json.loads(node2.check_output("cat %s", RECORD))["measured"] is None


def test_it_is_measured_once() -> None:
    again = run_playbook(PLAY)
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert "Wait for it" not in again.output


def test_check_mode_measures_nothing(node1: Host, check: Check) -> None:
    before = node1.check_output("stat --format %%y %s", RECORD)
    run = check("--check")
    assert (run.code, run.count("changed")) == (0, 0), run.output
    assert node1.check_output("stat --format %%y %s", RECORD) == before


def test_a_throttled_link_is_named(throttled: str, check: Check) -> None:
    run, seconds = seconds_of(check)
    assert run.code != 0
    assert "of the 0.5 GB/s that TCP over 10000 Mbit/s should" in run.text, run.output
    assert "look at the speed and the errors of host0 on each host" in run.text
    assert seconds < SECONDS + 20


def test_a_blocked_port_is_named(blocked_port: int, check: Check) -> None:
    run, seconds = seconds_of(check)
    assert run.code != 0
    assert "node2 cannot reach node1 (10." in run.text, run.output
    assert f"on TCP port {blocked_port} over host0: " in run.text
    assert "a firewall drops what node2 sends" in run.text
    assert seconds < SECONDS + 20


def test_a_node_that_does_not_know_its_name(nameless: str, check: Check) -> None:
    run = check()
    assert run.code == 0, run.output
    assert f"{nameless} cannot resolve its own name {nameless}: " in run.text, run.output


def test_an_interface_that_is_not_there(check: Check) -> None:
    run, seconds = seconds_of(lambda: check(pair_interface="eth7"))
    assert run.code != 0
    assert "pair: the interface eth7 is not on node1; write one of these in network_interface:" in run.text, run.output
    assert "host0 (10." in run.text
    assert seconds < 20


def test_an_interface_that_does_not_lead_there(apart: str, check: Check) -> None:
    run, seconds = seconds_of(lambda: check(pair_interface=apart))
    assert run.code != 0
    assert "node1 cannot reach node2 (10.99.1.1) on TCP port 29401 over apart0" in run.text, run.output
    assert "correct network_interface" in run.text
    assert seconds < SECONDS + 20


def test_a_node_that_vanishes_half_way(node1: Host, node2: Host, throttled: str) -> None:
    """Throttled, so that there is a middle in which it can vanish."""
    extra = json.dumps({"nccl_check_when": "always", "nccl_check_seconds": SECONDS})
    command = ["ansible-playbook", PLAY, "-i", str(FLEET / "hosts.yml"), "-e", extra]
    begin = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=user_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as play:
        while "size_begin" not in node1.run("cat /run/gpufleet-nccl/pair/events").stdout:
            assert time.monotonic() - begin < SECONDS
            time.sleep(0.2)
        # It goes a second later, so that this answer still comes, and returns by itself.
        away = f"sleep 1; ip link set host0 down; sleep {SECONDS}; ip link set host0 up"
        node2.check_output("systemd-run --quiet --unit=away sh -c %s", away)
        output, _ = play.communicate(timeout=4 * SECONDS)
    text = " ".join(output.split())
    assert "node2" in text
    assert time.monotonic() - begin < SECONDS + 30, output
    assert "pair: the all-reduce hangs" in text or "node2 stopped answering" in text, output
    wait_until_back(node2)
