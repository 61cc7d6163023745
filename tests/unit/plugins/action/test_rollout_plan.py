"""When the plan of a roll-out is shown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.action import rollout_plan as action
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal

CHANGE: dict[str, Any] = {
    "what": "the user or the folders of the service, the files of the model or the token",
    "from": None,
    "to": None,
}


def planned(
    path: Path, monkeypatch: pytest.MonkeyPatch, state: str, elsewhere: dict[str, Any] | None = None, **more: Any
) -> tuple[dict[str, Any], str]:
    """Run the action for one host, whose instance is in a state; returns its result, and what was shown."""
    lines: list[str] = []
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(terminal, "show", lines.append)
    arguments = {name: spec.get("default") for name, spec in action.ARGUMENT_SPEC.items()}
    arguments.update({"hosts": ["a"], "record": str(path / "record.json"), **more})
    monkeypatch.setattr(ActionBase, "validate_argument_spec", lambda *_, **__: (None, arguments))
    one = {"name": "chat", "state": state, "begun": False, "nodes": [], "changes": [CHANGE]}
    made = action.ActionModule.__new__(action.ActionModule)
    made._task = SimpleNamespace(args=arguments, check_mode=False)
    told = {"serve_compared": {"results": [{"comparison": one}]}}
    hosts = {**dict.fromkeys(more.get("hosts", ["a"]), told), "z": {"vllm_models": [elsewhere or {}]}}
    return made.run(None, {"hostvars": hosts}), "\n".join(lines)


def test_a_plan_that_has_others_after_the_preparation_is_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, shown = planned(tmp_path, monkeypatch, "same")
    assert "Nothing changes: 1 instances are as they should be." in shown
    after, shown = planned(tmp_path, monkeypatch, "change", begin=True, shown=before["batches"])
    assert (before["batches"], after["batches"]) == ([], [["a"]])
    assert CHANGE["what"] in shown


def test_a_plan_that_stays_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, shown = planned(tmp_path, monkeypatch, "change")
    assert CHANGE["what"] in shown
    after, shown = planned(tmp_path, monkeypatch, "change", begin=True, shown=before["batches"])
    assert after["changed"]
    assert shown == f"The record of this rollout is {tmp_path / 'record.json'}."


@pytest.mark.parametrize(("state", "failed"), [("absent", True), ("present", False)])
def test_an_absent_entry_elsewhere_is_no_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, failed: bool
) -> None:
    elsewhere = {"name": "chat", "state": state}
    more: dict[str, Any] = {"hosts": ["a", "b"], "fleet": ["a", "b", "z"], "canary": 0, "batch": "100%"}
    found, _shown = planned(tmp_path, monkeypatch, "change", elsewhere, **more)
    assert ("A batch takes all 2 replicas of chat" in found.get("msg", "")) is failed
