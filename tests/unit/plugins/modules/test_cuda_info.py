"""The module cuda_info, against package managers that are scripts."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.modules import cuda_info

from tests.unit.plugins.modules.running import run, script

Capture = pytest.CaptureFixture[str]
DPKG = "nvidia-driver-cuda\\t580.105.08-1\\thold\\tinstalled\\t1763942400\\n"
RPM = "nvidia-driver-cuda\\t3:580.105.08-1.el9\\t1763942400\\nnvidia-fabricmanager\\t0:580.95.05-1\\t7\\n"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "output", "held", "fabric_manager"),
    [("dpkg-query", DPKG, True, None), ("rpm", RPM, None, "580.95.05")],
)
def test_packages(tools: Path, capsys: Capture, name: str, output: str, held: object, fabric_manager: object) -> None:
    script(tools, name, output)
    found = run(cuda_info, capsys)
    facts = found["cuda_facts"]
    assert found["changed"] is False
    assert facts["installed_driver"] == "580.105.08"
    assert facts["driver_installed_at"] == 1763942400
    assert facts["packages"]["nvidia-driver-cuda"]["held"] is held
    assert facts["fabric_manager"] == fabric_manager


def test_a_host_without_packages_is_still_described(tools: Path, capsys: Capture) -> None:
    facts = run(cuda_info, capsys)["cuda_facts"]
    assert (facts["packages"], facts["installed_driver"], facts["fabric_manager"]) == ({}, None, None)
    assert (facts["machine"], facts["kernel"]) == (platform.machine(), platform.release())
    assert facts["free_mib"] > 0
    assert facts["started_at"] > 0
    assert facts["distribution"]["id"]
