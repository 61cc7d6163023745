"""Prometheus' own programs for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_rules, alert_thresholds

from tools import debian_programs

RUNBOOK = "https://example.com/monitoring.md"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of prometheus and promtool."""
    found = debian_programs.find("prometheus")
    if found is None:
        pytest.fail("There is no Prometheus: run make prometheus, or put prometheus and promtool on PATH.")
    return found


def write_rules(folder: Path, **thresholds: object) -> Path:
    """Write the rules as the role does."""
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump(alert_rules.rules(alert_thresholds.read(thresholds), RUNBOOK), sort_keys=False))
    return path
