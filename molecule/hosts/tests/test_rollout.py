"""A roll-out of an engine over two nodes: it is changed on both, or on none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import NAME, PORT, VARIABLES, Pair

from tests.deployments import FLEET, Run, ask, run_playbook, unit

# Two cores carry both nodes and Ansible: times vary by more than a change does.
BOUNDS = {"rollout_max_ttft_ratio": 20, "rollout_min_tokens_ratio": 0.05, "rollout_ttft_slack": 5.0}


def rolled_out(name: str, record: Path, *arguments: str, **extra: Any) -> tuple[Run, dict[str, Any]]:
    """Run the playbook rollout or rollback; returns what it said, and the hosts of its record."""
    variables = {"deploy_model": str(FLEET / "model"), "rollout_record": str(record), **BOUNDS, **extra}
    run = run_playbook(f"playbooks/{name}.yml", *arguments, "-e", f"@{VARIABLES}", extra=variables)
    hosts: dict[str, Any] = json.loads(record.read_text())["hosts"] if record.exists() else {}
    return run, hosts


def length(pair: Pair) -> list[str]:
    """The length that each node's settings say."""
    return [host.check_output("grep max-model-len /etc/vllm/%s.yaml", NAME).split()[-1] for host in pair.hosts]


def test_a_change_on_both(serving: Pair, entry: dict[str, Any], tmp_path: Path) -> None:
    before = serving.starts()
    wanted = [{**entry, "max_model_len": 256}]
    check, hosts = rolled_out("rollout", tmp_path / "check.json", "--check", vllm_models=wanted)
    assert (check.code, hosts, serving.starts()) == (0, {}, before), check.output
    assert "pair runs on node1, node2 alone, so nobody answers for it while it is changed." in check.text
    run, hosts = rolled_out("rollout", tmp_path / "record.json", vllm_models=wanted)
    assert run.code == 0, run.output
    assert {name: host["state"] for name, host in hosts.items()} == {"node1": "done", "node2": "done"}
    # Of the two, one has the server.
    assert hosts["node1"]["instances"][NAME]["after"]["errors"] == []
    assert hosts["node2"]["instances"][NAME]["after"] is None
    assert length(serving) == ["256", "256"]
    assert ask(serving.head, NAME, PORT)["choices"]
    again, _hosts = rolled_out("rollout", tmp_path / "again.json", vllm_models=wanted)
    assert again.code == 0, again.output
    assert "Nothing changes: 2 instances are as they should be." in again.output


def test_a_roll_back_of_both(serving: Pair, tmp_path: Path) -> None:
    run, hosts = rolled_out("rollback", tmp_path / "back.json")
    assert run.code == 0, run.output
    assert {name: host["state"] for name, host in hosts.items()} == {"node1": "done", "node2": "done"}
    assert length(serving) == ["512", "512"]
    assert ask(serving.head, NAME, PORT)["choices"]


def test_a_change_that_is_worse_on_the_one_that_answers(serving: Pair, entry: dict[str, Any], tmp_path: Path) -> None:
    before = length(serving)
    wanted = [{**entry, "max_model_len": 384}]
    run, hosts = rolled_out("rollout", tmp_path / "bad.json", vllm_models=wanted, rollout_min_tokens_ratio=100)
    assert run.code != 0, run.output
    assert {name: host["state"] for name, host in hosts.items()} == {"node1": "restored", "node2": "restored"}
    assert "it is worse than before" in hosts["node1"]["reason"]
    assert hosts["node2"]["reason"] == "node1, which runs an engine with node2, is not good."
    assert length(serving) == before
    assert ask(serving.head, NAME, PORT)["choices"]
    assert [unit(host, NAME, "ActiveState") for host in serving.hosts] == [["active"], ["active"]]


def test_a_change_that_does_not_start(serving: Pair, entry: dict[str, Any], tmp_path: Path) -> None:
    before = length(serving)
    bad = {**entry, "extra_args": {"tokenizer": "/nowhere"}}
    run, hosts = rolled_out("rollout", tmp_path / "bad.json", vllm_models=[bad])
    assert run.code != 0, run.output
    assert {name: host["state"] for name, host in hosts.items()} == {"node1": "restored", "node2": "restored"}
    assert length(serving) == before
    assert ask(serving.head, NAME, PORT)["choices"]
