"""What the tests of this scenario share: the role with its variables, and the loaded module."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests import driver_nodes
from tests.deployments import Run


def role(*arguments: str, **variables: Any) -> Run:
    """Run the role on both nodes with the scenario's variables and those of a test."""
    return driver_nodes.role("rocm", ["amd.json"], *arguments, **variables)


@pytest.fixture(scope="session")
def nodes() -> list[Host]:
    """Both nodes."""
    return driver_nodes.both()


def module(node: Host) -> str:
    """Return the loaded kernel module as amd-smi tells it."""
    said = node.run("/opt/rocm/bin/amd-smi static --json")
    return str(json.loads(said.stdout)["gpu_data"][0]["driver"]["version"]) if said.rc == 0 else ""
