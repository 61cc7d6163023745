"""The hub is asked once for a fleet, not once for a host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.hub_stand_in import Hub
from tests.unit.samples import CHECKOUT

HOSTS = 6
PLAY = """
- name: Ask
  hosts: all
  gather_facts: false
  tasks:
    - name: Read the models
      gpufleet.vllm.model_info:
        model: "{{ item }}"
        token: "{{ shown | default('') }}"
        required: false
      delegate_to: localhost
      environment:
        HF_ENDPOINT: "{{ endpoint }}"
      vars:
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
      loop: [org/good, org/good, org/none]
      register: asked

    - name: Read one that has to be there
      gpufleet.vllm.model_info:
        model: org/none
      delegate_to: localhost
      environment:
        HF_ENDPOINT: "{{ endpoint }}"
      vars:
        ansible_python_interpreter: "{{ ansible_playbook_python }}"
      register: refused
      failed_when: false

    - name: Check that all were told the same
      ansible.builtin.assert:
        that:
          - asked.results[0].model_facts == asked.results[1].model_facts
          - asked.results[0].model_facts == hostvars['h0'].asked.results[0].model_facts
          - asked.results[2].model_facts.problem is search('has no model org/none')
          - refused.msg is search('has no model org/none')
"""


def ask(hub: Hub, folder: Path, *more: str) -> Counter[str]:
    """Run the play for many hosts; how often each address of the hub was asked for."""
    (folder / "play.yml").write_text(PLAY)
    before = len(hub.asked)
    hosts = ",".join(f"h{number}" for number in range(HOSTS))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(folder / "play.yml")]
    done = subprocess.run(
        [*command, "-i", f"{hosts},", "-e", f"endpoint={hub.url}", "--forks", "3", *more],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".collections"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "HF_HOME": str(folder / f"hf{before}"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # the answers go with the run
    assert not list((folder / "tmp").glob("*/gpufleet-hub"))
    return Counter(hub.asked[before:])


def test_many_hosts_ask_as_often_as_one(hub: Hub, tmp_path: Path) -> None:
    many = ask(hub, tmp_path)
    one = ask(hub, tmp_path, "--limit", "h0")
    assert many == one
    assert many["GET /api/models/org/good/revision/main"] == 1


def test_hosts_with_another_token_are_answered_for_it(hub: Hub, tmp_path: Path) -> None:
    """What a token may see is nobody else's answer."""
    token = "shown={{ 'hf_good' ~ inventory_hostname if inventory_hostname in ['h0', 'h1'] else '' }}"
    found = ask(hub, tmp_path, "-e", token)
    assert found["GET /api/models/org/good/revision/main"] == 3
