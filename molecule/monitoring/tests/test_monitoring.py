"""A real Prometheus that scrapes a real vLLM: targets, the queries of the dashboard, the rules."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from conftest import Watch
from testinfra.host import Host

from tests.deployments import processes, wait_for_answer
from tests.prometheus_server import METRIC, Get, ask, queries, wait_for

FOLDER = "/etc/prometheus/vllm"
# Plain and streamed requests, one that the server refuses, and one that its client gives up.
TRAFFIC = r"""
import json, urllib.error, urllib.request as u
def send(path, **body):
    request = u.Request("http://127.0.0.1:8000" + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return u.urlopen(request, timeout=60)
chat = dict(model="alpha", messages=[dict(role="user", content="Hello")], max_tokens=16, ignore_eos=True)
for stream in (False, True) * 4:
    assert send("/v1/chat/completions", stream=stream, **chat).read()
try:
    send("/v1/completions", model="nobody", prompt="Hello")
except urllib.error.HTTPError as refused:
    assert refused.code == 404
given_up = send("/v1/completions", model="alpha", prompt="Hello", max_tokens=1800, ignore_eos=True, stream=True)
given_up.readline()
given_up.close()
"""
# A stream that has begun when the engine is stopped.
STUCK = r"""
import json, os, signal, sys, time, urllib.request as u
body = dict(model="alpha", prompt="Hello", max_tokens=1900, ignore_eos=True, stream=True)
kind = {"Content-Type": "application/json"}
request = u.Request("http://127.0.0.1:8000/v1/completions", json.dumps(body).encode(), kind)
answer = u.urlopen(request, timeout=60)
for _ in range(20):
    answer.readline()
os.kill(int(sys.argv[1]), signal.SIGSTOP)
time.sleep(25)
os.kill(int(sys.argv[1]), signal.SIGCONT)
assert b"[DONE]" in answer.read()
"""


def send_traffic(host: Host) -> None:
    host.check_output("python3 -c %s", TRAFFIC)


def test_what_is_scraped(host: Host, prometheus: Get) -> None:
    written = json.loads(host.file(f"{FOLDER}/targets.json").content_string)
    assert [(group["targets"], group["labels"]["job"]) for group in written] == [
        (["127.0.0.1:8000"], "vllm"),
        (["127.0.0.1:9400"], "dcgm"),
    ]
    wait_for(prometheus, "count(up == 1) == 2")
    (series,) = ask(prometheus, 'up{job="vllm"}')
    assert series["metric"] == {
        "__name__": "up",
        "job": "vllm",
        "instance": "127.0.0.1:8000",
        "host": "node1",
        "vllm_instance": "alpha",
        "model": written[0]["labels"]["model"],
    }


def test_a_second_run_changes_nothing(watch: Watch) -> None:
    again = watch()
    assert (again.code, again.count("changed")) == (0, 0), again.output


def test_every_query_of_vllm_finds_a_number_after_real_requests(host: Host, prometheus: Get) -> None:
    found = queries(json.loads(host.file(f"{FOLDER}/dashboard.json").content_string))
    # Rates need a sample from before.
    send_traffic(host)
    time.sleep(6)
    send_traffic(host)
    wait_for(prometheus, 'sum(vllm:request_success_total{finished_reason="length"}) >= 16')
    for heading in ("Fleet", "Latency", "Throughput and queue", "KV cache", "Errors", "GPUs"):
        assert found[heading]
        for _title, text in found[heading]:
            wait_for(prometheus, text)


def test_the_numbers_are_those_of_the_requests(prometheus: Get) -> None:
    # The client that hung up is counted nowhere, as docs/monitoring.md says.
    assert wait_for(prometheus, 'sum(vllm:request_success_total{finished_reason="abort"})') == [0]
    assert wait_for(prometheus, 'sum(http_requests_total{status="4xx"})')[0] >= 2
    (first,) = wait_for(prometheus, "max(instance:vllm_time_to_first_token_seconds:p95_10m)")
    assert 0.001 < first < 60


def test_every_metric_of_the_rules_about_vllm_is_said_by_the_server(host: Host, prometheus: Get) -> None:
    names = {name for name in METRIC.findall(host.file(f"{FOLDER}/rules.yml").content_string) if "haproxy" not in name}
    assert len({name for name in names if name.startswith("vllm:")}) >= 9
    for name in names:
        wait_for(prometheus, name)


def test_prometheus_has_read_the_rules_and_finds_nothing_wrong(host: Host, prometheus: Get) -> None:
    assert "SUCCESS: 32 rules found" in host.check_output("promtool check rules %s/rules.yml", FOLDER)
    groups = json.loads(prometheus("/api/v1/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 32
    assert {rule["health"] for rule in rules} == {"ok"}
    assert not ask(prometheus, 'ALERTS{alertstate="firing"}')


def test_changed_rules_are_read_without_a_restart(host: Host, watch: Watch, prometheus: Get) -> None:
    pid = host.check_output("systemctl show --property MainPID prometheus")
    run = watch(monitoring_thresholds={"first_token_seconds": 0.0001, "least_requests": 1})
    assert (run.code, run.count("changed")) == (0, 2), run.output
    wait_for(prometheus, 'ALERTS{alertname="VllmFirstTokenSlow"}')
    assert watch().code == 0
    assert host.check_output("systemctl show --property MainPID prometheus") == pid


def test_an_engine_that_hangs_while_it_works_is_seen(host: Host, prometheus: Get) -> None:
    """The rule waits minutes; what it asks for is asked of some seconds here."""
    groups = json.loads(prometheus("/api/v1/rules"))["data"]["groups"]
    (rule,) = [rule for group in groups for rule in group["rules"] if rule["name"] == "VllmEngineStuck"]
    query, changed = re.subn(r"\[5m\]", "[10s]", rule["query"])
    assert changed == 1
    assert not ask(prometheus, query)
    (engine,) = [pid for pid, title in processes(host, "alpha").items() if title.startswith("VLLM::EngineCore")]
    host.check_output("systemd-run --quiet --unit=stuck python3 -c %s %s", STUCK, str(engine))
    wait_for(prometheus, query, seconds=24)
    # What /health says of it, and why it is not enough.
    health = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/health', timeout=5).status)"
    assert host.check_output("python3 -c %s", health) == "200"
    wait_for_answer(host, "alpha", 8000)
    deadline = time.monotonic() + 60
    while ask(prometheus, query):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_an_instance_that_is_stopped_is_seen(host: Host, prometheus: Get) -> None:
    host.check_output("systemctl stop vllm@alpha")
    wait_for(prometheus, 'ALERTS{alertname="VllmInstanceDown", alertstate="pending", vllm_instance="alpha"}')
    host.check_output("systemctl start vllm@alpha")
    wait_for_answer(host, "alpha", 8000)
    wait_for(prometheus, 'changes(process_start_time_seconds{job="vllm"}[1h]) == 1')


def test_the_exporter_is_run_as_it_is_told(host: Host) -> None:
    assert host.service("nvidia-dcgm-exporter").is_enabled
    assert host.socket("tcp://127.0.0.1:9400").is_listening
    assert not host.socket("tcp://0.0.0.0:9400").is_listening
    assert (
        host.check_output("systemctl show --property StandardOutput nvidia-dcgm-exporter") == "StandardOutput=journal"
    )


def test_a_package_that_is_not_to_be_had_is_told_of(watch: Watch) -> None:
    run = watch(monitoring_dcgm_package="datacenter-gpu-manager-exporter-9")
    assert run.code != 0
    assert "datacenter-gpu-manager-exporter-9 cannot be installed: " in run.text
    assert "It is in NVIDIA's CUDA repository. The role cuda makes that known" in run.text


def test_check_mode_tells_the_truth(host: Host, watch: Watch) -> None:
    before = host.check_output("md5sum %s/*", FOLDER)
    run = watch("--check", "--diff", monitoring_thresholds={"down_minutes": 3}, monitoring_dcgm_port=9500)
    assert run.code == 0, run.output
    assert "for: 3m" in run.output
    assert "127.0.0.1:9500" in run.output
    assert host.check_output("md5sum %s/*", FOLDER) == before


def test_from_the_control_node_a_loopback_instance_is_refused(watch: Watch, tmp_path: Path) -> None:
    elsewhere = {"prometheus_hosts": "localhost", "monitoring_reload_unit": "", "monitoring_promtool": ""}
    files = {
        "monitoring_targets_file": str(tmp_path / "targets.json"),
        "monitoring_rules_file": "",
        "monitoring_dashboard_file": "",
    }
    run = watch(**elsewhere, **files)
    assert run.code != 0
    assert "node1: 'alpha' listens on 127.0.0.1 only, which Prometheus on localhost cannot reach. Write " in run.text
    assert list(tmp_path.iterdir()) == []
    run = watch(**elsewhere, **files, monitoring_loopback="skip")
    assert run.code == 0, run.output
    assert "It is left out (monitoring_loopback: skip)." in run.text
    assert [group["labels"]["job"] for group in json.loads((tmp_path / "targets.json").read_text())] == ["dcgm"]


def test_what_is_written_wrongly_is_said(watch: Watch) -> None:
    run = watch(monitoring_thresholds={"kv_cache_usage": 95})
    assert run.code != 0
    assert "kv_cache_usage is 95" in run.text
    run = watch(monitoring_targets_file="/etc/prometheus/vllm/targets")
    assert run.code != 0
    assert "Prometheus reads only files that end with .json, .yml or .yaml." in run.text
