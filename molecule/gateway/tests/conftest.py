"""What the tests of this scenario share: the gateway, its playbook, and a load that goes through it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

from tests import load
from tests.deployments import FLEET, Run, run_playbook

HERE = Path(__file__).resolve().parents[1]
VARIABLES = HERE / "vars" / "fleet.yml"
KEY = yaml.safe_load(VARIABLES.read_text())["gateway_api_keys"]["tests"]
# A node that is busy with the load of the tests answers late.
SECONDS = 240


def run_here(*arguments: str, **extra: Any) -> Run:
    """Run a playbook with the fleet of the scenario."""
    return run_playbook(*arguments, "-e", f"@{VARIABLES}", extra={"deploy_model": str(FLEET / "model"), **extra})


@dataclass(frozen=True)
class Gateway:
    """The gateway as a client sees it, and as its administrator does."""

    host: Host
    address: str

    def ask(
        self, path: str, body: Any = None, key: str | None = KEY, method: str | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Send a request, and return status, body and header."""
        connection = http.client.HTTPConnection(self.address, 8080, timeout=SECONDS)
        header = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        payload = None if body is None else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, payload, header)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        try:
            return response.status, json.loads(text), dict(response.getheaders())
        except ValueError:
            return response.status, text, dict(response.getheaders())

    def chat(self, tokens: int = 4, path: str = "/v1/chat/completions") -> tuple[int, Any, dict[str, str]]:
        """Send one chat request."""
        messages = [{"role": "user", "content": "Hello"}]
        return self.ask(path, {"model": "chat", "messages": messages, "max_tokens": tokens, "ignore_eos": True})

    def metrics(self) -> str:
        """HAProxy's own metrics, empty while it does not answer."""
        program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8405/metrics').read().decode())"
        said: str = self.host.run("python3 -c %s", program).stdout
        return said

    def states(self) -> dict[str, str]:
        """By host, how HAProxy says that its server is."""
        text = self.metrics()
        return {
            line.split('server="')[1].split('"')[0]: line.split('state="')[1].split('"')[0]
            for line in text.splitlines()
            if line.startswith('haproxy_server_status{proxy="chat"') and line.endswith(" 1")
        }


@pytest.fixture(scope="session")
def gateway() -> Gateway:
    """The gateway."""
    host = testinfra.get_host("ssh://edge", ssh_config=str(FLEET / "ssh_config"))
    inventory = yaml.safe_load((FLEET / "hosts.yml").read_text())
    return Gateway(host, inventory["all"]["hosts"]["edge"]["ansible_host"])


@pytest.fixture(scope="session")
def node1() -> Host:
    """The first node with an engine."""
    return testinfra.get_host("ssh://node1", ssh_config=str(FLEET / "ssh_config"))


@pytest.fixture(scope="session")
def play() -> Callable[..., Run]:
    """Run playbooks/gateway.yml."""
    return lambda *arguments, **extra: run_here("playbooks/gateway.yml", *arguments, **extra)


@pytest.fixture(scope="session")
def move() -> Callable[..., Run]:
    """Run drain or undrain on a node."""

    def run(step: str, host: str = "node1", **extra: Any) -> Run:
        return run_here("molecule/gateway/move.yml", move_step=step, move_host=host, **extra)

    return run


@pytest.fixture
def traffic(gateway: Gateway, tmp_path: Path) -> Iterator[Callable[..., AbstractContextManager[load.Running]]]:
    """A load in a process of its own."""

    def run(**options: Any) -> AbstractContextManager[load.Running]:
        settings: dict[str, Any] = {"streamed": 2, "plain": 2, "seconds": 600, "stream_tokens": 48, **options}
        return load.running(tmp_path, f"http://{gateway.address}:8080/v1", "chat", key=KEY, **settings)

    yield run
