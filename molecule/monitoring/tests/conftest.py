"""What the tests of this scenario share: its playbook, and questions to the Prometheus on the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.deployments import FLEET, Run, run_playbook
from tests.prometheus_server import Get

VARIABLES = Path(__file__).resolve().parents[1] / "vars" / "node.yml"
FETCH = """
import sys, urllib.request as u
print(u.urlopen("http://127.0.0.1:9090" + sys.argv[1], timeout=20).read().decode())
"""

Watch = Callable[..., Run]


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Run playbooks/monitoring.yml from the clone."""

    def run(*arguments: str, **extra: object) -> Run:
        variables = {"deploy_model": str(FLEET / "model"), **extra}
        return run_playbook("playbooks/monitoring.yml", *arguments, "-e", f"@{VARIABLES}", extra=variables)

    return run


@pytest.fixture
def prometheus(host: Host) -> Get:
    """Answers paths of the HTTP API of the node's Prometheus."""

    def get(path: str) -> str:
        answer: str = host.check_output("python3 -c %s %s", FETCH, path)
        return answer

    return get
