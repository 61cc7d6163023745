"""What the tests of this scenario share: the role with its variables, and the loaded driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

from tests import driver_nodes
from tests.deployments import Run

INSTALLED = "580.95.05"


def role(*arguments: str, **variables: Any) -> Run:
    """Run the role on both nodes with the scenario's variables and those of a test."""
    return driver_nodes.role("cuda", ["nvidia.json"], *arguments, **{"cuda_driver_version": INSTALLED, **variables})


@pytest.fixture(scope="session")
def nodes() -> list[Host]:
    """Both nodes."""
    return driver_nodes.both()


def driver(node: Host) -> str:
    """Return the loaded driver as nvidia-smi tells it."""
    found = re.search(r"<driver_version>(.+)</driver_version>", node.run("nvidia-smi -q -x").stdout)
    return found[1] if found else ""


UNIT = "[Service]\\nExecStart=/bin/sleep infinity\\n"


@pytest.fixture
def serving(nodes: list[Host]) -> Iterator[None]:
    """An instance runs on both nodes that is in no inventory."""
    for node in nodes:
        node.check_output(f"printf '{UNIT}' > /run/systemd/system/vllm@.service && systemctl daemon-reload")
        node.check_output("systemctl start vllm@foreign")
    yield
    for node in nodes:
        node.check_output("systemctl stop vllm@foreign; rm /run/systemd/system/vllm@.service; systemctl daemon-reload")
