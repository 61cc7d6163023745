"""Modules that write into /var/lib/vllm, where the user of the service has put a link."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, instance_files, removal
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt
from ansible_collections.gpufleet.vllm.plugins.modules import (
    instances_absent,
    model_copy,
    model_prune,
    model_snapshot,
    nccl_check,
)
from ansible_collections.gpufleet.vllm.plugins.modules import receipt as receipt_module

from tests.unit.plugins.modules.running import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")

USER = 64999
SECRET = "of root alone"
FILES = [{"path": "config.json", "size": 1}]
NAMES = ["config.json"]
SNAPSHOT = {"model": "org/chat", "revision": "b" * 40, "cache": "{state}/hub", "files": FILES, "names": NAMES}
FILE = f"hub/models--org--chat/snapshots/{'b' * 40}/config.json"
# The module, the link, and what the module is given; "{state}" stands for the folder.
CALLS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "copy": (model_copy, "models/chat", {"source": "/srv", "folder": "{state}/models/chat", "claimed": True}),
    "check": (nccl_check, "checks", {"state": "recorded", "check": {"name": "chat"}, "record": {"a": 1}}),
    "part": (nccl_check, "checks/.x.part", {"state": "recorded", "check": {"name": "chat"}, "record": {"a": 1}}),
    "receipt": (receipt_module, "receipts", {"layout": {"name": "chat", "unit": "vllm@chat.service"}}),
    "download": (model_snapshot, "hub", {"state": "started", **SNAPSHOT}),
    "compare": (model_snapshot, FILE, {"state": "verified", **SNAPSHOT}),
    "drop": (model_snapshot, FILE, {"state": "dropped", **SNAPSHOT}),
    "prune": (model_prune, FILE, {"cache": "{state}/hub"}),
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the service's, and a private one of root."""
    place = tmp_path / "vllm"
    place.mkdir()
    (tmp_path / "private").mkdir(mode=0o700)
    for name in ("chat.json", "config.json"):
        (tmp_path / "private" / name).write_text(SECRET)
    monkeypatch.setattr(claim, "STATE", place)
    monkeypatch.setattr(claim, "UNIT", tmp_path / "none")
    monkeypatch.setattr(removal, "STATE", place)
    for key in ("UNITS", "SETTINGS", "CACHES"):
        monkeypatch.setattr(removal, key, tmp_path / key)
    monkeypatch.setattr(instance_files, "STATES", tmp_path / "good")
    monkeypatch.setattr(nccl_check, "RECORDS", place / "checks")
    monkeypatch.setattr(nccl_check, "RUNNING", tmp_path / "run")
    monkeypatch.setattr(receipt, "FOLDER", place / "receipts")
    monkeypatch.setattr(systemd, "show", lambda _units: {})
    return place


def plant(state: Path, name: str) -> None:
    """Put a link where root works, with all on the way to it the service's."""
    link = state / name
    link.parent.mkdir(parents=True, exist_ok=True)
    target = "private/config.json" if name == FILE else "private"
    link.symlink_to(state.parent / target)
    for path in (link, *link.parents):
        if path.is_relative_to(state):
            os.lchown(path, USER, USER)


def unharmed(state: Path) -> bool:
    """Tell whether root's folder is as it was."""
    private = state.parent / "private"
    texts = {path.name: path.read_text() for path in private.iterdir()}
    return private.stat().st_mode & 0o777 == 0o700 and texts == {"chat.json": SECRET, "config.json": SECRET}


@pytest.mark.parametrize("kind", CALLS)
def test_a_link_is_refused_and_not_followed(state: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    module, link, given = CALLS[kind]
    plant(state, link)
    filled = {key: value.format(state=state) if isinstance(value, str) else value for key, value in given.items()}
    answer = run(module, capsys, **filled)
    assert answer["failed"]
    assert f"'{state / link}' is a link." in answer["msg"]
    assert unharmed(state)


@pytest.mark.parametrize("check", [True, False])
def test_an_instance_is_removed_beside_a_link(state: Path, capsys: pytest.CaptureFixture[str], check: bool) -> None:
    plant(state, "receipts")
    answer = run(instances_absent, capsys, names=["chat"], root=str(state), _ansible_check_mode=check)
    assert (answer["removed"], answer.get("failed")) == ([], None)
    assert SECRET not in str(answer)
    assert unharmed(state)
