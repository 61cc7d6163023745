"""The steps of a roll-out as its tasks tell them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.action import rollout_record as action
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout_record
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files, rollout_file, terminal

BOUNDS = {"max_ttft_ratio": 1.5, "min_tokens_ratio": 0.8, "ttft_slack": 0.1}
GOOD = {"errors": [], "first_token_seconds": 0.1, "tokens_per_second": 50.0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a record of two hosts, one after the other."""
    hosts = {host: [{"name": "chat", "state": "change", "changes": []}] for host in ("a", "b")}
    record = rollout_record.begin("rollout", [["a"], ["b"]], hosts, {}, {}, "t")
    files.write(tmp_path / "record.json", rollout_record.text(record))
    return tmp_path / "record.json"


def tell(path: Path, host: str, step: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> dict[str, Any]:
    """Run the action of a task."""
    made = action.ActionModule.__new__(action.ActionModule)
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(terminal, "show", lambda *_: None)
    arguments = {name: spec.get("default") for name, spec in action.ARGUMENT_SPEC.items()}
    arguments.update({"record": str(path), "step": step, "host": host, **more})
    monkeypatch.setattr(ActionBase, "validate_argument_spec", lambda *_, **__: (None, arguments))
    made._task = SimpleNamespace(args=arguments, check_mode=False)
    return made.run(None, {"inventory_hostname": host})


def test_a_host_that_is_as_good_as_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tell(path, "a", "goes_on", monkeypatch) == {"changed": False, "goes_on": True}
    assert not tell(path, "b", "goes_on", monkeypatch)["goes_on"]
    tell(path, "a", "begun", monkeypatch)
    told = tell(path, "a", "verified", monkeypatch, before={"chat": GOOD}, after={"chat": GOOD}, bounds=BOUNDS)
    assert told == {"changed": True}
    tell(path, "a", "done", monkeypatch)
    assert tell(path, "b", "goes_on", monkeypatch)["goes_on"]
    assert rollout_file.read(path)["hosts"]["a"]["instances"]["chat"]["before"] == GOOD


def test_a_host_that_is_worse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {**GOOD, "tokens_per_second": 10.0}
    told = tell(path, "a", "verified", monkeypatch, before={"chat": GOOD}, after={"chat": slow}, bounds=BOUNDS)
    assert told["failed"]
    assert told["msg"].startswith("Changed, it is worse than before. chat: it gives 10.0 tokens/s and before")
    tell(path, "a", "failed", monkeypatch, failure=told)
    tell(path, "a", "restored", monkeypatch)
    ended = tell(path, "a", "concluded", monkeypatch)
    assert ended["failed"]
    assert "Back at the last good state, which serves: a." in ended["msg"]
    assert str(path) in ended["msg"]


def test_a_record_that_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.unlink()
    assert "cannot be read" in tell(path, "a", "begun", monkeypatch)["msg"]
