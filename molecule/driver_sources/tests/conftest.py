"""What the tests of this scenario share: the role with the variables of scenario cuda."""

from __future__ import annotations

from typing import Any

import pytest
from testinfra.host import Host

from tests import driver_nodes
from tests.deployments import Run


def role(*arguments: str, **variables: Any) -> Run:
    """Run the role on both nodes with the driver that is installed there, and the variables of a test."""
    return driver_nodes.role("cuda", ["nvidia.json"], *arguments, **{"cuda_driver_version": "580.95.05", **variables})


@pytest.fixture(scope="session")
def nodes() -> list[Host]:
    """Both nodes."""
    return driver_nodes.both()
