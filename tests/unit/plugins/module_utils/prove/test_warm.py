"""The steps of a warm-up, and what they measure."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from threading import Barrier
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client, requests, warm

from tests.unit.vllm_stand_in import answering, chat

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


def planned(**how: Any) -> list[warm.Step]:
    """Plan the warm-up of a chat model."""
    given = {
        "kind": "chat",
        "paths": [CHAT, COMPLETION],
        "max_model_len": 8192,
        "concurrency": 4,
        "prompt_tokens": 4096,
    }
    return [warm.Step(**step) for step in warm.plan(**{**given, **how})]


@pytest.mark.parametrize(
    ("how", "prompts"),
    [
        ({}, [(0,), (0,) * 4, (4096,), (2048, 1024, 512, 256), (0,), (0,) * 4]),
        ({"max_model_len": 1024}, [(0,), (0,) * 4, (768,), (384, 192, 96, 48), (0,), (0,) * 4]),
        ({"max_model_len": None}, [(0,), (0,) * 4, (1536,), (768, 384, 192, 96), (0,), (0,) * 4]),
        ({"max_model_len": 64}, [(0,), (0,) * 4, (0,), (0,) * 4]),
        ({"concurrency": 1}, [(0,), (4096,), (0,)]),
        ({"prompt_tokens": 0}, [(0,), (0,) * 4, (0,), (0,) * 4]),
        ({"kind": "embedding", "paths": ["/v1/embeddings"], "concurrency": 1}, [(4096,), (0,)]),
    ],
)
def test_plan(how: dict[str, Any], prompts: list[tuple[int, ...]]) -> None:
    assert [step.prompts for step in planned(**how)] == prompts


@pytest.mark.parametrize("length", [1, 16, 64, 100, 512, 131072])
def test_nothing_is_longer_than_the_context(length: int) -> None:
    for step in planned(max_model_len=length, prompt_tokens=10**9):
        assert step.tokens >= 1
        assert max(step.prompts) + step.tokens <= max(length, 2)


def test_the_requests_of_a_step_are_there_at_the_same_time() -> None:
    together = Barrier(3, timeout=5)
    status, text = chat(["1", "2", "3"])

    def wait(handler: BaseHTTPRequestHandler) -> None:
        together.wait()
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(text.encode())

    step = warm.Step("three at once", "chat", (0, 0, 0), 16, True)
    with answering({CHAT: wait}) as (server, bodies):
        found = warm.run(server, "m", step)
    assert (found["requests"], found["answer_tokens"], found["measured"]) == (3, 9, True)
    assert found["first_token_seconds"] > 0
    assert len({json.dumps(body["messages"]) for _, body in bodies}) == 3
    assert all(body["ignore_eos"] for _, body in bodies)


@pytest.mark.parametrize(
    ("tokenize", "most"),
    [
        ((200, {"count": 8 * 20}), 400),
        ((200, {"count": 8 * len(warm.FILLER)}), 400),
        ((404, {}), 400),
        ((200, "x"), 400),
    ],
)
def test_a_long_prompt_is_no_longer_than_asked(tokenize: Any, most: int) -> None:
    count = tokenize[1].get("count") if isinstance(tokenize[1], dict) else None
    each = (count or 8 * len(warm.FILLER)) / 8 / len(warm.FILLER)
    with answering({CHAT: chat(["1"]), "/tokenize": tokenize}) as (server, bodies):
        warm.run(server, "m", warm.Step("a prompt", "chat", (most,), 16))
    prompt = bodies[-1][1]["messages"][0]["content"]
    assert 0.5 * most < len(prompt) * each <= most


def test_a_refused_kind_is_told() -> None:
    with answering({COMPLETION: (400, {"error": {"message": "too long"}})}) as (server, _):
        found = warm.run(server, "m", warm.Step("a completion request", "completion", (0,), 16))
    assert found["refused"] == "400 too long"
    assert warm.summary([found])["tokens_per_second"] is None


@pytest.mark.parametrize("answer", [(500, {"error": {"message": "dead"}}), (200, ""), chat(["!"], [None])])
def test_a_fault_ends_the_step(answer: Any) -> None:
    with answering({CHAT: answer}) as (server, _), pytest.raises(client.WrongAnswer):
        warm.run(server, "m", warm.Step("one", "chat", (0,), 16))


def answer(first: float, tokens: int) -> requests.Answer:
    """Return a good answer."""
    return requests.Answer("chat", tokens, 1.0, 10, first)


def test_figures() -> None:
    alone = warm.measure(warm.Step("alone", "chat", (0,), 64, True), [answer(0.05, 64)], 0.64)
    many = warm.measure(warm.Step("many", "chat", (0, 0), 64, True), [answer(0.05, 64), answer(0.07, 64)], 0.8)
    early = warm.measure(warm.Step("early", "chat", (0,), 16), [answer(9.0, 16)], 9.0)
    assert warm.summary([early, alone, many]) == {
        "first_token_seconds": 0.05,
        "tokens_per_second": 100.0,
        "at_once": 2,
        "tokens_per_second_at_once": 160.0,
    }
    told = {"kind": "chat", "first_request_seconds": 9.0, **warm.summary([early, alone, many])}
    assert warm.sentence(False, told) == (
        "answered a chat request in 9.00 s; warm: 0.050 s to the first token, 100 tokens/s, 160 tokens/s with 2 "
        "requests at once"
    )
    assert warm.sentence(True, told) == "answered a chat request in 9.00 s; it is warm"
