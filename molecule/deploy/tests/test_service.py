"""The service as it runs on the node."""

from __future__ import annotations

import json
import re
import time

from testinfra.host import Host

from tests.deployments import ask, processes, unit, wait_for_answer

# Streams a long answer, stops the service in the middle, and prints what became of the stream.
DRAIN = r"""
import http.client, json, subprocess, time
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=120)
body = {"model": "alpha", "prompt": "Hello", "max_tokens": 900, "ignore_eos": True, "stream": True}
connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
response, stop, chunks, after_stop, done = connection.getresponse(), None, 0, 0, False
for line in response:
    if not line.startswith(b"data: "):
        continue
    if line.strip() == b"data: [DONE]":
        done = True
        continue
    chunks += 1
    if chunks == 5:
        stop = subprocess.Popen(["systemctl", "stop", "vllm@alpha"])
        while subprocess.run(["systemctl", "is-active", "-q", "vllm@alpha"]).returncode == 0:
            time.sleep(0.01)
        stopping_at = chunks
print(json.dumps({"chunks": chunks, "stopping_at": stopping_at, "done": done, "stop": stop.wait(120)}))
"""


def test_it_answers_with_two_ranks(host: Host) -> None:
    assert ask(host, "alpha", 8000)["usage"]["completion_tokens"] >= 1
    titles = list(processes(host, "alpha").values())
    assert sorted(title for title in titles if title.startswith("VLLM::Worker")) == [
        "VLLM::Worker_TP0",
        "VLLM::Worker_TP1",
    ]


def test_it_listens_on_loopback_only(host: Host) -> None:
    assert host.socket("tcp://127.0.0.1:8000").is_listening
    assert not host.socket("tcp://0.0.0.0:8000").is_listening
    address = host.interface("host0").addresses[0]
    refused = host.run("python3 -c %s", f"import socket; socket.create_connection(('{address}', 8000), 5)")
    assert "ConnectionRefusedError" in refused.stderr


def test_it_runs_as_its_own_user(host: Host) -> None:
    (pid,) = unit(host, "alpha", "MainPID")
    assert host.process.get(pid=int(pid)).user == "vllm"
    assert host.user("vllm").shell == "/usr/sbin/nologin"


def test_systemd_finds_no_fault_in_the_unit(host: Host) -> None:
    verified = host.run("systemd-analyze verify vllm@alpha.service")
    assert (verified.rc, verified.stdout, verified.stderr) == (0, "", "")


def test_the_exposure_is_low(host: Host) -> None:
    report = host.check_output("systemd-analyze security --no-pager vllm@alpha.service")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found
    assert float(found[1]) <= 2.0


def test_it_starts_with_the_host(host: Host) -> None:
    assert host.service("vllm@alpha").is_enabled
    assert host.service("vllm@beta").is_enabled


def test_a_killed_engine_comes_back(host: Host) -> None:
    restarts, main = unit(host, "beta", "NRestarts", "MainPID")
    (engine,) = [pid for pid, title in processes(host, "beta").items() if title.startswith("VLLM::EngineCore")]
    host.check_output("kill -9 %s", str(engine))
    deadline = time.monotonic() + 60
    while unit(host, "beta", "NRestarts")[0] == restarts:
        assert time.monotonic() < deadline, "systemd did not restart the service"
        time.sleep(0.5)
    assert wait_for_answer(host, "beta", 8001)["model"] == "beta"
    assert unit(host, "beta", "NRestarts", "MainPID") != [restarts, main]


def test_a_stop_lets_a_stream_finish(host: Host) -> None:
    outcome = json.loads(host.check_output("python3 -c %s", DRAIN))
    assert outcome["stop"] == 0
    assert outcome["done"]
    assert outcome["chunks"] >= 900
    assert outcome["stopping_at"] < outcome["chunks"]
    assert not host.service("vllm@alpha").is_running
    host.check_output("systemctl start vllm@alpha")
    wait_for_answer(host, "alpha", 8000)
