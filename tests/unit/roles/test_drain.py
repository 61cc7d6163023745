"""Draining a host at several gateways, through Ansible; a module of this test plays the gateways."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.samples import CHECKOUT

ROLE = CHECKOUT / "roles" / "gateway"
# Says what it was asked; the gateway "full" has no other server.
MODULE = """\
import os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={name: {"type": "raw"} for name in %r})
where, state = os.environ["GATEWAY"], module.params["state"]
with open(%r, "a") as file:
    file.write(f"{state} {where}\\n")
if (where, state) == ("full", "drain"):
    module.fail_json(msg="the last one is not taken out")
module.exit_json(changed=state in ("drain", "ready"))
"""
OPTIONS = ("backend", "server", "state", "allow_last", "timeout", "force")


def ran(folder: Path, step: str, gateways: list[str]) -> tuple[list[str], str, str]:
    """Run a step of the role; returns what the gateways were asked, the output, and the recap of the host."""
    role = folder / "roles" / "gateway"
    shutil.copytree(ROLE, role)
    for file in (role / "tasks").glob("*.yml"):
        file.write_text(file.read_text().replace("gpufleet.vllm.gateway_server:", "asked_gateway:"))
    (role / "library").mkdir()
    (role / "library/asked_gateway.py").write_text(MODULE % (OPTIONS, str(folder / "asked")))
    (folder / "asked").touch()
    hosts = {
        name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        for name in ("gpu01", *gateways)
    }
    if "lost" in hosts:
        hosts["lost"] = {"ansible_host": "127.0.0.1", "ansible_port": "1", "ansible_ssh_common_args": "-F /dev/null"}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    task = {
        "include_role": {"name": "gateway", "tasks_from": step},
        "vars": {"gateway_instance": "chat", "gateway_hosts": gateways},
    }
    play = {"hosts": "gpu01", "gather_facts": False, "tasks": [task, {"debug": {"msg": "went on"}}]}
    play["environment"] = {"GATEWAY": "{{ __gateway_host | default('') }}"}
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    recap = re.search(r"^gpu01 .*$", output, re.MULTILINE)
    assert recap, output
    return (folder / "asked").read_text().splitlines(), output, recap.group()


def test_all_gateways_are_asked_and_waited_for(tmp_path: Path) -> None:
    asked, output, recap = ran(tmp_path, "drain", ["one", "two"])
    assert asked == ["drain one", "drain two", "drained one", "drained two"], output
    assert "failed=0" in recap
    assert "went on" in output


@pytest.mark.parametrize(
    ("gateways", "said"),
    [
        (["one", "full"], "the last one is not taken out"),
        (["one", "lost"], "The gateway lost was not reached: "),
        (["lost", "one"], "The gateway lost was not reached: "),
    ],
)
def test_at_all_gateways_or_at_none(tmp_path: Path, gateways: list[str], said: str) -> None:
    asked, output, recap = ran(tmp_path, "drain", gateways)
    assert [step for step in asked if "full" not in step] == ["drain one", "ready one"], output
    assert said in output
    # The play of the host fails, which a rescue can answer, and does not lose it.
    assert "unreachable=0" in recap
    assert "failed=1" in recap
    assert "went on" not in output


def test_a_gateway_that_is_lost_when_the_host_comes_back(tmp_path: Path) -> None:
    asked, output, recap = ran(tmp_path, "undrain", ["one", "lost"])
    assert asked == ["ready one"], output
    assert "The gateway lost was not reached: " in output
    assert "unreachable=0" in recap
    assert "failed=1" in recap
