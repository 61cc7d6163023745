"""Whether there is anything left to write down of an instance."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt, receipt_files

from tests.unit.plugins.module_utils.prove.test_receipt import LAYOUT, MEASURED, PROCESS

AS_PREDICTED = {"kv_cache_tokens": 1000, "model_load_gib": 15.0}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a host that has written all down."""
    monkeypatch.setattr(receipt, "FOLDER", PurePosixPath(tmp_path / "receipts"))
    monkeypatch.setattr(receipt, "CHECKS", PurePosixPath(tmp_path / "checks"))
    monkeypatch.setattr(instance_files, "STATES", tmp_path / "good")
    write(tmp_path)
    return tmp_path


def write(host: Path, **measured: Any) -> None:
    """Write a receipt, and keep it with the good state."""
    found = {**MEASURED, "actual": AS_PREDICTED, **measured}
    written = receipt.build(LAYOUT, found, receipt_files.checks("chat"), 0.1, "2026-11-24T00:00:00+00:00")
    (host / "receipts").mkdir(exist_ok=True)
    receipt_files.path("chat").write_text(receipt.text(written))
    whole = json.loads(receipt.text(written))
    good = good_states.capture("chat", {}, "", "", "0.33.0-cuda", None, None, whole, "2026-11-23")
    instance_files.write_state("chat", "good", good)


def stands(layout: dict[str, Any] | None = None, process: dict[str, Any] | None = None) -> bool:
    return receipt_files.stands({**LAYOUT, **(layout or {})}, {**PROCESS, **(process or {})}, 0.1)


def test_nothing_is_left(host: Path) -> None:
    assert stands()


@pytest.mark.parametrize("process", [{"pid": 4712}, {"invocation": "e"}, {"digest": "2f"}])
def test_another_process(host: Path, process: dict[str, Any]) -> None:
    assert not stands(process=process)


def test_another_layout(host: Path) -> None:
    assert not stands(layout={"kv_cache_tokens": 1001})


def test_another_check(host: Path) -> None:
    (host / "checks").mkdir()
    (host / "checks/chat.json").write_text('{"state": "ok"}')
    assert receipt_files.checks("chat") == {"nccl": {"state": "ok"}}
    assert not stands()
    write(host)
    assert stands()


def test_a_check_that_is_not_whole(host: Path) -> None:
    (host / "checks").mkdir()
    (host / "checks/chat.json").write_text('{"state":')
    assert receipt_files.checks("chat") == {}


def test_a_warning_is_said_again(host: Path) -> None:
    write(host, actual={**AS_PREDICTED, "kv_cache_tokens": 1250})
    assert not stands()


def test_a_good_state_that_is_missing_or_older(host: Path) -> None:
    good = instance_files.read_state("chat", "good")
    assert good is not None
    instance_files.write_state("chat", "good", {**good, "receipt": {**good["receipt"], "time": "2026-11-23"}})
    assert not stands()
    instance_files.write_state("chat", "good", None)
    assert not stands()


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 0}'])
def test_a_receipt_that_cannot_be_read(host: Path, text: str) -> None:
    receipt_files.path("chat").write_text(text)
    assert not stands()
