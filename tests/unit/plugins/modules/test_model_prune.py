"""Commits of hub models that nobody uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files
from ansible_collections.gpufleet.vllm.plugins.modules import model_prune

from tests.unit.plugins.modules.running import run, script

OLD, NEW = "a" * 40, "b" * 40
FOREIGN = ("--help", "..x", "main", f"{OLD}0", "a b")


def test_only_commits_of_models_are_given_to_the_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, etc = tmp_path / "hub", tmp_path / "etc"
    etc.mkdir()
    (etc / "chat.yaml").write_text(f"model: org/chat\nrevision: {NEW}\n")
    for name in (*FOREIGN, OLD, NEW):
        (hub / "models--org--chat/snapshots" / name).mkdir(parents=True)
    (hub / "models--org--\x1b[2J/snapshots" / OLD).mkdir(parents=True)
    monkeypatch.setattr(model_prune, "SETTINGS", etc)
    monkeypatch.setattr(instance_files, "STATES", etc / "good")
    script(tmp_path, "hf", "")
    (tmp_path / "hf").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n')
    answer = run(model_prune, capsys, cache=str(hub), hf=str(tmp_path / "hf"))
    assert answer["removed"] == [f"org/chat {OLD}"]
    assert (tmp_path / "told").read_text() == f"cache rm --yes --cache-dir={hub} -- {OLD}\n"
