"""What the tests of this scenario share: the playbooks, their record, the nodes, and a load that runs all the time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, Run, kill_play, user_environment
from tests.load import Running, running

VARIABLES = Path(__file__).resolve().parents[1] / "vars" / "instances.yml"
NODES = ("node1", "node2", "node3")
# A whole roll-out over three nodes, on a machine that is busy.
SECONDS = 3000
# Two cores carry three engines, a gateway, the load and what else runs: times vary by more than a change does.
BOUNDS = {"rollout_max_ttft_ratio": 8, "rollout_min_tokens_ratio": 0.2, "rollout_ttft_slack": 1.0}
OLD, NEW = "0.31.0", "0.32.0"


def entry(model: str = "first", **more: Any) -> dict[str, Any]:
    """The entry of vllm_models, with one of the models of the scenario, which each have a folder of their own."""
    return {
        "name": "chat",
        "model": f"/var/lib/vllm/models/{model}",
        "model_source": str(FLEET / "models" / model),
        "host": "0.0.0.0",
        "max_model_len": 512,
        "kv_cache_memory_gib": 0.25,
        "enforce_eager": True,
        **more,
    }


class Playbook:
    """A playbook that runs in the background, with its record."""

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: tuple[str, ...],
        environment: dict[str, str],
        variables: dict[str, Any],
    ) -> None:
        self.path = folder / f"{name}.json"
        self.path.unlink(missing_ok=True)
        extra = {"deploy_models": str(FLEET / "models"), "rollout_record": str(self.path), **BOUNDS, **variables}
        command = ["ansible-playbook", "-i", str(FLEET / "hosts.yml"), f"playbooks/{name}.yml"]
        self._log = folder / f"{name}.log"
        with self._log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, "-e", f"@{VARIABLES}", *arguments, "-e", json.dumps(extra)],
                cwd=ROOT,
                env={**user_environment(), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8")

    @property
    def record(self) -> dict[str, Any]:
        """Its record, empty before there is one."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {"hosts": {}}

    def states(self) -> dict[str, str]:
        """State of each host in the record."""
        return {host: one["state"] for host, one in self.record["hosts"].items()}

    def wait_for(self, host: str, step: str) -> None:
        """Wait until a host has gone through a step."""
        deadline = time.monotonic() + SECONDS
        while step not in [one["step"] for one in self.record["hosts"].get(host, {}).get("steps", ())]:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def wait(self) -> Run:
        """Wait for its end."""
        return Run(self.process.wait(SECONDS), self.output)

    def kill(self) -> None:
        """End it and all its processes, without a chance to tidy up."""
        kill_play(self.process)


Start = Callable[..., Playbook]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start rollout.yml or rollback.yml; what is left of it at the end of a test is killed."""
    started: list[Playbook] = []

    def begin(
        *arguments: str, playbook: str = "rollout", environment: dict[str, str] | None = None, **variables: Any
    ) -> Playbook:
        started.append(Playbook(playbook, tmp_path, arguments, environment or {}, variables))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.kill()


def node(name: str) -> Host:
    """A node over SSH."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FLEET / "ssh_config"))


@pytest.fixture(scope="session")
def nodes() -> dict[str, Host]:
    """The nodes by name."""
    return {name: node(name) for name in NODES}


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A process that asks the gateway for streamed and plain answers, from the first test to the last."""
    hosts = json.loads(
        subprocess.run(
            [sys.executable, "-m", "ansible", "inventory", "-i", str(FLEET / "hosts.yml"), "--host", "node1"],
            capture_output=True,
            text=True,
            check=True,
            env=user_environment(),
        ).stdout
    )
    url = f"http://{hosts['ansible_host']}:8080/v1"
    # On two cores engines that never rest make the start of another one take four times as long.
    options: dict[str, Any] = {"seconds": 6 * 3600, "streamed": 4, "plain": 4, "every": 4, "stream_tokens": 16}
    with running(tmp_path_factory.mktemp("load"), url, "chat", **options) as one:
        one.wait_for(20)
        yield one
