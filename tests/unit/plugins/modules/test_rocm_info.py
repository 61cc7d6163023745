"""The module rocm_info, against package managers that are scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.modules import rocm_info

from tests.unit.plugins.modules.running import run, script

Capture = pytest.CaptureFixture[str]
DPKG = (
    "amdgpu-dkms\\t1:6.16.13.30300300-2325413.24.04\\thold\\tinstalled\\t1763942400\\n"
    "rocm-core\\t7.2.3.70203-90~24.04\\tinstall\\tinstalled\\t1763942401\\n"
)
RPM = "amdgpu-dkms\\t1:6.16.13.30300300-2325413.el9\\t1763942400\\nrocm-core\\t0:7.2.3.70203-90.el9\\t7\\n"


@pytest.mark.parametrize(("name", "output", "held"), [("dpkg-query", DPKG, True), ("rpm", RPM, None)])
def test_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str, output: str, held: object
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script(tmp_path, name, output)
    found = run(rocm_info, capsys)
    facts = found["rocm_facts"]
    assert found["changed"] is False
    assert (facts["installed_driver"], facts["installed_module"], facts["rocm"]) == ("30.30.3", "6.16.13", "7.2.3")
    assert facts["driver_installed_at"] == 1763942400
    assert facts["packages"]["amdgpu-dkms"]["held"] is held


def test_a_host_without_packages_is_still_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = run(rocm_info, capsys)["rocm_facts"]
    assert (facts["packages"], facts["installed_driver"], facts["installed_module"]) == ({}, None, None)
    assert facts["kfd"] is Path("/dev/kfd").exists()
    assert facts["free_mib"] > 0
    assert facts["distribution"]["id"]
