"""What the scenarios deploy and faults share: deploy.yml with two instances of a small model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml

from tests.deployments import FLEET, ROOT, Run, run_playbook

MODEL = FLEET / "model"
VARIABLES = ROOT / "molecule/deploy/vars/instances.yml"

Deploy = Callable[..., Run]


def run_here(*arguments: str, extra: Mapping[str, Any] | None = None, **how: Any) -> Run:
    """Run a playbook with the instances of the scenario, or with others of a test."""
    variables = {"deploy_model": str(MODEL), **(extra or {})}
    return run_playbook(*arguments, "-e", f"@{VARIABLES}", extra=variables, **how)


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    """Run playbooks/deploy.yml from the clone."""

    def run(*arguments: str, **extra: Any) -> Run:
        return run_here("playbooks/deploy.yml", *arguments, extra=extra)

    return run


@pytest.fixture(scope="session")
def models() -> list[dict[str, Any]]:
    """Return the instances that the scenario's inventory asks for."""
    wanted: list[dict[str, Any]] = yaml.safe_load(VARIABLES.read_text())["vllm_models"]
    return wanted
