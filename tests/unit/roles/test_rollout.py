"""The batches of a roll-out, in the order that Ansible runs them in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout_record

from tests.unit.samples import CHECKOUT

TASKS = CHECKOUT / "roles" / "rollout" / "tasks"
HOSTS = ("a", "b", "c", "d")
TURN = """\
- name: Turn
  ansible.builtin.debug:
    msg: "{{ step }} {{ inventory_hostname }}"
  when: inventory_hostname in __rollout_batch
"""


def played(folder: Path, files: dict[str, str], **variables: Any) -> str:
    """Run tasks on hosts of this machine; returns what Ansible says."""
    role = folder / "roles" / "rollout" / "tasks"
    role.mkdir(parents=True)
    for name, text in files.items():
        (role / f"{name}.yml").write_text(text)
    play = {"hosts": "all", "gather_facts": False, "connection": "local", "roles": ["rollout"], "vars": variables}
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", f"{','.join(HOSTS)},", "play.yml"],
        cwd=folder,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".collections")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def turns(folder: Path, name: str, batches: list[list[str]]) -> list[str]:
    """Run a list of tasks of the role, with stand-ins for what a batch does."""
    files = {
        "main": (TASKS / f"{name}.yml").read_text(),
        "batch": TURN.replace("step }}", "'batch' }}"),
        "back_out": TURN.replace("step }}", "'back' }}"),
    }
    said = played(folder, files, __rollout_plan={"batches": batches}, rollout_back_out="all")
    return re.findall(r"msg\W+((?:batch|back) \w)", said)


@pytest.mark.parametrize("name", ["main", "back"])
def test_batches_come_in_their_own_order(tmp_path: Path, name: str) -> None:
    found = turns(tmp_path, name, [["c"], ["d", "a"], ["b"]])
    forward, backward = [turn[-1] for turn in found if "batch" in turn], [turn[-1] for turn in found if "back " in turn]
    assert [forward[0], {*forward[1:3]}, *forward[3:]] == ["c", {"a", "d"}, "b"]
    if name == "main":
        assert [backward[0], {*backward[1:3]}, *backward[3:]] == ["b", {"a", "d"}, "c"]


SAY = "- name: Say\n  ansible.builtin.debug:\n    msg: {step} {{{{ inventory_hostname }}}}\n"
SWITCH = """\
- name: Begin
  gpufleet.vllm.rollout_record:
    record: "{{ __rollout_record }}"
    step: "{{ item }}"
  loop: [begun, switching]
"""
SERVING = """\
- name: Serving
  gpufleet.vllm.rollout_record:
    record: "{{ __rollout_record }}"
    step: "{{ __rollout_in }}"
"""
FAIL = "- name: Fail\n  ansible.builtin.fail:\n    msg: no good\n  when: inventory_hostname in bad\n"


@pytest.mark.parametrize(
    ("bad", "serving", "restored"),
    [([], "abcd", ""), (["b"], "cd", "ab"), (["a"], "cd", "ab"), (["c"], "abd", "c"), (["a", "d"], "c", "abd")],
)
def test_an_engine_is_changed_on_all_of_its_hosts_or_on_none(
    tmp_path: Path, bad: list[str], serving: str, restored: str
) -> None:
    """The hosts a and b run an engine together; all are in one batch."""
    comparison = {"name": "chat", "state": "change", "changes": []}
    together = {**{host: ["a", "b"] for host in "ab"}, "c": ["c"], "d": ["d"]}
    hosts = {host: [comparison] for host in HOSTS}
    record = rollout_record.begin("rollback", [[*HOSTS]], hosts, {}, {}, "t", together)
    (tmp_path / "record.json").write_text(rollout_record.text(record))
    files = {
        "main": (TASKS / "back.yml").read_text(),
        "batch": (TASKS / "batch.yml").read_text(),
        "drain": SAY.format(step="drain"),
        "previous": SWITCH + SAY.format(step="change") + FAIL,
        "undrain": SAY.format(step="serves") + SERVING,
        "put_back": SAY.format(step="restored"),
        "leave": SAY.format(step="left"),
        "keep": SAY.format(step="kept"),
    }
    said = played(
        tmp_path,
        files,
        bad=bad,
        __rollout_plan={"batches": [[*HOSTS]]},
        __rollout_record=str(tmp_path / "record.json"),
        __rollout_names=[],
        __rollout_restored={"layouts": []},
    )
    found = re.findall(r"msg\W+(\w+) (\w)\b", said)
    assert sorted(host for step, host in found if step == "serves") == [*serving], said
    assert sorted(host for step, host in found if step == "restored") == [*restored], said
    told = json.loads((tmp_path / "record.json").read_text())["hosts"]
    assert {host: told[host]["state"] for host in HOSTS} == {
        **dict.fromkeys(serving, "done"),
        **dict.fromkeys(restored, "failed"),
    }
    partner = {"a": "b", "b": "a"}
    for host in restored:
        why = "no good" if host in bad else f"{partner[host]}, which runs an engine with {host}, is not good."
        assert told[host]["reason"] == why
