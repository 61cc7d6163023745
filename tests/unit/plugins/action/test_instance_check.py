"""The list of instances is refused before a host is asked."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.action import instance_check as action

from tests.unit.samples import CHECKOUT

MODELS = [{"name": "chat", "model": "/srv/models/chat"}]


def check(monkeypatch: pytest.MonkeyPatch, models: Any, token: str = "") -> dict[str, Any]:
    """Run the action of a task."""
    made = action.ActionModule.__new__(action.ActionModule)
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    given = {"models": models, "token": token}
    monkeypatch.setattr(ActionBase, "validate_argument_spec", lambda *_, **__: (None, given))
    made._task = SimpleNamespace(args=given, check_mode=False)
    return made.run(None, {})


@pytest.mark.parametrize("token", ["", "\n", "hf_" + "a" * 34, "hf_aaaaaaaaaa\n"])
def test_what_is_right(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    assert check(monkeypatch, MODELS, token) == {}


@pytest.mark.parametrize("token", ["password", "hf_", "hf_short", "xhf_aaaaaaaaaa", "hf_aaaa\naaaa", "hf_aaaa aaaa"])
def test_a_token_that_is_none(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    told = check(monkeypatch, MODELS, token)
    assert told["failed"]
    assert told["msg"] == action.NOT_OF_THE_HUB
    assert token.strip() == "hf_" or token not in told["msg"]


def test_every_fault_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told = check(monkeypatch, [{"name": "chat"}, {"name": "chat", "prot": 1}], "password")
    assert told["failed"]
    first, *others = told["msg"].split("\n")
    assert first.startswith("vllm_models[0] (chat)")
    assert others[-1] == action.NOT_OF_THE_HUB
    assert any("'prot'" in sentence for sentence in others)


def test_all_filters_are_loaded_with_it() -> None:
    # Left to the tasks, each of them compiles the planner again (plugin_utils/filters.py).
    program = (
        "import sys; from ansible.plugins import loader; loader.init_plugin_loader(None);"
        "loader.action_loader.get('gpufleet.vllm.instance_check', class_only=True);"
        "print(*(name.split('.')[-1] for name in sys.modules if '.vllm.plugins.filter.' in name))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert set(done.stdout.split()) == {path.stem for path in (CHECKOUT / "plugins/filter").glob("*.py")}
