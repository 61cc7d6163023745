"""The module instance_state on files of a test; systemd is played by a table of processes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt
from ansible_collections.gpufleet.vllm.plugins.modules import instance_state

from tests.unit.plugins.modules.running import run

OURS = "# Written by Ansible (gpufleet.vllm.serve); changes made here are lost.\n"


@dataclass
class Machine:
    """A host: its files below ``root``, the digests of what runs, and what systemctl was told."""

    root: Path
    capsys: pytest.CaptureFixture[str]
    running: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def deploy(self, name: str, digest: str, release: str, *, proven: bool = True, link: str | None = None) -> None:
        """Write what the roles write, and start it."""
        settings = self.root / "etc/vllm"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / f"{name}.yaml").write_text(f"{OURS}model: org/model\nport: 8000\nrevision: {digest}\n")
        (settings / f"{name}.env").write_text(f"{OURS}GPUFLEET_DIGEST={digest}\n")
        drop_ins = self.root / f"units/vllm@{name}.service.d"
        drop_ins.mkdir(parents=True, exist_ok=True)
        (self.root / "units/vllm@.service").write_text(f"{OURS}[Unit]\n")
        (drop_ins / "hf_token.conf").write_text(f"{OURS}[Service]\nLoadCredential=hf_token:/etc/credstore/{digest}\n")
        (drop_ins / "mine.conf").write_text("[Service]\nEnvironment=VLLM_API_KEY=secret\n")
        (self.root / "opt/releases" / release).mkdir(parents=True, exist_ok=True)
        (self.root / "opt/releases" / release / "release.json").write_text("{}")
        (self.root / "opt/instances").mkdir(exist_ok=True)
        (self.root / "opt/instances" / name).unlink(missing_ok=True)
        (self.root / "opt/instances" / name).symlink_to(link or f"../releases/{release}")
        self.running[name] = digest
        if proven:
            (self.root / "receipts").mkdir(exist_ok=True)
            process = {"invocation": digest, "pid": 1, "digest": digest}
            warmup = {"first_token_seconds": 0.1, "tokens_per_second": 9.0}
            text = json.dumps({"schema_version": receipt.SCHEMA_VERSION, "process": process, "warmup": warmup})
            (self.root / f"receipts/{name}.json").write_text(text)

    def call(self, state: str, *names: str, **more: Any) -> dict[str, Any]:
        """Run the module."""
        arguments = {"names": list(names), "state": state, "root": str(self.root / "opt"), **more}
        return run(instance_state, self.capsys, **arguments)

    def systemctl(self, command: list[str], **_more: Any) -> tuple[int, str, str]:
        """Play systemctl: a start takes what the files say."""
        self.told.append(" ".join(command[1:]))
        if command[1] == "restart":
            name = command[2][len("vllm@") : -len(".service")]
            text = (self.root / f"etc/vllm/{name}.env").read_text()
            self.running[name] = text.split("GPUFLEET_DIGEST=")[1].strip()
        return 0, "", ""

    def show(self, units: list[str]) -> dict[str, dict[str, str]]:
        """Play systemctl show."""
        return {unit: {"unit": unit[len("vllm@") : -len(".service")]} for unit in units}

    def process(self, properties: dict[str, str]) -> dict[str, Any] | None:
        """Play the process of a unit."""
        digest = self.running.get(properties.get("unit", ""))
        return {"invocation": digest, "pid": 1, "digest": digest, "started": 0} if digest else None


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a host without instances."""
    made = Machine(tmp_path, capsys)
    monkeypatch.setattr(instance_files, "SETTINGS", tmp_path / "etc/vllm")
    monkeypatch.setattr(instance_files, "STATES", tmp_path / "etc/vllm/good")
    monkeypatch.setattr(instance_files, "UNITS", tmp_path / "units")
    monkeypatch.setattr(instance_files, "TEMPLATE", tmp_path / "units/vllm@.service")
    monkeypatch.setattr(receipt, "FOLDER", tmp_path / "receipts")
    monkeypatch.setattr(receipt, "release_of", lambda _maps: None)
    monkeypatch.setattr(systemd, "show", made.show)
    monkeypatch.setattr(systemd, "process_of", made.process)
    monkeypatch.setattr(AnsibleModule, "run_command", made.systemctl)
    return made


def test_what_served_is_kept_once_without_secrets(machine: Machine) -> None:
    machine.deploy("chat", "one", "0.32.0-cpu")
    assert machine.call("kept", "chat", _ansible_check_mode=True)["changed"]
    assert not (machine.root / "etc/vllm/good").exists()
    found = machine.call("kept", "chat")
    assert found["changed"]
    assert found["instances"]["chat"]["good"]["measured"] == {"first_token_seconds": 0.1, "tokens_per_second": 9.0}
    file = machine.root / "etc/vllm/good/chat/good.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "secret" not in file.read_text()
    assert not machine.call("kept", "chat")["changed"]


def test_the_layout_of_what_runs_is_not_forgotten(machine: Machine) -> None:
    machine.deploy("chat", "one", "0.32.0-cpu")
    pair = {"name": "chat", "nodes": [{"host": "a"}, {"host": "b"}], "node_rank": 1}
    machine.call("kept", "chat", layouts=[pair])
    # A roll-out keeps it again before it changes it, and knows the new layout only.
    good = machine.call("kept", "chat", proven=True)["instances"]["chat"]["good"]
    assert (good["nodes"], good["node_rank"]) == (["a", "b"], 1)
    machine.deploy("chat", "two", "0.32.0-cpu")
    good = machine.call("kept", "chat", proven=True)["instances"]["chat"]["good"]
    assert (good["nodes"], good["node_rank"]) == ([], 0)


@pytest.mark.parametrize("written", ["same", "other"])
def test_what_did_not_serve_is_not_kept(machine: Machine, written: str) -> None:
    machine.deploy("chat", "one", "0.32.0-cpu", proven=False)
    if written == "other":
        machine.running["chat"] = "before"
    assert not machine.call("kept", "chat")["changed"]
    assert machine.call("kept", "chat", proven=True)["changed"] is (written == "same")


def test_a_bad_change_is_taken_back(machine: Machine) -> None:
    machine.deploy("chat", "one", "0.32.0-cpu")
    machine.call("kept", "chat")
    machine.deploy("chat", "two", "0.33.0-cpu", proven=False)
    extra = machine.root / "units/vllm@chat.service.d/nodes.conf"
    extra.write_text(OURS)
    machine.told.clear()
    predicted = machine.call("restored", "chat", _ansible_check_mode=True, _ansible_diff=True)
    assert predicted["changed"]
    assert any(
        "-revision: two" in f"-{part['before']}" or "revision: two" in part["before"] for part in predicted["diff"]
    )
    assert (machine.running["chat"], machine.told) == ("two", [])

    found = machine.call("restored", "chat")
    assert found["changed"]
    assert found["layouts"][0]["port"] == 8000
    assert machine.told == ["daemon-reload", "reset-failed vllm@chat.service", "restart vllm@chat.service"]
    assert machine.running["chat"] == "one"
    assert (machine.root / "opt/instances/chat").resolve().name == "0.32.0-cpu"
    assert "revision: one" in (machine.root / "etc/vllm/chat.yaml").read_text()
    assert not extra.exists()
    assert (extra.parent / "mine.conf").exists()
    assert not machine.call("restored", "chat")["changed"]


def test_a_roll_back_and_forward_again(machine: Machine) -> None:
    for digest, release in (("one", "0.32.0-cpu"), ("two", "0.33.0-cpu")):
        machine.deploy("chat", digest, release)
        machine.call("kept", "chat")
    machine.call("restored", "chat", which="previous")
    assert machine.running["chat"] == "one"
    kept = machine.call("kept", "chat", proven=True)["instances"]["chat"]
    assert (kept["good"]["digest"], kept["previous"]["digest"]) == ("one", "two")
    assert kept["good"]["measured"]["tokens_per_second"] is None


@pytest.mark.parametrize(
    ("which", "words"),
    [("previous", "chat cannot be put back to the previous state: there is none"), ("good", "its release 0.32.0-cpu")],
)
def test_why_it_cannot_be_put_back(machine: Machine, which: str, words: str) -> None:
    machine.deploy("chat", "one", "0.32.0-cpu")
    machine.call("kept", "chat")
    (machine.root / "opt/releases/0.32.0-cpu/release.json").unlink()
    found = machine.call("restored", "chat", which=which)
    assert found["failed"]
    assert words in found["msg"]


def test_the_mark_of_a_change(machine: Machine) -> None:
    """It keeps what was measured, also when the change is begun again; the others do not follow the current link."""
    machine.deploy("chat", "one", "0.32.0-cpu", link="../current")
    machine.deploy("embed", "one", "0.32.0-cpu", link="../current")
    (machine.root / "opt/current").symlink_to("releases/0.32.0-cpu")
    assert machine.call("begun", "chat")["changed"]
    assert (machine.root / "opt/instances/embed").readlink() == Path("../releases/0.32.0-cpu")
    assert (machine.root / "opt/instances/chat").readlink() == Path("../current")
    baseline = {"tokens_per_second": 7.0}
    machine.call("begun", "chat", baselines={"chat": baseline})
    again = machine.call("begun", "chat")
    assert not again["changed"]
    assert again["instances"]["chat"]["change"]["baseline"] == baseline
    assert machine.call("finished", "chat")["changed"]
    assert not machine.call("finished", "chat")["changed"]
    assert machine.call("described")["instances"].keys() == {"chat", "embed"}


def test_what_is_no_name(machine: Machine) -> None:
    assert "'../x' is no name of an instance" in machine.call("described", "../x")["msg"]


def test_a_damaged_state_is_named_and_put_aside(machine: Machine) -> None:
    machine.deploy("chat", "one", "0.33.0-cuda")
    machine.call("kept", "chat")
    file = instance_files.state_file("chat", "good")
    file.write_text(file.read_text()[:60])
    machine.call("begun", "chat")
    assert machine.call("described", "chat")["instances"]["chat"]["good"] is None
    refused = machine.call("restored", "chat")
    assert f"{file} is damaged; put it back from a backup" in refused["msg"]
    assert not any(one.startswith("restart") for one in machine.told)

    machine.call("kept", "chat")
    assert machine.call("described", "chat")["instances"]["chat"]["good"]["digest"] == "one"
    assert len(file.with_suffix(".damaged").read_text()) == 60
