"""The batches of a roll-out, in the order that Ansible runs them in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.samples import CHECKOUT

TASKS = CHECKOUT / "roles" / "rollout" / "tasks"
HOSTS = ("a", "b", "c", "d")
TURN = """\
- name: Turn
  ansible.builtin.debug:
    msg: "{{ step }} {{ inventory_hostname }}"
  when: inventory_hostname in __rollout_batch
"""


def turns(folder: Path, name: str, batches: list[list[str]]) -> list[str]:
    """Run a list of tasks of the role on hosts of this machine, with stand-ins for what a batch does."""
    role = folder / "roles" / "rollout" / "tasks"
    role.mkdir(parents=True)
    shutil.copy(TASKS / f"{name}.yml", role / "main.yml")
    (role / "batch.yml").write_text(TURN.replace("step }}", "'batch' }}"))
    (role / "back_out.yml").write_text(TURN.replace("step }}", "'back' }}"))
    play = {"hosts": "all", "gather_facts": False, "connection": "local", "roles": ["rollout"]}
    play["vars"] = {"__rollout_plan": {"batches": batches}, "rollout_back_out": "all"}
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", f"{','.join(HOSTS)},", "play.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"msg\W+((?:batch|back) \w)", done.stdout)


@pytest.mark.parametrize("name", ["main", "back"])
def test_batches_come_in_their_own_order(tmp_path: Path, name: str) -> None:
    found = turns(tmp_path, name, [["c"], ["d", "a"], ["b"]])
    forward, backward = [turn[-1] for turn in found if "batch" in turn], [turn[-1] for turn in found if "back " in turn]
    assert [forward[0], {*forward[1:3]}, *forward[3:]] == ["c", {"a", "d"}, "b"]
    if name == "main":
        assert [backward[0], {*backward[1:3]}, *backward[3:]] == ["b", {"a", "d"}, "c"]
