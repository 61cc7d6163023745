"""The module model_info."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model
from ansible_collections.gpufleet.vllm.plugins.modules import model_info

from tests.hub_stand_in import Hub, commit_of
from tests.unit.conftest import CONFIG, write_model
from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA, llama_headers, write_checkpoint
from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_folder(tmp_path: Path, capsys: Capture, check_mode: bool) -> None:
    folder = write_checkpoint(tmp_path / "m", LLAMA, {"model.safetensors": llama_headers()})
    found = run(model_info, capsys, model=str(folder), _ansible_check_mode=check_mode)
    assert found["changed"] is False
    assert found["model_facts"] == model.read_folder(str(folder))


def test_a_hub_model(hub: Hub, capsys: Capture) -> None:
    commit = commit_of(hub.folder / "org/good")
    found = run(model_info, capsys, model="org/good")
    facts = found["model_facts"]
    same = {key: facts[key] for key in ("warnings", "files")}
    assert facts == {**model.facts(CONFIG, 1000), **same, "revision": commit}
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
    assert set(documented) - {"problem", "revision", "files"} == set(found["model_facts"])


class TestConfiguration:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        """A config.json without weights."""
        return write_checkpoint(tmp_path / "m", LLAMA, {}) / "config.json"

    def test_alone(self, config: Path, capsys: Capture) -> None:
        assert run(model_info, capsys, config=str(config))["model_facts"] == model.facts(LLAMA)

    def test_with_the_size_of_its_weights(self, config: Path, capsys: Capture) -> None:
        found = run(model_info, capsys, config=str(config), weights_bytes=300000)
        assert found["model_facts"] == model.facts(LLAMA, 300000)

    @pytest.mark.parametrize(("stated", "size"), [(None, 300000), (310000, 310000)])
    def test_with_an_index(self, config: Path, capsys: Capture, stated: int | None, size: int) -> None:
        index = config.with_name("index.json")
        index.write_text('{"metadata": {"total_size": 300000}}', encoding="utf-8")
        more = {} if stated is None else {"weights_bytes": stated}
        found = run(model_info, capsys, config=str(config), weights_index=str(index), **more)
        assert found["model_facts"] == model.facts(LLAMA, size)

    def test_with_its_quantization_beside_it(self, config: Path, capsys: Capture) -> None:
        config.with_name("hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}', encoding="utf-8")
        assert run(model_info, capsys, config=str(config))["model_facts"]["quantization"] == "modelopt"

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (
                {"config": "{folder}/none.json"},
                "The file {folder}/none.json of 'config' cannot be read (No such file or directory); correct 'config', "
                "or its permissions.",
            ),
            (
                {"config": "{folder}/config.json", "weights_index": "{folder}/none.json"},
                "The file {folder}/none.json of 'weights_index' cannot be read (No such file or directory); correct "
                "'weights_index', or its permissions.",
            ),
            (
                {"config": "{folder}/config.json", "weights_index": "{folder}/config.json"},
                "{folder}/config.json states no metadata.total_size; name another file in 'weights_index', or write "
                "'weights_bytes'.",
            ),
            (
                {"config": "{folder}/config.json", "weights_bytes": 0},
                "weights_bytes is 0; write the size of the weight files in bytes, or leave it out.",
            ),
            (
                {"saved": "{folder}/config.json"},
                "{folder}/config.json holds no facts of a model; name a file that model_info has written with 'save', "
                "or write it again.",
            ),
            (
                {"config": "{folder}/config.json", "save": "{folder}/none/facts.json"},
                "The facts cannot be written to {folder}/none/facts.json (No such file or directory); correct 'save', "
                "or make its folder.",
            ),
            ({}, "one of the following is required: model, config, saved"),
            (
                {"config": "a", "saved": "b"},
                "parameters are mutually exclusive: model|config|saved",
            ),
            ({"model": "/m", "weights_bytes": 5}, "missing parameter(s) required by 'weights_bytes': config"),
        ],
    )
    def test_refusals(self, config: Path, capsys: Capture, options: dict[str, Any], sentence: str) -> None:
        folder = str(config.parent)
        texts = {key: value.format(folder=folder) for key, value in options.items() if isinstance(value, str)}
        found = run(model_info, capsys, **{**options, **texts})
        assert found["failed"] is True
        assert found["msg"] == sentence.format(folder=folder)


class TestSaved:
    def test_saved_facts_are_the_facts(self, tmp_path: Path, capsys: Capture) -> None:
        folder = write_checkpoint(tmp_path / "m", LLAMA, {"model.safetensors": llama_headers()})
        file = tmp_path / "facts.json"
        first = run(model_info, capsys, model=str(folder), save=str(file))
        assert first["changed"] is True
        assert "diff" not in first
        assert run(model_info, capsys, model=str(folder), save=str(file))["changed"] is False
        read = run(model_info, capsys, saved=str(file))
        assert read["changed"] is False
        assert read["model_facts"] == first["model_facts"]
        assert file.stat().st_mode & 0o777 == 0o644

    def test_check_mode_tells_and_writes_nothing(self, tmp_path: Path, capsys: Capture) -> None:
        config = write_checkpoint(tmp_path / "m", LLAMA, {}) / "config.json"
        file = tmp_path / "facts.json"
        options = {"config": str(config), "save": str(file), "_ansible_check_mode": True, "_ansible_diff": True}
        found = run(model_info, capsys, **options)
        assert found["changed"] is True
        assert found["diff"]["before"] == ""
        assert json.loads(found["diff"]["after"]) == found["model_facts"]
        assert not file.exists()

    def test_a_changed_model_is_written_again(self, tmp_path: Path, capsys: Capture) -> None:
        config = write_checkpoint(tmp_path / "m", LLAMA, {}) / "config.json"
        file = tmp_path / "facts.json"
        run(model_info, capsys, config=str(config), save=str(file))
        before = file.read_text(encoding="utf-8")
        found = run(model_info, capsys, config=str(config), weights_bytes=300000, save=str(file), _ansible_diff=True)
        assert found["changed"] is True
        assert found["diff"]["before"] == before
        assert found["diff"]["after"] == file.read_text(encoding="utf-8") != before
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_a_model_that_cannot_be_read_is_not_saved(self, tmp_path: Path, capsys: Capture) -> None:
        file = tmp_path / "facts.json"
        found = run(model_info, capsys, model=f"{tmp_path}/none", required=False, save=str(file))
        assert list(found["model_facts"]) == ["problem"]
        assert not file.exists()


def test_options_are_documented() -> None:
    documented = yaml.safe_load(model_info.DOCUMENTATION)["options"]
    assert set(documented) == set(model_info.ARGUMENTS)
    for name, option in model_info.ARGUMENTS.items():
        assert documented[name]["type"] == option["type"], name
        assert documented[name].get("default") == option.get("default"), name
