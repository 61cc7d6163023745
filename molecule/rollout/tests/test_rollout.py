"""Changes of a fleet under load, in the order in which an operator meets them: each begins where the last one ended."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import NEW, NODES, OLD, VARIABLES, Start, entry
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, ask, run_playbook, unit
from tests.hub_process import serving
from tests.load import Running

# The last test asks for as many answered requests at least.
REQUESTS = 5000
Nodes = dict[str, Host]
# What is wanted, as the tests go on.
SETTINGS = {"max_num_seqs": 24}


def starts(nodes: Nodes) -> dict[str, list[str]]:
    """Which start of the instance runs on each node."""
    return {name: unit(host, "chat", "InvocationID") for name, host in nodes.items()}


def version(host: Host) -> str:
    """Version that the server says of itself."""
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/version').read().decode())"
    return str(json.loads(host.check_output("python3 -c %s", script))["version"]).split("+")[0]


def said(host: Host) -> str:
    """What the model of a node answers."""
    return str(ask(host, "chat", 8000)["choices"][0]["message"]["content"])


def wanted(model: str = "second", engine: str = NEW, **more: Any) -> dict[str, Any]:
    """The variables of the fleet as it should be."""
    return {"engine_version": engine, "vllm_models": [entry(model, **{**SETTINGS, **more})]}


def play(playbook: str, *arguments: str, **variables: Any) -> None:
    """Run a playbook to its end."""
    extra = {"deploy_models": str(FLEET / "models"), **variables}
    run = run_playbook(playbook, "-e", f"@{VARIABLES}", *arguments, extra=extra)
    assert run.code == 0, run.output


def move(step: str, host: str) -> None:
    """Drain or undrain the instance of a host by hand."""
    play("molecule/gateway/move.yml", move_step=step, move_host=host, **wanted())


def in_state(nodes: Nodes, state: str) -> list[str]:
    """Nodes that the gateway says are in a state."""
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8405/metrics').read().decode())"
    told = nodes["node1"].check_output("python3 -c %s", script)
    lines = [line for line in told.splitlines() if line.startswith("haproxy_server_status{") and line.endswith(" 1")]
    return [name for name in NODES if any(f'server="{name}"' in line and f'state="{state}"' in line for line in lines)]


def drained(nodes: Nodes) -> list[str]:
    """Nodes that the gateway gives nothing."""
    return in_state(nodes, "DRAIN")


def served_by(nodes: Nodes) -> list[str]:
    """Nodes that the gateway gives requests."""
    return in_state(nodes, "UP")


def test_a_check_says_what_would_change_and_changes_nothing(load: Running, nodes: Nodes, start: Start) -> None:
    before = starts(nodes)
    run = start("--check", **wanted("first", OLD)).wait()
    assert run.code == 0, run.output
    assert run.text.count("setting max-num-seqs: (none) -> 24") == len(NODES), run.output
    assert starts(nodes) == before
    plan = start(rollout_plan_only=True, **wanted("first", OLD)).wait()
    assert (plan.code, plan.count("changed")) == (0, 0), plan.output


@pytest.mark.parametrize(("model", "engine"), [("first", OLD), ("first", NEW), ("second", NEW)])
def test_a_change_of_settings_then_of_the_release_then_of_the_model(
    load: Running, nodes: Nodes, start: Start, model: str, engine: str
) -> None:
    before, answers = starts(nodes), load.told()["answered"]
    rollout = start(**wanted(model, engine))
    run = rollout.wait()
    assert run.code == 0, run.output
    assert rollout.states() == dict.fromkeys(NODES, "done")
    assert [len(group) for group in rollout.record["batches"]] == [1, 1, 1]
    for one in rollout.record["hosts"].values():
        assert [step["step"] for step in one["steps"]] == [
            "begun",
            "draining",
            "drained",
            "measured",
            "prepared",
            "switching",
            "switched",
            "warmed",
            "verified",
            "ready",
            "undraining",
            "serving",
            "done",
        ]
        measured = one["instances"]["chat"]
        assert measured["before"]["source"] == measured["after"]["source"] == "requests"
        assert measured["after"]["errors"] == []
    after = starts(nodes)
    assert all(after[name] != before[name] for name in NODES)
    assert {version(host) for host in nodes.values()} == {engine}
    assert drained(nodes) == []
    assert load.told()["answered"] > answers
    assert load.told()["faults"] == []

    again = start(**wanted(model, engine)).wait()
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert starts(nodes) == after
    play("playbooks/deploy.yml", **wanted(model, engine))
    assert starts(nodes) == after, "the playbook deploy had something to restart"


def test_what_would_overwrite_the_model_that_serves_is_refused(nodes: Nodes, start: Start) -> None:
    before = starts(nodes)
    run = start(**wanted(model_source=str(FLEET / "models" / "first"))).wait()
    assert run.code != 0
    assert "give the new ones a folder of their own (model)" in run.text, run.output
    assert starts(nodes) == before


def broken_release(nodes: Nodes, name: str) -> None:
    """A release that looks whole, and ends when it is started."""
    for host in nodes.values():
        folder = f"/opt/vllm/releases/{name}-cpu"
        host.check_output("mkdir -p %s/bin", folder)
        host.check_output(
            "printf '#!/bin/sh\\necho ImportError: libcudart.so.13 >&2\\nexit 1\\n' > %s/bin/vllm", folder
        )
        host.check_output("chmod 755 %s/bin/vllm && echo '{}' > %s/release.json", folder, folder)


def assert_put_back(run: Any, rollout: Any, nodes: Nodes, load: Running, model: str, others: dict[str, Any]) -> None:
    """The first node is back at what it was, the others were left alone, and no request failed."""
    assert run.code != 0, run.output
    record = rollout.record
    assert (record["state"], rollout.states()) == (
        "stopped",
        {"node1": "restored", "node2": "waiting", "node3": "waiting"},
    ), run.output
    assert "Back at the last good state, which serves: node1." in run.output
    assert "Not begun, and serving as before: node2, node3." in record["reason"]
    now = starts(nodes)
    assert {name: now[name] for name in ("node2", "node3")} == others
    assert drained(nodes) == []
    assert version(nodes["node1"]) == NEW
    assert said(nodes["node1"]) == said(nodes["node2"])
    assert nodes["node1"].file("/etc/vllm/chat.yaml").contains(f"models/{model}$")
    assert load.told()["faults"] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": "0.32.9"}, "died while starting"),
        ({"pipeline_parallel_size": 2}, "on its first request"),
        ({"model": "deep", "bounds": {"rollout_min_tokens_ratio": 0.5}}, "rollout_min_tokens_ratio 0.5"),
    ],
    ids=["does-not-start", "dies-on-first-request", "slow"],
)
def test_a_bad_change_is_put_back(
    load: Running, nodes: Nodes, start: Start, change: dict[str, Any], reason: str
) -> None:
    broken_release(nodes, "0.32.9")
    others = {name: found for name, found in starts(nodes).items() if name != "node1"}
    bounds = change.pop("bounds", {})
    rollout = start(**wanted(**change), **bounds)
    run = rollout.wait()
    assert_put_back(run, rollout, nodes, load, "second", others)
    assert reason in rollout.record["hosts"]["node1"]["reason"], rollout.record["reason"]


def test_a_node_that_goes_away_while_it_is_changed(load: Running, nodes: Nodes, start: Start) -> None:
    """It stops the roll-out and stays out of service; when it is back, the same command carries on."""
    SETTINGS["max_num_seqs"] = 20
    before = starts(nodes)
    rollout = start(**wanted(), rollout_canary=["node3"])
    rollout.wait_for("node3", "switched")
    nodes["node3"].run("systemctl poweroff")
    run = rollout.wait()
    assert run.code != 0
    assert rollout.states() == {"node1": "waiting", "node2": "waiting", "node3": "lost"}, run.output
    assert "Lost while being changed, and out of service: node3" in rollout.record["reason"]
    now = {name: unit(nodes[name], "chat", "InvocationID") for name in ("node1", "node2")}
    assert now == {name: before[name] for name in now}
    load.wait_for(load.told()["answered"] + 20)
    assert load.told()["faults"] == []

    subprocess.run(
        [sys.executable, "tools/node.py", "up", "--fleet", "molecule", "node3"], cwd=ROOT, check=True, timeout=120
    )
    again = start(**wanted())
    run = again.wait()
    assert run.code == 0, run.output
    assert again.record["batches"][0] == ["node3"]
    assert again.states() == dict.fromkeys(NODES, "done")
    assert drained(nodes) == []


@pytest.mark.parametrize("step", ["drained", "warmed"])
def test_a_controller_that_is_killed_half_way(load: Running, nodes: Nodes, start: Start, step: str) -> None:
    """What runs goes on, what is out of service stays so, and the same command carries on from there."""
    SETTINGS["max_num_seqs"] += 1
    rollout = start(**wanted())
    rollout.wait_for("node2", step)
    rollout.kill()
    assert rollout.record["state"] == "running"
    assert rollout.states() == {"node1": "done", "node2": "changing", "node3": "waiting"}
    assert drained(nodes) == ["node2"]
    proven = unit(nodes["node1"], "chat", "InvocationID")
    answers = load.told()["answered"]
    load.wait_for(answers + 20)

    again = start(**wanted())
    run = again.wait()
    assert run.code == 0, run.output
    assert again.states() == {"node1": "unchanged", "node2": "done", "node3": "done"}
    assert unit(nodes["node1"], "chat", "InvocationID") == proven
    assert drained(nodes) == []
    assert load.told()["faults"] == []


def test_all_that_was_changed_is_backed_out_when_asked(load: Running, nodes: Nodes, start: Start) -> None:
    """The second node cannot take the new release, and the first goes back with it."""
    host = nodes["node2"]
    before = said(nodes["node3"])
    # the release of the second node alone is broken while it is being switched to a deeper model
    rollout = start(**wanted("first"), rollout_back_out="all")
    rollout.wait_for("node1", "done")
    host.check_output("mv /var/lib/vllm/models/first/config.json /root/config.json")
    run = rollout.wait()
    host.check_output("mv /root/config.json /var/lib/vllm/models/first/config.json")
    assert run.code != 0
    assert rollout.states() == {"node1": "restored", "node2": "restored", "node3": "waiting"}, run.output
    assert {said(one) for one in nodes.values()} == {before}
    assert drained(nodes) == []
    assert load.told()["faults"] == []


def test_a_roll_back_by_hand(load: Running, nodes: Nodes, start: Start) -> None:
    """To the settings before the last ones, on one node, and forward again with the others' settings."""
    plan = start("--check", "--limit", "node2", playbook="rollback").wait()
    assert plan.code == 0, plan.output
    back = start("--limit", "node2", playbook="rollback")
    run = back.wait()
    assert run.code == 0, run.output
    assert back.record["kind"] == "rollback"
    assert back.states() == {"node2": "done"}
    assert nodes["node2"].file("/etc/vllm/chat.yaml").content != nodes["node3"].file("/etc/vllm/chat.yaml").content
    forward = start(**wanted()).wait()
    assert forward.code == 0, forward.output
    assert nodes["node2"].file("/etc/vllm/chat.yaml").content == nodes["node3"].file("/etc/vllm/chat.yaml").content
    none = start(playbook="rollback", rollout_only=["other"]).wait()
    assert none.code != 0
    assert "other runs on none of these hosts; correct rollout_only." in none.text, none.output


def test_a_host_that_is_worked_on(load: Running, nodes: Nodes) -> None:
    """As for another GPU or driver: drained, stopped, deployed to alone, and given requests again."""
    others = {name: start for name, start in starts(nodes).items() if name != "node2"}
    move("drain", "node2")
    nodes["node2"].check_output("systemctl stop vllm@chat")
    play("playbooks/deploy.yml", "--limit=node2", **wanted())
    assert drained(nodes) == ["node2"]
    move("undrain", "node2")
    assert drained(nodes) == []
    assert {name: start for name, start in starts(nodes).items() if name != "node2"} == others
    assert load.told()["faults"] == []


def test_a_host_that_leaves_and_one_that_comes(load: Running, nodes: Nodes) -> None:
    move("drain", "node3")
    play("playbooks/gateway.yml", gateway_replica_hosts=["node1", "node2"], **wanted())
    play("playbooks/teardown.yml", "--limit=node3", teardown_confirm=True, **wanted())
    assert not nodes["node3"].file("/etc/vllm").exists
    assert len(served_by(nodes)) == 2

    play("playbooks/deploy.yml", "--limit=node3", **wanted())
    play("playbooks/gateway.yml", **wanted())
    # the gateway asks a new server some times before it gives it requests
    deadline = time.monotonic() + 60
    while served_by(nodes) != list(NODES):
        assert time.monotonic() < deadline
        time.sleep(1)
    load.wait_for(load.told()["answered"] + 20)
    assert load.told()["faults"] == []


@dataclass
class Hub:
    """A gated model on a stand-in for the hub, and the tokens that it takes."""

    address: str
    model: Path
    home: Path

    def wanted(self, token: str) -> dict[str, Any]:
        """What is wanted of a fleet that serves the model online, with a token."""
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": self.address}
        one = {**entry(**SETTINGS), "model": "someone/chat", "environment": online}
        del one["model_source"]
        return {
            "environment": {"HF_TOKEN": token, "HF_HOME": str(self.home)},
            "engine_version": NEW,
            "layout_hub_endpoint": self.address,
            "vllm_models": [one],
        }


@pytest.fixture(scope="module")
def hub(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The stand-in (tests/hub_stand_in.py)."""
    folder = tmp_path_factory.mktemp("hub")
    model = folder / "someone" / "chat"
    shutil.copytree(FLEET / "models" / "first", model)
    (model / ".gated").write_text("hf_good_")
    with serving(folder, nodes["node1"]) as address:
        yield Hub(address, model, tmp_path_factory.mktemp("home"))


def new_token() -> str:
    """A token that the stand-in takes."""
    return f"hf_good_{secrets.token_hex(12)}"


TOKENS = [new_token(), new_token()]


@pytest.mark.parametrize(
    ("weights", "token", "change"),
    [
        ("first", 0, "setting model: "),
        ("second", 0, "setting revision: "),
        ("second", 1, "the user or the folders of the service, the files of the model or the token"),
    ],
    ids=["from-the-hub", "a-new-commit", "a-new-token"],
)
def test_a_model_of_the_hub_then_a_new_commit_then_a_new_token(
    load: Running, nodes: Nodes, start: Start, hub: Hub, weights: str, token: int, change: str
) -> None:
    before = starts(nodes)
    shutil.copy(FLEET / "models" / weights / "model.safetensors", hub.model)
    rollout = start(**hub.wanted(TOKENS[token]))
    run = rollout.wait()
    assert run.code == 0, run.output
    assert rollout.states() == dict.fromkeys(NODES, "done")
    assert run.output.count(change) >= len(NODES), run.output
    assert not any(text in run.output for text in TOKENS)
    after = starts(nodes)
    assert all(after[name] != before[name] for name in NODES)
    assert {said(host) for host in nodes.values()} == {said(nodes["node1"])}
    assert drained(nodes) == []
    assert load.told()["faults"] == []
    again = start(**hub.wanted(TOKENS[token])).wait()
    assert (again.code, again.count("changed")) == (0, 0), again.output


def test_of_all_requests_none_failed_and_none_was_cut(load: Running, nodes: Nodes) -> None:
    load.wait_for(REQUESTS, seconds=3600)
    told = load.stop()
    print(json.dumps(told, indent=2))
    assert (told["failed"], told["cut"], told["faults"]) == (0, 0, [])
    assert told["answered"] == told["sent"] >= REQUESTS
    assert told["streamed"] > REQUESTS / 4
    assert told["models"].keys() == {"chat"}
