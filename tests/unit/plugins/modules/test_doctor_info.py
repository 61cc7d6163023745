"""The modules doctor_info and gpu_record as Ansible calls them, and the actions around them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.action import doctor_info as info_action
from ansible_collections.gpufleet.vllm.plugins.action import doctor_report as report_action
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import runner, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import gathering, instances
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import BY_ID
from ansible_collections.gpufleet.vllm.plugins.modules import doctor_info, gpu_record
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal

from tests.unit.plugins.modules.running import run
from tests.unit.samples import CHECKOUT

HOSTS = CHECKOUT / "tests/unit/fixtures/hosts"


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no tool and no instance is found."""
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    monkeypatch.setattr(instances, "names", list)


def test_a_machine_without_anything(no_tools: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(doctor_info, capsys, timeout=10, _ansible_check_mode=True)
    assert found["changed"] is False
    assert found["evidence"]["source"] == "live"
    assert found["evidence"]["instances"] == []
    assert len(found["evidence"]["clock"]) == 2


def test_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(doctor_info, capsys, recorded=str(HOSTS / "lost-gpu"))
    assert found["evidence"]["gpu_facts"]["state"] == "gpu_lost"
    assert "clock" not in found["evidence"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"recorded": "/nowhere"}, "recorded is '/nowhere', which is no folder on this host. Write its full path."),
        ({"timeout": 0}, "timeout is 0: write seconds, more than 0."),
    ],
)
def test_bad_options(options: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(doctor_info, capsys, **options)
    assert (found["failed"], found["msg"]) == (True, sentence)


def test_a_recording_of_instances_can_be_read_back(
    no_tools: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = run(gpu_record, capsys, instances=True, timeout=10)["files"]
    assert {"instances.json", "host.json", "record.json"} <= set(files)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    live = run(doctor_info, capsys, timeout=10)["evidence"]
    read = run(doctor_info, capsys, recorded=str(tmp_path))["evidence"]
    assert set(live) - set(read) == {"clock"}
    assert read["disks"][0]["path"] == live["disks"][0]["path"]
    assert "instances.json" not in run(gpu_record, capsys, timeout=10)["files"]


def test_a_tool_that_hangs_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(commands: dict[str, Any], *_more: Any) -> dict[str, Any]:
        return {name: sources.ToolOutput(sources.TIMEOUT) for name in commands}

    monkeypatch.setattr(runner, "run_all", hangs)
    found = gathering.outputs(5, {}, ask=False)
    assert found["kernel.txt"].status == sources.TIMEOUT


@pytest.mark.parametrize(
    ("clock", "offset"),
    [([10.2, 14.0], 0.0), ([10.0, 15.0], 0.0), ([10.2, 45.0], 30.0), ([1.0, 5.0], -9.0)],
)
def test_the_clock_is_off_by_what_is_sure(clock: list[float], offset: float) -> None:
    assert info_action.offset(clock, 10.0, 15.0) == offset


def report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], check_mode: bool = False
) -> tuple[dict[str, Any], str]:
    """Run the action doctor_report over the answers of hosts."""
    lines: list[str] = []
    monkeypatch.setattr(terminal, "show", lines.append)
    made = report_action.ActionModule.__new__(report_action.ActionModule)
    arguments = {"hosts": list(answers), "report": str(tmp_path / "doctor.json")}
    made._task = SimpleNamespace(args=arguments, check_mode=check_mode)
    made.validate_argument_spec = lambda argument_spec: (None, arguments)
    monkeypatch.setattr(report_action.ActionModule.__mro__[1], "run", lambda self, tmp, task_vars: {})
    hostvars = {name: {"doctor_info": answer} for name, answer in answers.items()}
    return made.run(None, {"hostvars": hostvars}), "\n".join(lines)


def gathered(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return run(doctor_info, capsys, recorded=str(folder))


def test_a_fleet_in_order(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    answer = gathered(HOSTS / "h100-nvswitch", capsys)
    result, text = report(tmp_path, monkeypatch, {"gpu01": answer})
    assert (result["changed"], result.get("failed")) == (True, None)
    assert "gpu01: nothing is wrong (no instances)" in text
    assert json.loads((tmp_path / "doctor.json").read_text())["hosts"]["gpu01"]["verdicts"] == []
    assert report(tmp_path, monkeypatch, {"gpu01": answer})[0]["changed"] is False


def test_a_fleet_that_is_broken(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    folder = tmp_path / "recording"
    folder.mkdir()
    (folder / "journal-chat.txt").write_text(BY_ID["cuda_802"].sample, encoding="utf-8")
    answers = {"gpu01": gathered(folder, capsys), "gpu02": {"unreachable": True, "msg": "No route"}}
    result, text = report(tmp_path, monkeypatch, answers, check_mode=True)
    assert result["failed"] is True
    assert result["msg"] == "1 failures were found; no answer from gpu02; see the report above."
    assert "x FAIL chat: CUDA error 802" in text
    assert not (tmp_path / "doctor.json").exists()
