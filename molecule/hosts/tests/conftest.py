"""What the tests of this scenario share: its playbook with its variables, the two nodes, and the engine over both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

from tests.deployments import FLEET, Run, ask, processes, run_playbook, unit

VARIABLES = Path(__file__).resolve().parents[1] / "vars" / "pair.yml"
NAME, PORT = "pair", 8000
# The bound: 15 s until a silent host is missed, 10 s until systemd starts a unit again, the rest for loading the engine
# on a machine that is busy with something else.
SECONDS_TO_BE_BACK = 480

Deploy = Callable[..., Run]


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    """Run playbooks/deploy.yml from the clone."""

    def run(*arguments: str, **extra: Any) -> Run:
        variables = {"deploy_model": str(FLEET / "model"), **extra}
        return run_playbook("playbooks/deploy.yml", *arguments, "-e", f"@{VARIABLES}", extra=variables)

    return run


@pytest.fixture(scope="session")
def entry() -> dict[str, Any]:
    """Return the one entry of the scenario."""
    found: dict[str, Any] = yaml.safe_load(VARIABLES.read_text())["vllm_models"][0]
    return found


@dataclass(frozen=True)
class Pair:
    """The engine over both nodes."""

    head: Host
    other: Host

    @property
    def hosts(self) -> tuple[Host, Host]:
        """Both nodes, the head first."""
        return self.head, self.other

    def starts(self) -> list[str]:
        """Which start of the unit each host is at."""
        return [unit(host, NAME, "InvocationID")[0] for host in self.hosts]

    def restarts(self) -> list[int]:
        """How often systemd has restarted the unit by itself on each host."""
        return [int(unit(host, NAME, "NRestarts")[0]) for host in self.hosts]

    def status(self) -> list[str]:
        """What the unit says of itself on each host."""
        return [unit(host, NAME, "StatusText")[0] for host in self.hosts]

    def engine(self, host: Host) -> dict[int, str]:
        """The processes of vLLM on a host, by pid."""
        if unit(host, NAME, "ActiveState") == ["inactive"]:
            return {}  # systemd has no cgroup of it
        return {pid: title for pid, title in processes(host, NAME).items() if "ranks.py" not in title}

    def answers(self) -> bool:
        """Whether the head answers a request now."""
        try:
            return bool(ask(self.head, NAME, PORT)["choices"])
        except (AssertionError, RuntimeError):
            return False

    def wait_for(self, what: Callable[[], bool], seconds: float) -> float:
        """Wait until something is so; returns the seconds it took. A node that is away is not."""
        begin = time.monotonic()
        while True:
            try:
                if what():
                    return time.monotonic() - begin
            except (AssertionError, RuntimeError, ValueError):
                pass
            assert time.monotonic() - begin < seconds, "it did not happen in time"
            time.sleep(1)

    def wait_until_back(self) -> float:
        """Wait until the head answers again; returns the seconds it took."""
        return self.wait_for(self.answers, SECONDS_TO_BE_BACK)


@pytest.fixture(scope="session")
def pair() -> Pair:
    """Return the engine over both nodes."""
    config = str(FLEET / "ssh_config")
    return Pair(*(testinfra.get_host(f"ssh://{name}", ssh_config=config) for name in ("node1", "node2")))


@pytest.fixture
def serving(pair: Pair) -> Pair:
    """Return the engine once it answers."""
    pair.wait_until_back()
    return pair
