"""The steps of a warm-up as the control node goes through them; the host's part is played by a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.action import warmup
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal

STEP = {"words": "a completion request", "kind": "completion", "prompts": [0], "tokens": 16, "measured": False}
MEASURED = {"words": "the time to the first token", "requests": 1, "first_token_seconds": 0.05, "measured": True}
READY: dict[str, Any] = {
    "finished": True,
    "warm": False,
    "restarts": 0,
    "remarks": [],
    "process": {"invocation": "a", "pid": 1, "digest": "d"},
    "request": {"kind": "chat", "seconds": 9.0, "tokens": 16},
    "steps": [STEP, {**STEP, "words": "the time to the first token"}],
}


class Host:
    """Answers the calls of the module in turn, and remembers what it was asked."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(module_args)
        return self.answers.pop(0)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that were shown."""
    lines: list[str] = []
    monkeypatch.setattr(terminal, "show", lines.append)
    return lines


def action(host: Host, **arguments: Any) -> Any:
    """Make the action plugin of a task."""
    made = warmup.ActionModule.__new__(warmup.ActionModule)
    made._task = SimpleNamespace(args={"name": "chat", "port": 8000, **arguments}, check_mode=False)
    made._execute_module = host
    made.vars, made.title = {}, "gpu01: vllm@chat"
    return made


def measured(**what: Any) -> dict[str, Any]:
    """Return the answer of a step."""
    return {"measured": {"requests": 1, "measured": False, **what}}


def test_a_line_whenever_the_stage_changes(shown: list[str]) -> None:
    loading = {"finished": False, "restarts": 3}
    stages = ["loading weights, 40 %", "loading weights, 40 %", "compiling"]
    host = Host(*({**loading, "stage": stage} for stage in stages), READY)
    assert action(host).wait()["request"] == READY["request"]
    assert [line.split(" (")[0] for line in shown] == [
        "gpu01: vllm@chat: loading weights, 40 %",
        "gpu01: vllm@chat: compiling",
    ]
    assert [asked.get("restarts_before") for asked in host.asked] == [None, 3, 3, 3]


def test_it_gives_up_with_a_sentence(shown: list[str]) -> None:
    host = Host({"finished": False, "restarts": 0, "stage": "compiling"})
    with pytest.raises(warmup.Broken) as raised:
        action(host, timeout=-1).wait()
    assert raised.value.answer["failed"]
    assert raised.value.answer["msg"] == (
        "vllm@chat.service did not answer within -1 s; it was at: compiling. Raise warmup_timeout if the model needs "
        "longer."
    )


def test_the_steps_are_taken_and_summed_up(shown: list[str]) -> None:
    host = Host(measured(requests=8), {"measured": MEASURED | {"tokens_per_second": 100.0}})
    found = action(host).warm(READY)
    assert shown[:2] == [
        "gpu01: vllm@chat: warming up, 1 of 2: a completion request",
        "gpu01: vllm@chat: warming up, 2 of 2: the time to the first token",
    ]
    assert [asked["step"]["words"] for asked in host.asked] == [step["words"] for step in READY["steps"]]
    warmed = found["proof"]["warmup"]
    assert (warmed["requests"], warmed["first_token_seconds"], warmed["remarks"]) == (10, 0.05, [])
    assert found["msg"] == "answered a chat request in 9.00 s; warm: 0.050 s to the first token, 100 tokens/s"


def test_no_step_is_begun_after_its_time(shown: list[str]) -> None:
    found = action(Host(), seconds=0).warm(READY)
    assert found["proof"]["warmup"]["remarks"] == [
        "the warm-up left out 2 of its steps after 0 s (warmup_seconds)",
    ]


def test_a_failed_step_is_the_answer(shown: list[str]) -> None:
    failed = {"failed": True, "msg": "vllm@chat.service died while it was warmed up"}
    with pytest.raises(warmup.Broken) as raised:
        action(Host(failed)).warm(READY)
    assert raised.value.answer == failed


def test_a_warm_process_gets_no_step(shown: list[str]) -> None:
    found = action(Host()).warm({**READY, "warm": True, "steps": []})
    assert found["proof"]["warm"]
    assert shown == ["gpu01: vllm@chat: answered a chat request in 9.00 s; it is warm"]


def test_a_rank_beside_the_head_is_asked_nothing(shown: list[str]) -> None:
    """Its proof says which process runs, and that nothing was measured of it."""
    answer = {**READY, "request": None, "steps": []}
    task = action(Host({**answer, "finished": False, "stage": "waiting for gpu00 (10.0.0.1)"}, answer), node_rank=1)
    task._supports_async = False
    found = task.prove({})
    assert shown == [
        "gpu01: vllm@chat: waiting for gpu00 (10.0.0.1) (0 s)",
        "gpu01: vllm@chat: rank 1 runs; the first of its hosts answers for it",
    ]
    assert found["proof"] == {"process": READY["process"], "warm": False, "warmup": None}
