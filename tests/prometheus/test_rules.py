"""promtool's own checks of the rules, and its tests of them (folder rules)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_rules, alert_thresholds

from tests.prometheus.conftest import RUNBOOK, write_rules

RULES = Path(__file__).with_name("rules")
FILES = sorted(path.name for path in RULES.glob("*.yml"))
# Other thresholds than those that the tests were written for: each file must notice.
OTHERS: dict[str, dict[str, object]] = {
    "vllm.yml": {"down_minutes": 30},
    "gateway.yml": {"error_share": 0.5},
    "gpus.yml": {"ignored_xids": [13]},
}


def promtool(programs: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(programs / "promtool"), *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def run_file(programs: Path, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(RULES / name, folder)
    return promtool(programs, folder, "test", "rules", name)


def test_promtool_finds_no_fault(programs: Path, tmp_path: Path) -> None:
    checked = promtool(programs, tmp_path, "check", "rules", "--lint-fatal", str(write_rules(tmp_path)))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    count = sum(len(group["rules"]) for group in alert_rules.rules(alert_thresholds.Thresholds(), RUNBOOK)["groups"])
    assert f"SUCCESS: {count} rules found" in checked.stdout


@pytest.mark.parametrize("name", FILES)
def test_promtools_tests(programs: Path, tmp_path: Path, name: str) -> None:
    write_rules(tmp_path)
    done = run_file(programs, tmp_path, name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FILES)
def test_promtools_tests_notice_other_thresholds(programs: Path, tmp_path: Path, name: str) -> None:
    write_rules(tmp_path, **OTHERS[name])
    done = run_file(programs, tmp_path, name)
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr


def test_every_alert_is_raised_by_a_test() -> None:
    groups = alert_rules.rules(alert_thresholds.Thresholds(), RUNBOOK)["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    text = "".join((RULES / name).read_text() for name in FILES)
    assert set(re.findall(r'alertname="(\w+)"', text)) == alerts
    # YAML that promtool would pass over in silence
    assert all(
        test["promql_expr_test"] for name in FILES for test in yaml.safe_load((RULES / name).read_text())["tests"]
    )
