"""The gateway before two nodes: who gets what, and what changes under it cost nobody a request."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import HERE, KEY, SECONDS, Gateway, run_here
from testinfra.host import Host

from tests.deployments import unit
from tests.leaks import on_node


def wait_until(done: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_requests_are_spread(gateway: Gateway, traffic: Any) -> None:
    with traffic(requests=40) as running:
        report = running.wait(SECONDS)
    assert (report["answered"], report["failed"], report["cut"]) == (40, 0, 0), report
    assert report["models"] == {"chat": 40}
    assert set(report["servers"]) == {"node1", "node2"}
    assert min(report["servers"].values()) >= 10


def test_a_key_is_needed_and_other_paths_are_closed(gateway: Gateway) -> None:
    for key in (None, "sk-wrong"):
        status, answer, _header = gateway.ask("/v1/models", key=key)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert gateway.ask("/v1/models")[1]["data"][0]["id"] == "chat"
    # the engine itself offers these to everybody
    for path in ("/tokenize", "/metrics", "/version", "/invocations", "/ping", "/docs"):
        assert gateway.ask(path, {"model": "chat", "prompt": "x"})[0] == 404, path
    assert gateway.ask("/health", key=None)[0] == 200


def test_a_second_run_changes_nothing(play: Any) -> None:
    for arguments in ((), ("--check", "--diff")):
        again = play(*arguments)
        assert (again.code, again.count("changed")) == (0, 0), again.output
        assert KEY not in again.output


def test_no_key_is_on_the_gateway(gateway: Gateway) -> None:
    assert on_node("edge", [KEY]) == {}
    assert gateway.host.file("/etc/haproxy/vllm").mode == 0o700


def test_a_drain_cuts_nothing_and_outlives_reload_restart_and_the_playbook(
    gateway: Gateway, play: Any, move: Any, traffic: Any, tmp_path: Path
) -> None:
    hook = {"vllm_drain_tasks": str(HERE / "files/hook.yml"), "hook_file": str(tmp_path / "hook")}
    with traffic(stream_tokens=200) as running:
        running.wait_for(10, SECONDS)
        drained = move("drain", **hook)
        assert (drained.code, drained.count("changed")) == (0, 2), drained.output
        assert (tmp_path / "hook").read_text().split()[:2] == ["chat", "node1"]
        assert (tmp_path / "hook").read_text().split()[3] == "8000"
        before = running.told()["servers"].get("node1", 0)

        gateway.host.check_output("systemctl reload haproxy")
        again = play()
        assert (again.code, again.count("changed")) == (0, 0), again.output
        # a run that changes the configuration
        changed = play(gateway_queue_seconds=61)
        assert (changed.code, changed.count("failed")) == (0, 0), changed.output
        assert gateway.states() == {"node1": "DRAIN", "node2": "UP"}
        running.wait_for(running.told()["answered"] + 10, SECONDS)
        assert running.told()["servers"].get("node1", 0) == before
        assert move("drain").count("changed") == 0

        back = move("undrain")
        assert back.code == 0, back.output
        wait_until(lambda: running.told()["servers"].get("node1", 0) > before)
        report = running.stop(SECONDS)
    assert (report["failed"], report["cut"]) == (0, 0), report
    # a restart cuts what runs, as it must, and keeps the state
    assert move("drain").code == 0
    gateway.host.check_output("systemctl restart haproxy")
    wait_until(lambda: gateway.states() == {"node1": "DRAIN", "node2": "UP"}, 30)
    gateway.host.check_output("systemctl kill --signal=KILL haproxy")
    wait_until(lambda: gateway.states() == {"node1": "DRAIN", "node2": "UP"}, 30)
    assert move("undrain").code == 0


def test_the_last_server_is_kept_unless_requests_may_wait(gateway: Gateway, move: Any, traffic: Any) -> None:
    assert move("drain").code == 0
    refused = move("drain", host="node2")
    assert refused.code != 0
    assert "node2 is the last server of chat that gets requests" in refused.text
    with traffic(streamed=1, plain=1) as running:
        running.wait_for(2, SECONDS)
        assert move("drain", host="node2", gateway_drain_last=True).code == 0
        before = running.told()["answered"]
        assert gateway.ask("/health", key=None)[0] == 503
        assert running.told()["answered"] <= before + 2
        time.sleep(3)
        assert move("undrain", host="node2").code == 0
        report = running.wait_for(before + 4, SECONDS)
        report = running.stop(SECONDS)
    assert (report["failed"], report["cut"]) == (0, 0), report
    assert report["slowest_seconds"] > 2
    assert move("undrain").code == 0


def test_a_killed_engine_costs_only_what_it_had(gateway: Gateway, node1: Host, traffic: Any) -> None:
    with traffic() as running:
        running.wait_for(8, SECONDS)
        (pid,) = unit(node1, "chat", "MainPID")
        node1.check_output("systemctl kill --signal=KILL vllm@chat")
        wait_until(lambda: gateway.states().get("node1") == "DOWN", 30)
        assert gateway.chat()[0] == 200
        wait_until(lambda: gateway.states().get("node1") == "UP")
        assert unit(node1, "chat", "MainPID") != [pid]
        report = running.stop(SECONDS)
    # four workers, so at most four requests were with the engine
    assert report["failed"] + report["cut"] <= 4, report
    assert report["answered"] > 12


def test_a_server_with_another_model_gets_nothing(play: Any, gateway: Gateway) -> None:
    other = {"name": "other", "model": "/srv/other", "host": "0.0.0.0"}
    wrong = play(vllm_models=[other], gateway_up_seconds=10)
    assert wrong.code != 0
    assert "No server is up of other, after 10 s." in wrong.text, wrong.output
    assert gateway.ask("/health", key=None)[0] == 503
    loopback = play(vllm_models=[{**other, "host": "127.0.0.1"}])
    assert loopback.code != 0
    assert "node1: other listens on 127.0.0.1, where the gateway edge cannot reach it." in loopback.text
    assert play().code == 0
    assert gateway.chat()[0] == 200


def test_tls(play: Any, gateway: Gateway, tmp_path: Path) -> None:
    names = f"subjectAltName=IP:{gateway.address}"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=edge"]
    certificate, key = tmp_path / "edge.crt", tmp_path / "edge.key"
    subprocess.run([*command, "-addext", names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    made = play("--diff", gateway_tls_pem=certificate.read_text() + key.read_text())
    assert made.code == 0, made.output
    assert "PRIVATE KEY" not in made.output
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        socket.create_connection((gateway.address, 8080), 30) as plain,
        context.wrap_socket(plain, server_hostname=gateway.address) as secure,
    ):
        request = f"GET /v1/models HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
        secure.sendall(request.encode())
        answer = b"".join(iter(lambda: secure.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    assert json.loads(answer.split("\r\n\r\n", 1)[1])["data"][0]["id"] == "chat"
    assert gateway.host.file("/etc/haproxy/vllm/tls.pem").mode == 0o600
    assert play().code == 0
    assert not gateway.host.file("/etc/haproxy/vllm/tls.pem").exists
    assert gateway.chat()[0] == 200


def test_a_teardown_takes_the_gateway(gateway: Gateway) -> None:
    wanted = {"vllm_hosts": "edge"}
    predicted = run_here("playbooks/teardown.yml", "--check", **wanted)
    assert gateway.chat()[0] == 200
    done = run_here("playbooks/teardown.yml", teardown_confirm=True, **wanted)
    assert (predicted.code, done.code) == (0, 0), predicted.output + done.output
    assert predicted.count("changed") == done.count("changed") == 1
    assert not gateway.host.service("haproxy").is_running
    assert not gateway.host.service("haproxy").is_enabled
    left = gateway.host.run("grep -rIl gpufleet /etc /usr/local /var/lib/haproxy").stdout
    assert left == ""
    assert not gateway.host.file("/etc/haproxy/vllm").exists
    # The distribution's own is there to be had again.
    assert gateway.host.package("haproxy").is_installed
    assert run_here("playbooks/teardown.yml", teardown_confirm=True, **wanted).count("changed") == 0
