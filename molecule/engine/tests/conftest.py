"""What the tests of this scenario share: its playbook with its variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import FLEET, Run, run_playbook

VARIABLES = Path(__file__).resolve().parents[1] / "vars" / "instances.yml"
OLD, NEW = "0.31.0", "0.32.0"

Deploy = Callable[..., Run]


def instance(name: str, port: int, **more: Any) -> dict[str, Any]:
    """An entry of vllm_models."""
    small = {"max_model_len": 512, "kv_cache_memory_gib": 0.25, "enforce_eager": True}
    return {"name": name, "model_source": str(FLEET / "model"), "port": port, **small, **more}


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    """Run playbooks/deploy.yml."""

    def run(*arguments: str, **extra: Any) -> Run:
        variables = {"deploy_model": str(FLEET / "model"), **extra}
        return run_playbook("playbooks/deploy.yml", "-e", f"@{VARIABLES}", *arguments, extra=variables)

    return run
