"""What is read of the instances of a host, from real files and a real HTTP server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import instances, receipt

SETTINGS = """\
# Written by Ansible (gpufleet.vllm.serve); changes made here are lost.
enforce-eager: true
host: 127.0.0.1
max-model-len: 256
model: {model}
port: {port}
served-model-name:
- chat
chat-template: '/srv/t.jinja'
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the settings of one instance, whose model is whole."""
    for name in ("etc", "links", "receipts", "checks", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(instances, "SETTINGS", tmp_path / "etc")
    monkeypatch.setattr(instances, "PROGRAM", f"{tmp_path}/links/%i/bin/vllm")
    monkeypatch.setattr(instances, "TEMPLATE", f"{tmp_path}/vllm@.service")
    monkeypatch.setattr(receipt, "FOLDER", tmp_path / "receipts")
    monkeypatch.setattr(receipt, "CHECKS", tmp_path / "checks")
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_text("x")
    (tmp_path / "etc" / "chat.yaml").write_text(SETTINGS.format(model=tmp_path / "model", port=1))
    (tmp_path / "etc" / "chat.env").write_text('# note\nHF_HUB_OFFLINE="0"\nVLLM_API_KEY="secret"\n')
    return tmp_path


def described(**how: Any) -> dict[str, Any]:
    found = instances.describe({}, how.pop("seconds", 5.0), ask=False)
    json.dumps(found)
    return found


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "UPPER", "a b", "a\nb", "\x1b[2J"])
def test_a_file_with_another_name_is_no_instance(machine: Path, name: str) -> None:
    (machine / "receipts").mkdir(exist_ok=True)
    for file in (machine / "receipts" / f"{name}.json", machine / "etc" / f"{name}.yaml"):
        file.write_text("{}")
    assert instances.names() == ["chat"]


def test_an_instance(machine: Path) -> None:
    found = described()
    one = found["instances"]["chat"]
    assert one["settings"] == {
        "enforce-eager": "true",
        "host": "127.0.0.1",
        "max-model-len": "256",
        "model": str(machine / "model"),
        "port": "1",
        "chat-template": "/srv/t.jinja",
    }
    assert one["model"] == {"state": "ok", "path": str(machine / "model"), "missing": []}
    assert (one["online"], one["environment"]) == (True, ["HF_HUB_OFFLINE", "VLLM_API_KEY"])
    assert (one["process"], one["server"], one["receipt"], one["receipt_damaged"]) == (None, None, None, False)
    assert one["release_there"] is False
    assert "secret" not in json.dumps(found)
    assert found["late"] == []
    assert {disk["path"] for disk in found["disks"]} >= {"/", "/tmp"}


def test_a_receipt_that_is_damaged_and_one_without_settings(machine: Path) -> None:
    (machine / "receipts" / "chat.json").write_text('{"schema_ver')
    (machine / "receipts" / "gone.json").write_text('{"schema_version": 1}')
    (machine / "checks" / "chat.json").write_text('{"state": "ok"}')
    found = described()["instances"]
    assert (found["chat"]["receipt_damaged"], found["chat"]["check"]) == (True, {"state": "ok"})
    assert (found["gone"]["has_settings"], found["gone"]["receipt"]) == (False, {"schema_version": 1})


@pytest.mark.parametrize(
    ("files", "state", "missing"),
    [
        ({"config.json": "{}"}, "incomplete", ["weights (*.safetensors)"]),
        ({"model.safetensors": "x"}, "incomplete", ["config.json"]),
        ({"config.json": "{}", "model.safetensors": ""}, "incomplete", ["model.safetensors (empty)"]),
        (
            {"config.json": "{}", "model.safetensors.index.json": '{"weight_map": {"a": "1.safetensors"}}'},
            "incomplete",
            ["1.safetensors"],
        ),
        ({"config.json": "{}", "model.safetensors.index.json": "[1", "a.safetensors": "x"}, "ok", []),
        (None, "missing", []),
    ],
)
def test_files_of_a_model(machine: Path, files: dict[str, str] | None, state: str, missing: list[str]) -> None:
    folder = machine / "model"
    for path in folder.iterdir():
        path.unlink()
    if files is None:
        folder.rmdir()
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    found = described()["instances"]["chat"]["model"]
    assert (found["state"], found["missing"]) == (state, missing)


def test_a_step_that_hangs_is_a_line(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "_model", lambda written, cache: time.sleep(60))
    begin = time.monotonic()
    found = described(seconds=0.2)
    assert time.monotonic() - begin < 10
    assert found["late"] == ["the model of chat: no answer within 0.2 s"]
    assert found["instances"]["chat"]["model"]["state"] == "unknown"


def test_within_passes_on_what_goes_wrong() -> None:
    def wrong() -> None:
        raise ValueError("no")

    assert instances.within(1, lambda: 3) == 3
    with pytest.raises(ValueError, match="no"):
        instances.within(1, wrong)
    with pytest.raises(instances.Late):
        instances.within(0.05, lambda: time.sleep(9))
