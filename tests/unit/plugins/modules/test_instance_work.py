"""The module instance_work, with systemd as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import driver_surroundings, systemd
from ansible_collections.gpufleet.vllm.plugins.modules import instance_work

from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Instances that run, with the states of their unit files."""
    table: dict[str, str] = {}
    monkeypatch.setattr(driver_surroundings, "WORK", str(tmp_path / "vllm/drivers.json"))
    monkeypatch.setattr(instance_work, "MARK", tmp_path / "vllm/drivers.json")
    monkeypatch.setattr(instance_files, "SETTINGS", tmp_path / "vllm")
    monkeypatch.setattr(instance_files, "STATES", tmp_path / "vllm/good")
    monkeypatch.setattr(driver_surroundings, "serving", lambda _run: sorted(table))

    def show(units: list[str]) -> dict[str, dict[str, str]]:
        return {unit: {"UnitFileState": table[unit[len("vllm@") : -len(".service")]]} for unit in units}

    monkeypatch.setattr(systemd, "show", show)
    return table


def said(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(one["name"], one["enabled"], one["runs"]) for one in found["instances"]]


def test_what_ran_is_remembered_until_it_is_over(running: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    running.update(chat="enabled", other="disabled")
    assert run(instance_work, capsys, state="begun", _ansible_check_mode=True)["changed"]
    assert not (tmp_path / "vllm/drivers.json").exists()
    begun = run(instance_work, capsys, state="begun")
    assert said(begun) == [("chat", True, True), ("other", False, True)]
    # stopped and switched off, the host rebooted, and the run interrupted
    running.clear()
    running["third"] = "enabled"
    again = run(instance_work, capsys, state="begun")
    assert said(again) == [("chat", True, False), ("other", False, False), ("third", True, True)]
    running["chat"] = "disabled"
    assert said(run(instance_work, capsys, state="begun"))[0] == ("chat", True, True)
    assert run(instance_work, capsys, state="finished")["changed"]
    assert not (tmp_path / "vllm/drivers.json").exists()
    assert run(instance_work, capsys, state="finished")["changed"] is False


def test_a_layout_is_that_of_what_the_files_say(running: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    running["chat"] = "enabled"
    folder = tmp_path / "vllm/good/chat"
    folder.mkdir(parents=True)
    (tmp_path / "vllm/chat.env").write_text("GPUFLEET_DIGEST=one\n")
    written = "GPUFLEET_DIGEST=one"
    state = good_states.capture("chat", {}, "", written, "r", None, {"name": "chat", "port": 8000}, None, "now")
    (folder / "good.json").write_text(json.dumps(state))
    assert run(instance_work, capsys, state="begun")["instances"][0]["layout"] == {"name": "chat", "port": 8000}
    (tmp_path / "vllm/chat.env").write_text("GPUFLEET_DIGEST=two\n")
    assert run(instance_work, capsys, state="begun")["instances"][0]["layout"] is None
