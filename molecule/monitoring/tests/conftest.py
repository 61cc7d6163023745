"""What the tests of this scenario share: its playbook, and questions to the Prometheus on the node."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deployments import FLEET, Run, run_playbook
from tests.prometheus_server import Get, wait_for

VARIABLES = Path(__file__).resolve().parents[1] / "vars" / "node.yml"
Watch = Callable[..., Run]


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Run playbooks/monitoring.yml from the clone."""

    def run(*arguments: str, **extra: object) -> Run:
        variables = {"deploy_model": str(FLEET / "model"), **extra}
        return run_playbook("playbooks/monitoring.yml", *arguments, "-e", f"@{VARIABLES}", extra=variables)

    return run


@pytest.fixture(scope="session")
def prometheus() -> Iterator[Get]:
    """Answers paths of the HTTP API of the node's Prometheus, through one tunnel: there are many questions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["ssh", "-F", str(FLEET / "ssh_config"), "-S", "none", "-N", "-L", f"{port}:127.0.0.1:9090", "node1"]
    with subprocess.Popen(command) as tunnel:

        def get(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                text: str = answer.read().decode()
                return text

        try:
            wait_for(get, "up")
            yield get
        finally:
            tunnel.terminate()
