"""The playbook drivers on hosts that files stand for: the real playbook and role, with stand-ins for what they call."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.samples import CHECKOUT

HOSTS = ("a", "b", "c")
# One module for all: says what it was asked, and keeps the state of the host, HOST, in a file.
MODULE = """\
import json, os
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={name: {"type": "raw"} for name in %(options)r}, supports_check_mode=True)
folder, host, asked = Path(%(folder)r), os.environ["HOST"], module.params
file = folder / f"{host}.json"
state = json.loads(file.read_text())
def say(text):
    if not module.check_mode:
        with open(folder / "said", "a") as log:
            log.write(f"{text} {host}\\n")
more = {}
kind = %(kind)r
if kind == "work":
    if asked["state"] == "begun":
        known = {one["name"] for one in state["out"]}
        state["out"] += [{"name": name, "enabled": True} for name in state["serving"] if name not in known]
    else:
        state["out"] = []
    more["instances"] = [
        {**one, "runs": one["name"] in state["serving"],
         "layout": {"name": one["name"], "nodes": state.get("nodes", [])} if one["name"] != "foreign" else None}
        for one in state["out"]
    ]
    say(asked["state"])
elif kind == "service":
    name = asked["name"][len("vllm@"):-len(".service")]
    say(f"{asked['state']} {name} {asked['enabled']}")
    state["serving"] = [one for one in state["serving"] if one != name]
    if asked["state"] == "started":
        state["serving"].append(name)
elif kind == "step":
    say(asked["step"])
    if asked["step"] in state.get("bad", []):
        file.write_text(json.dumps(state))
        module.fail_json(msg=f"no good: {asked['step']}")
    if asked["step"] == "change" and not module.check_mode:
        state["changes"] = []
if not module.check_mode:
    file.write_text(json.dumps(state))
module.exit_json(changed=True, rc=0, stderr="", **more)
"""
STEP = "- name: {0}\n  asked_step:\n    step: {0}\n"
CHANGES = """\
- name: Look
  ansible.builtin.set_fact:
    cuda_changes: "{{ (lookup('ansible.builtin.file', state_folder ~ '/' ~ inventory_hostname ~ '.json') | from_json)
      | combine({'notices': []}) | combine({'out_of_service': __out}) }}"
  vars:
    __out: "{{ (lookup('ansible.builtin.file', state_folder ~ '/' ~ inventory_hostname ~ '.json') | from_json).out
      | map(attribute='name') | list }}"
"""
CALLED = {
    "gpufleet.vllm.instance_work:": "asked_work:",
    "ansible.builtin.systemd_service:": "asked_service:",
    "ansible.builtin.command:": "asked_command:",
    "name: gpufleet.vllm.": "name: ",
}
OPTIONS = ("state", "name", "enabled", "argv", "step")


class Fleet:
    """Three hosts with one model, behind a gateway, each with a driver to change unless a test says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        roles = folder / "roles"
        shutil.copytree(CHECKOUT / "roles/drivers", roles / "drivers")
        (roles / "drivers/library").mkdir()
        for kind in ("work", "service", "command", "step"):
            text = MODULE % {"options": OPTIONS, "folder": str(folder), "kind": kind}
            (roles / f"drivers/library/asked_{kind}.py").write_text(text)
        for file in (roles / "drivers/tasks").glob("*.yml"):
            file.write_text(self.replaced(file.read_text()))
        files = {
            "cuda/tasks/changes": CHANGES,
            "cuda/tasks/main": STEP.format("change"),
            "gateway/tasks/drain": STEP.format("drain"),
            "gateway/tasks/undrain": STEP.format("undrain"),
            "warmup/tasks/main": STEP.format("warm"),
        }
        for name, text in files.items():
            (roles / f"{name}.yml").parent.mkdir(parents=True, exist_ok=True)
            (roles / f"{name}.yml").write_text(text)
        text = self.replaced((CHECKOUT / "playbooks/drivers.yml").read_text())
        (folder / "play.yml").write_text(
            text.replace(
                "  gather_facts: false\n", "  gather_facts: false\n  environment: {HOST: '{{ inventory_hostname }}'}\n"
            )
        )
        self.state = {
            name: {"changes": ["the driver would be changed"], "problems": [], "serving": ["chat"], "out": []}
            for name in HOSTS
        }

    @staticmethod
    def replaced(text: str) -> str:
        for old, new in CALLED.items():
            text = text.replace(old, new)
        return text

    def run(self, *arguments: str, **variables: Any) -> str:
        """Run the playbook; returns its output, and leaves what was asked in ``said``."""
        for name, state in self.state.items():
            (self.folder / f"{name}.json").write_text(json.dumps(state))
        (self.folder / "said").write_text("")
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
        group = {"vllm_gateways": ["gate"], "vllm_models": [{"name": "chat"}], "vllm_hosts": ",".join(HOSTS)}
        inventory = {"all": {"hosts": dict.fromkeys(HOSTS, local), "vars": {**group, "state_folder": str(self.folder)}}}
        (self.folder / "hosts.json").write_text(json.dumps(inventory))
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.yml", *arguments]
        done = subprocess.run(
            [*command, "-e", json.dumps(variables)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        for name in HOSTS:
            self.state[name] = json.loads((self.folder / f"{name}.json").read_text())
        return done.stdout + done.stderr

    @property
    def said(self) -> list[str]:
        """What was asked, in order, each with its host at the end."""
        return (self.folder / "said").read_text().splitlines()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def steps(name: str, host: str) -> list[str]:
    """All that is done to a host with one instance."""
    stop, start = f"stopped {name} False", f"started {name} True"
    return [f"{one} {host}" for one in ("begun", "drain", stop, "change", start, "warm", "undrain", "finished")]


def failed(output: str, host: str) -> bool:
    found = re.search(rf"^{host} +: .*failed=(\d)", output, re.MULTILINE)
    return bool(found and int(found[1]))


def test_host_after_host_and_none_that_needs_nothing(fleet: Fleet) -> None:
    fleet.state["b"]["changes"] = []
    output = fleet.run()
    assert fleet.said == [*steps("chat", "a"), *steps("chat", "c")], output
    assert not any(failed(output, host) for host in HOSTS)
    assert fleet.run() and fleet.said == []


def test_a_check_says_it_and_does_nothing(fleet: Fleet) -> None:
    output = " ".join(fleet.run("--check").split())
    assert "a: the driver would be changed; vllm@chat would be drained, stopped, started again" in output
    assert fleet.said == []


def test_a_host_that_fails_stays_out_of_service_and_is_gone_on_with(fleet: Fleet) -> None:
    fleet.state["b"]["bad"] = ["warm"]
    output = fleet.run()
    assert fleet.said == [*steps("chat", "a"), *steps("chat", "b")[:-2]], output
    text = " ".join(output.split())
    assert "b stays out of service (vllm@chat), and no further host was begun." in text
    assert "no good: warm Mend that, and run the same command again" in text
    fleet.state["b"]["bad"] = []
    again = fleet.run()
    assert fleet.said == [*steps("chat", "b"), *steps("chat", "c")], again
    assert "b: an earlier run is carried on" in " ".join(again.split())


def test_a_host_that_cannot_be_drained_is_as_it_was(fleet: Fleet) -> None:
    fleet.state["a"]["bad"] = ["drain"]
    output = fleet.run()
    assert fleet.said == [f"{one} a" for one in ("begun", "drain", "undrain", "finished")], output
    assert "Nothing was changed on a, which serves as before" in " ".join(output.split())
    assert fleet.state["a"]["serving"] == ["chat"]


def test_two_at_once_and_the_rest_only_when_both_are_good(fleet: Fleet) -> None:
    fleet.state["a"]["bad"] = ["change"]
    output = fleet.run(drivers_batch=2)
    assert {one[-1] for one in fleet.said} == {"a", "b"}, output
    assert "finished b" in fleet.said
    assert "finished a" not in fleet.said
    assert sorted(one for one in fleet.said if one.startswith("begun")) == ["begun a", "begun b"]


def test_what_no_inventory_knows_is_stopped_and_started_and_nothing_more(fleet: Fleet) -> None:
    fleet.state["a"]["serving"] = ["foreign"]
    for host in "bc":
        fleet.state[host]["changes"] = []
    output = fleet.run()
    expected = ("begun", "stopped foreign False", "change", "started foreign True", "finished")
    assert fleet.said == [f"{one} a" for one in expected], output


@pytest.mark.parametrize(
    ("state", "variables", "words"),
    [
        ({"problems": ["Secure boot is on."]}, {}, "Secure boot is on."),
        ({}, {"cuda_reboot": "never"}, "cuda_reboot is 'never'"),
        ({}, {"vllm_gateways": ["b"]}, "b is a gateway, too"),
        ({"nodes": [{"host": "a"}, {"host": "b"}]}, {}, "chat runs on several hosts at once"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_changed(
    fleet: Fleet, state: dict[str, Any], variables: dict[str, Any], words: str
) -> None:
    for one in (fleet.state["a"], fleet.state["b"]):
        one.update(state)
    output = fleet.run(**variables)
    assert words in " ".join(output.split()), output
    assert not [one for one in fleet.said if one.startswith(("stopped", "change"))]
