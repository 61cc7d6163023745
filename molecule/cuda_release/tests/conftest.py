"""What the tests of the CUDA release share."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.deployments import FLEET, Run, run_playbook

RELEASE = "/opt/vllm/releases/0.33.0-cuda"
MODEL = {"name": "tiny", "model_source": str(FLEET / "model"), "gpus": 1, "max_model_len": 512}
# The nodes of other scenarios share a cache; here the role's own is what is looked at.
VARIABLES: dict[str, Any] = {"engine_cache": "/opt/vllm/cache", "vllm_models": [MODEL]}
INSTALL_SECONDS = 3600


@pytest.fixture
def node(host: Host) -> str:
    """Name of the node in the inventory."""
    return str(host.backend.host)


def deploy(node: str, *arguments: str, **extra: Any) -> Run:
    """Deploy to one node."""
    variables = {**VARIABLES, "vllm_hosts": node, **extra}
    return run_playbook("playbooks/deploy.yml", *arguments, extra=variables, seconds=INSTALL_SECONDS)


def release(host: Host) -> dict[str, Any]:
    """What the release says of itself."""
    found: dict[str, Any] = json.loads(host.file(f"{RELEASE}/release.json").content_string)
    return found
