"""What the tests of this scenario share: the playbooks, the nodes, and a load that runs all the time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, Run, user_environment
from tests.load import Running, running

SCENARIO = Path(__file__).resolve().parents[1]
NODES = ("node1", "node2", "node3")
# All three nodes with their reboots, on a machine that is busy.
SECONDS = 2400


def play(name: str, *arguments: str, **variables: Any) -> Run:
    """Run a playbook with the driver that a test wants."""
    files = [
        f"@{SCENARIO / 'vars/instances.yml'}",
        f"@{ROOT / 'molecule/cuda/vars/node.yml'}",
        f"@{FLEET / 'nvidia.json'}",
    ]
    extra = {"deploy_models": str(FLEET / "models"), **variables}
    command = ["ansible-playbook", "-i", str(FLEET / "hosts.yml"), f"playbooks/{name}.yml", *arguments]
    done = subprocess.run(
        [*command, *(part for one in files for part in ("-e", one)), "-e", json.dumps(extra)],
        cwd=ROOT,
        env=user_environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)


def recap(run: Run, what: str) -> dict[str, int]:
    """A number of the recap, such as changed or failed, for each node."""
    found = re.findall(rf"^(node\d) +: .*\b{what}=(\d+)", run.output, re.MULTILINE)
    return {name: int(number) for name, number in found}


def node(name: str) -> Host:
    """A node over SSH."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FLEET / "ssh_config"))


@pytest.fixture(scope="session")
def nodes() -> dict[str, Host]:
    """The nodes by name."""
    return {name: node(name) for name in NODES}


@pytest.fixture(scope="session")
def gate() -> Host:
    """The node with the gateway."""
    return node("gate")


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A process that asks the gateway for streamed and plain answers, from the first test to the last."""
    inventory = [sys.executable, "-m", "ansible", "inventory", "-i", str(FLEET / "hosts.yml"), "--host", "gate"]
    told = subprocess.run(inventory, capture_output=True, text=True, check=True, env=user_environment())
    url = f"http://{json.loads(told.stdout)['ansible_host']}:8090/v1"
    # All at once: engines that never rest make the start of another one take four times as long on two cores.
    options: dict[str, Any] = {"seconds": 3 * 3600, "streamed": 12, "plain": 12, "every": 4, "stream_tokens": 16}
    with running(tmp_path_factory.mktemp("load"), url, "chat", **options) as one:
        one.wait_for(20)
        yield one
