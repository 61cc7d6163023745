"""What a roll-out measures of an instance."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, requests
from ansible_collections.gpufleet.vllm.plugins.modules import instance_measure


class First:
    """The request that a server is asked with."""

    kind = "chat"


def test_tokens_per_second_are_those_of_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a stream that came late and all at once make no faster engine."""
    late = requests.Answer("chat", 64, 2.0, first_token_seconds=1.9995)

    def answer(*_arguments: Any) -> requests.Answer:
        return late

    monkeypatch.setattr(client, "check_models", lambda *_: 512)
    monkeypatch.setattr(client, "offered_paths", lambda *_: set())
    monkeypatch.setattr(requests, "first_request", lambda *_: First)
    monkeypatch.setattr(requests, "ask", answer)
    server = client.Server("127.0.0.1", 8000, 10, None)
    found = instance_measure.measure(server, {"name": "chat", "tokens": 64, "requests": 3})
    assert (found["requests"], found["errors"]) == (3, [])
    assert (found["first_token_seconds"], found["tokens_per_second"]) == (1.9995, 32.0)
