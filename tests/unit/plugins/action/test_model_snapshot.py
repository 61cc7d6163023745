"""The part of model_snapshot on the control node: what it does when a download does not get on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.action import model_snapshot

FILES = [{"path": "a", "size": 100}, {"path": "b", "size": 100}]
SAID = "Error: Local entry not found. "


class Host:
    """A host: what is missing on it, and by attempt what becomes of a download."""

    def __init__(self, *attempts: str) -> None:
        self.attempts = list(attempts)
        self.missing = ["a", "b"]
        self.now = 0.0
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.slept: list[float] = []

    def call(self, state: str, **more: Any) -> dict[str, Any]:
        """Answer as the module does."""
        self.asked.append((state, more))
        if state == "observed":
            size = 100 * len(self.missing)
            present = 200 - size
            return {"missing": list(self.missing), "unverified": [], "missing_bytes": size, "total_bytes": 200} | {
                "present_bytes": present
            }
        if state == "read":
            return self.read(self.attempts[0])
        if state == "stopped":
            self.attempts.pop(0)
        return {}

    def read(self, what: str) -> dict[str, Any]:
        """Say how the attempt goes on: it stalls, or ends, with a file or both of them."""
        answer: dict[str, Any] = {"running": what == "stalls", "activity": 7, "present_bytes": 0, "output": []}
        if what != "stalls":
            self.attempts.pop(0)
            self.missing = {"whole": [], "one file": ["b"]}.get(what, self.missing)
            answer |= {"result": "success" if what == "whole" else "exit-code", "output": [SAID + what]}
        return answer

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.slept.append(seconds)

    def count(self, state: str) -> int:
        return [one for one, _more in self.asked].count(state)


Action = Callable[..., tuple[Any, list[str]]]


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Action:
    """Make the plugin for a host; what it shows is in the list."""

    def make(host: Host, **arguments: Any) -> tuple[Any, list[str]]:
        made: Any = object.__new__(model_snapshot.ActionModule)
        made.arguments = {"model": "org/chat", "files": FILES, **arguments}
        made.host, made.warned, made.call = "gpu1", [], host.call
        shown: list[str] = []
        made.say = shown.append
        monkeypatch.setattr(time, "sleep", host.sleep)
        monkeypatch.setattr(time, "monotonic", lambda: host.now)
        return made, shown

    return make


def test_a_stall_is_seen_within_a_minute_and_resumed_without_xet(action: Action) -> None:
    host = Host("stalls", "whole")
    made, shown = action(host)
    made.download(host.call("observed"))
    assert host.count("stopped") == 1
    assert 60 <= host.now <= 75
    assert shown[-2] == "no byte arrived for 60 s; going on in 5 s with what is not whole"
    assert made.arguments["xet"] is False
    assert "goes on without it" in made.warned[0]


def test_a_stall_that_stays_ends_with_a_sentence(action: Action) -> None:
    host = Host(*["stalls"] * 4)
    made, _shown = action(host, stall_seconds=10)
    with pytest.raises(model_snapshot.Stopped) as stopped:
        made.download(host.call("observed"))
    assert (
        "could not be downloaded: no byte arrived for 10 s. Remedy: see what holds it up" in stopped.value.answer["msg"]
    )
    assert host.count("started") == 4
    assert [pause for pause in host.slept if pause > 2] == [5, 10, 20]


def test_attempts_that_bring_a_file_do_not_count(action: Action) -> None:
    host = Host("503 Service Unavailable", "one file", "503 Service Unavailable", "whole")
    made, _shown = action(host, retries=1)
    made.download(host.call("observed"))
    assert host.count("started") == 4
    # Xet was not the reason
    assert "xet" not in made.arguments


def test_what_does_not_pass_is_not_tried_again(action: Action) -> None:
    host = Host("[Errno 28] No space left on device")
    made, _shown = action(host)
    with pytest.raises(model_snapshot.Stopped) as stopped:
        made.download(host.call("observed"))
    assert "the disk is full" in stopped.value.answer["msg"]
    assert host.count("started") == 1


def test_what_xet_alone_can_fetch_stays_with_it(action: Action) -> None:
    host = Host("stalls", "whole")
    made, _shown = action(host, files=[{"path": "a", "size": 60_000_000_000}, {"path": "b", "size": 1}])
    made.download(host.call("observed"))
    assert "xet" not in made.arguments
    assert made.warned == []


def test_the_time_for_all_attempts_is_limited(action: Action) -> None:
    host = Host(*["stalls"] * 9)
    made, _shown = action(host, timeout=150, retries=9)
    with pytest.raises(model_snapshot.Stopped):
        made.download(host.call("observed"))
    assert host.now <= 220
    given = [more["timeout"] for state, more in host.asked if state == "started"]
    assert given[0] == 150
    assert given == sorted(given, reverse=True)
