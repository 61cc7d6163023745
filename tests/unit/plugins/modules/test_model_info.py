"""The module model_info."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model
from ansible_collections.gpufleet.vllm.plugins.modules import model_info

from tests.hub_stand_in import Hub, commit_of
from tests.unit.conftest import CONFIG, write_model
from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_folder(tmp_path: Path, capsys: Capture, check_mode: bool) -> None:
    folder = write_model(tmp_path / "m")
    found = run(model_info, capsys, model=str(folder), _ansible_check_mode=check_mode)
    assert found["changed"] is False
    assert found["model_facts"] == model.facts(CONFIG, 1000)


def test_a_hub_model(hub: Hub, capsys: Capture) -> None:
    commit = commit_of(hub.folder / "org/good")
    found = run(model_info, capsys, model="org/good")
    assert found["model_facts"] == {**model.facts(CONFIG, 1000), "revision": commit}
    assert run(model_info, capsys, model="org/good", revision=commit)["model_facts"] == found["model_facts"]


def test_a_model_that_is_not_there_fails(tmp_path: Path, capsys: Capture) -> None:
    found = run(model_info, capsys, model=f"{tmp_path}/m")
    assert found["failed"] is True
    assert found["msg"] == f"The model path {tmp_path}/m does not exist; correct 'model', or put the model there."


def test_a_model_that_is_not_there_can_be_reported(tmp_path: Path, capsys: Capture) -> None:
    found = run(model_info, capsys, model=f"{tmp_path}/m", required=False)
    assert "failed" not in found
    assert found["changed"] is False
    assert list(found["model_facts"]) == ["problem"]
    assert "does not exist" in found["model_facts"]["problem"]


def test_facts_are_documented(tmp_path: Path, capsys: Capture) -> None:
    documented = yaml.safe_load(model_info.RETURN)["model_facts"]["contains"]
    found = run(model_info, capsys, model=str(write_model(tmp_path / "m")))
    assert set(documented) - {"problem", "revision"} == set(found["model_facts"])
