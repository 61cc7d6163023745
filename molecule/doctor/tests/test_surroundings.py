"""Faults around an engine that runs, a host that is not there, and the same verdicts from a recording."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MODEL, doctor, make_instance, verdicts, write
from testinfra.host import Host

from tests.deployments import run_playbook

RECEIPT = "/var/lib/vllm/receipts/chat.json"
CHECK = "/var/lib/vllm/checks/chat.json"
LINK = "/opt/vllm/instances/chat"
FINDING = {
    "id": "slow_links",
    "severity": "warn",
    "cause": "the links carry 0.012 GB/s, 2% of the 0.5 GB/s that TCP over 10000 Mbit/s should",
    "evidence": ["0, 1: 0.012 GB/s"],
    "remedies": ["look at the speed and the errors of host0 on each host"],
}
SECRET = "hf_" + "NeverLeavesTheHost1234"
KEY = "never-leaves-the-host-either"
# How each is made and undone, its instance and severity, and words of its evidence and remedies.
FAULTS: dict[str, tuple[str, str, str | None, str, str, str]] = {
    "disk_almost_full": (
        "mount -t tmpfs -o size=8m tmpfs /var/cache/vllm && head -c 7900k /dev/zero > /var/cache/vllm/full",
        "umount /var/cache/vllm",
        *(None, "warn", "df /var/cache/vllm: 0 of 8 MiB free", "Remove what is not needed"),
    ),
    "shm_almost_full": (
        "mount -o remount,size=64m /dev/shm",
        "mount -o remount,size=2g /dev/shm",
        *(None, "warn", "of 64 MiB free", "remount,size=8G"),
    ),
    "compiler_missing": (
        "mkdir /root/aside && mv /usr/bin/gcc /usr/bin/cc /root/aside",
        "mv /root/aside/* /usr/bin && rmdir /root/aside",
        *(None, "warn", "no gcc, cc or clang", "the role engine installs it"),
    ),
    "model_incomplete": (
        f"mv {MODEL}/model.safetensors {MODEL}/aside",
        f"mv {MODEL}/aside {MODEL}/model.safetensors",
        *("chat", "fail", "safetensors", "it fetches or copies what is missing"),
    ),
    "receipt_damaged": (
        f"cp {RECEIPT} {RECEIPT}.kept && truncate --size 100 {RECEIPT}",
        f"mv {RECEIPT}.kept {RECEIPT}",
        *("chat", "warn", "chat.json: no JSON", "Remove it and run deploy.yml"),
    ),
    "daemon_reload": (
        "mkdir -p /etc/systemd/system/vllm@chat.service.d && "
        "printf '[Service]\\nNice=1\\n' > /etc/systemd/system/vllm@chat.service.d/nice.conf",
        "rm -r /etc/systemd/system/vllm@chat.service.d && systemctl daemon-reload",
        *("chat", "warn", "NeedDaemonReload=yes", "systemctl daemon-reload"),
    ),
    "release_gone": (
        f"mv {LINK} {LINK}.kept",
        f"mv {LINK}.kept {LINK}",
        *("chat", "fail", f"{LINK}/bin/vllm: not there", "installs the release"),
    ),
    "nccl_check_slow_links": (
        "mkdir -p /var/lib/vllm/checks && printf %s "
        f"'{json.dumps({'state': 'warn', 'findings': [FINDING]})}' > {CHECK}",
        f"rm {CHECK}",
        *("chat", "warn", "0, 1: 0.012 GB/s", "Look at the speed and the errors of host0"),
    ),
}


@pytest.fixture(scope="module")
def spoiled(host: Host) -> Iterator[dict[str, Any]]:
    """All of them at once around the engine that serves, and the doctor's report."""
    for make, *_rest in FAULTS.values():
        host.check_output("sh -c %s", make)
    run, found = doctor()
    for _make, undo, *_rest in FAULTS.values():
        host.check_output("sh -c %s", undo)
    assert run.code != 0, run.output
    yield found


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_around_an_engine(spoiled: dict[str, Any], name: str) -> None:
    _make, _undo, instance, severity, in_evidence, in_remedies = FAULTS[name]
    (one,) = (verdict for verdict in verdicts(spoiled, instance) if verdict["id"] == name)
    assert one["severity"] == severity
    assert any(in_evidence in line for line in one["evidence"]), one
    assert any(in_remedies in remedy for remedy in one["remedies"]), one
    assert one["cause"]


def test_nothing_else_is_told(spoiled: dict[str, Any]) -> None:
    assert {one["id"] for one in spoiled["hosts"]["node1"]["verdicts"]} == set(FAULTS)


def test_a_host_that_cannot_be_reached_is_a_line(host: Host) -> None:
    written = json.loads(host.check_output("cat %s", RECEIPT))
    host.check_output("cp %s /root/receipt", RECEIPT)
    write(host, RECEIPT, json.dumps({**written, "process": {**written["process"], "pid": 1}}))
    run, found = doctor("-i", "nobody.invalid,", doctor_request=False)
    host.check_output("mv /root/receipt %s", RECEIPT)
    assert run.code != 0
    assert found["summary"]["lost"] == ["nobody.invalid"]
    assert found["hosts"]["nobody.invalid"]["state"] == "unreachable"
    assert "nobody.invalid: unreachable: " in run.output
    (one,) = found["hosts"]["node1"]["verdicts"]
    assert (one["id"], one["severity"]) == ("not_warmed_up", "warn")


def test_a_recording_gives_the_same_verdicts_and_holds_no_secret(host: Host, tmp_path: Path) -> None:
    said = f"Authorization: Bearer {KEY}, token {SECRET}, unrecognized"
    drop_in = f'ExecStart=\nExecStart=/bin/sh -c \'echo "{said}"; echo "vllm: error: {said}"; exit 2\'\n'
    make_instance(host, "talks", {"port": 8190}, {}, drop_in)
    host.check_output("systemctl daemon-reload")
    host.run("systemctl start vllm@talks")
    host.check_output("systemctl stop vllm@chat")
    host.check_output("systemd-run --quiet --unit squatter python3 -m http.server 8000")
    run, live = doctor()
    recorded = run_playbook("playbooks/record.yml", extra={"record_folder": str(tmp_path)})
    host.check_output("systemctl stop squatter")
    host.run("rm -rf /etc/vllm/talks.* /etc/systemd/system/vllm@talks.service.d /opt/vllm/instances/talks")
    assert run.code != 0
    assert recorded.code == 0, recorded.output
    ids = {(one["instance"], one["id"]) for one in live["hosts"]["node1"]["verdicts"]}
    assert ids == {("talks", "wrong_option"), ("chat", "port_held")}, run.output
    again, found = doctor(doctor_recorded=str(tmp_path))
    assert again.code != 0
    assert found["hosts"]["node1"]["state"] == "recorded"
    assert {(one["instance"], one["id"]) for one in found["hosts"]["node1"]["verdicts"]} == ids
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "node1").iterdir()]
    assert not any(secret in text for secret in (SECRET, KEY) for text in (*texts, run.output, again.output))
    assert any("journal-chat.txt" in path.name for path in (tmp_path / "node1").iterdir())
