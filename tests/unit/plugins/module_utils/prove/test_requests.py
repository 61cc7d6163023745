"""Requests of every kind: which is tried, what is a good answer, what is garbage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import answers, client, garbage, requests
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vllm_stand_in import Answers, answering, chat, completion, cut_off, hang_up, streamed, usage

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
PATHS = [kind.path for kind in requests.KINDS.values()]
EMBEDDING = (200, {"data": [{"embedding": [0.1, 0.2, 0.3]}], "usage": {"prompt_tokens": 9}})
SCORE = (200, {"data": [{"index": 0, "score": 0.25}], "usage": {"prompt_tokens": 9}})
RERANK = (200, {"results": [{"index": 0, "relevance_score": 0.7}], "usage": {"total_tokens": 9}})
NOT_FOUND = (404, {"error": {"message": "The model does not support Chat Completions API", "code": 404}})
NO_TEMPLATE = (400, {"error": {"message": "As of transformers v4.44, default chat template\nis no longer allowed"}})
DEAD = (500, {"error": {"message": "EngineCore encountered an issue. See stack trace for the root cause."}})
NOT_JSON = (400, {"error": {"message": "Out of range float values are not JSON compliant: nan"}})
SURE = [-0.25, -0.5]


@pytest.mark.parametrize(
    ("given", "kind", "size", "asked"),
    [
        ({CHAT: chat(["1", "2"], SURE)}, "chat", 2, 1),
        ({CHAT: NO_TEMPLATE, COMPLETION: completion(["1", "2"], SURE)}, "completion", 2, 2),
        ({CHAT: (501, "no"), COMPLETION: completion(["1", "2"])}, "completion", 2, 2),
        ({CHAT: NOT_FOUND, COMPLETION: (405, ""), "/v1/embeddings": EMBEDDING}, "embedding", 3, 3),
        ({"/score": SCORE}, "score", 1, 4),
        ({"/rerank": RERANK}, "rerank", 1, 5),
        ({"/classify": (200, {"data": [{"label": "A", "probs": [0.2, 0.8]}]})}, "classification", 2, 6),
        ({"/pooling": (200, {"data": [{"data": [[0.1, 0.2], [0.3, 0.4]]}]})}, "pooling", 4, 7),
    ],
)
def test_the_first_kind_that_is_offered_answers(given: Answers, kind: str, size: int, asked: int) -> None:
    with answering(given) as (server, bodies):
        found = requests.first_request(server, "chat")
    assert (found.kind, found.size) == (kind, size)
    assert 0 <= found.seconds < 5
    assert [path for path, _ in bodies] == PATHS[:asked]
    assert all(body["model"] == "chat" for _, body in bodies)
    assert bodies[0][1]["messages"] == [{"role": "user", "content": requests.PROMPT}]


def test_only_what_the_server_lists_is_tried() -> None:
    with answering({"/v1/embeddings": EMBEDDING}) as (server, bodies):
        assert requests.first_request(server, "x", ["/v1/embeddings", "/health", "/rerank"]).kind == "embedding"
    assert [path for path, _ in bodies] == ["/v1/embeddings"]


@pytest.mark.parametrize(
    ("kind", "paths", "others"),
    [
        ("chat", [CHAT, COMPLETION, "/v1/embeddings"], ["completion"]),
        ("completion", [CHAT, COMPLETION], ["chat"]),
        ("embedding", ["/v1/embeddings", "/score", CHAT], ["score"]),
        ("chat", [], ["completion"]),
    ],
)
def test_relatives(kind: str, paths: list[str], others: list[str]) -> None:
    assert requests.relatives(kind, paths) == others


def test_a_stream_is_timed_and_read() -> None:
    with answering({CHAT: chat(["one", "two"], [-0.5, -1.5], [-0.5, -2.0])}) as (server, bodies):
        found = requests.ask(server, "m", "chat", tokens=7, judged=True)
    assert bodies[0][1]["logprobs"] is True
    assert (bodies[0][1]["max_tokens"], bodies[0][1]["temperature"]) == (7, 0)
    assert "ignore_eos" not in bodies[0][1]
    assert found.words == [garbage.Word("one", -0.5, (-0.5, -2.0)), garbage.Word("two", -1.5, (-0.5, -2.0))]
    assert found.first_token_seconds is not None
    assert 0 < found.first_token_seconds <= found.seconds
    assert found.prompt_tokens == 9


def piece(text: str, tokens: int) -> str:
    """Return a piece of a completion, with the tokens so far."""
    return f"data: {json.dumps({'choices': [{'text': text}], 'usage': {'completion_tokens': tokens}})}"


@pytest.mark.parametrize(
    ("pieces", "first"),
    [
        ([(1.0, piece("a", 1)), (1.5, piece("b", 2)), (2.0, piece("c", 11))], 1.0),
        # there may be no text yet
        ([(1.0, piece("", 0)), (1.5, piece("b", 1)), (2.0, piece("c", 11))], 1.5),
        ([(1.0, piece("abcdefghij", 10)), (2.0, piece("c", 11))], 1.0),
    ],
)
def test_the_times_of_a_stream(pieces: list[tuple[float, str]], first: float) -> None:
    found = answers.generated([*pieces, (9.0, "data: [DONE]")])
    assert (found.first_token_seconds, found.seconds, found.tokens) == (first, 2.0, 11)


def test_a_server_without_log_probabilities_is_asked_without() -> None:
    bodies: list[dict[str, Any]] = []

    def picky(handler: BaseHTTPRequestHandler) -> None:
        body = handler.bodies[-1][1]  # type: ignore[attr-defined]
        bodies.append(body)
        status, text = chat(["1", "2"])
        if "logprobs" in body:
            status, text = 400, json.dumps({"error": {"message": "Requested sample logprobs of 5, max is 0"}})
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(text.encode())

    with answering({CHAT: picky}) as (server, _):
        found = requests.first_request(server, "m")
    assert (found.kind, found.words, len(bodies)) == ("chat", [], 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({CHAT: DEAD}, "the chat request got status 500: EngineCore encountered an issue. See stack trace"),
        ({CHAT: NO_TEMPLATE, COMPLETION: DEAD}, "the completion request got status 500: EngineCore"),
        ({CHAT: (401, {"error": "Unauthorized"})}, "the chat request got status 401: Unauthorized"),
        ({CHAT: streamed(usage(0))}, "the answer to the chat request is no good: it is empty"),
        ({CHAT: streamed()}, "the answer to the chat request is no good: it is empty"),
        (
            {CHAT: streamed(usage(3), end=False)},
            "the answer to the chat request is no good: it broke off before its end",
        ),
        ({CHAT: (200, {})}, "the answer to the chat request is no good: it broke off before its end"),
        ({CHAT: (200, "<html>hello</html>")}, "the answer to the chat request is no good: it broke off"),
        ({CHAT: streamed("{")}, "the answer to the chat request is no good: it is not JSON: {"),
        ({CHAT: streamed([1])}, "the answer to the chat request is no good: it is not an object: [1]"),
        (
            {CHAT: streamed({"error": {"message": "EngineCore encountered an issue."}})},
            "the answer to the chat request is no good: it broke off: EngineCore encountered an issue.",
        ),
        (
            {CHAT: chat(["!"] * 16, [None] * 16)},
            "the answer to the chat request is no good: token 1 of its answer ('!') has no probability (NaN",
        ),
        (
            {CHAT: NO_TEMPLATE, COMPLETION: completion(["a", "!"], [-0.5, None])},
            "the answer to the completion request is no good: token 2 of its answer ('!') has no probability",
        ),
        (
            {CHAT: chat(list("abcdefgh"), [-5.0] * 8, [-5.0] * 5)},
            "the answer to the chat request is no good: in every place of its answer all tokens are equally likely",
        ),
        ({"/v1/embeddings": (200, {"data": []})}, "the answer to the embedding request is no good: it is empty"),
        ({"/v1/embeddings": (200, {"data": [{"embedding": []}]})}, "the answer to the embedding request is no good"),
        ({"/v1/embeddings": (200, {"data": {"embedding": [1]}})}, "the answer to the embedding request is no good"),
        ({"/v1/embeddings": (200, {"data": [1]})}, "the answer to the embedding request is no good: it is empty"),
        (
            {"/v1/embeddings": (200, '{"data": [{"embedding": [0.5, NaN, null]}]}')},
            "the answer to the embedding request is no good: 2 of its 3 numbers are no numbers (NaN)",
        ),
        (
            {"/v1/embeddings": (200, {"data": [{"embedding": [0.0, 0.0]}]})},
            "the answer to the embedding request is no good: its 2 numbers are all 0",
        ),
        (
            {"/v1/embeddings": NOT_JSON},
            "the answer to the embedding request is no good: some of its numbers are no numbers (NaN)",
        ),
        ({"/score": (200, {"data": [{"score": None}]})}, "the answer to the score request is no good: 1 of its 1"),
        (
            {CHAT: NO_TEMPLATE},
            "every kind of request was refused (chat: 400 As of transformers v4.44, default chat template is no longer "
            "allowed; completion: 404 {'detail': 'Not Found'}; embedding: 404 {'detail': 'Not Found'}",
        ),
    ],
)
def test_wrong_answers(given: Answers, said: str) -> None:
    with answering(given) as (server, _), pytest.raises(client.WrongAnswer) as raised:
        requests.first_request(server, "chat")
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("fault", [cut_off, hang_up])
def test_an_engine_that_dies_on_its_first_request(fault: Callable[[BaseHTTPRequestHandler], None]) -> None:
    with answering({CHAT: fault}) as (server, _), pytest.raises((client.NoAnswer, client.WrongAnswer)) as raised:
        requests.first_request(server, "chat")
    assert str(raised.value)


def test_a_long_answer_is_shortened() -> None:
    with answering({CHAT: (500, "x" * 9999)}) as (server, _), pytest.raises(client.WrongAnswer) as raised:
        requests.first_request(server, "chat")
    assert len(str(raised.value)) < 400


# What vLLM 0.32 answered for the random-weight model of the tests: (token, log probability, the five likeliest).
RANDOM = [
    ("o", -0.0028, (-0.0028, -6.128, -7.44, -10.316, -11.753)),
    ("q", -0.0792, (-0.0792, -2.704, -4.829, -7.329, -8.267)),
    *[("q", -0.5553, (-0.5553, -1.43, -2.18, -3.11, -3.5))] * 14,
]


@pytest.mark.parametrize(
    ("words", "fault", "remark"),
    [
        (RANDOM, False, False),
        ([("q", -0.5, (-0.5, -1.4))] * 16, False, False),
        # two tie in 16 bits
        ([("q", -1.5, (-1.5, -1.5, -1.75, -1.75, -2.0))] * 16, False, False),
        ([("1", 0.0, (0.0, -9.0)), (" 2", 0.0, (0.0, -9.0))] * 8, False, False),
        # too few to say
        ([("a", -5.0, (-5.0,) * 5)] * 3, False, False),
        ([("!", None, ())] * 16, True, False),
        ([("a", math.nan, ())], True, False),
        ([("a", -math.inf, ())], True, False),
        ([("a", 0.5, ())], True, False),
        ([("a", -5.0, (-5.0,) * 5)] * 8, True, False),
        ([("!", 0.0, (0.0, -9999.0))] * 16, False, True),
        ([], False, False),
    ],
)
def test_garbage(words: list[Any], fault: bool, remark: bool) -> None:
    judged = [garbage.Word(*word) for word in words]
    assert bool(garbage.fault(judged)) is fault
    assert fault or bool(garbage.remark(judged)) is remark


@given(st.lists(st.tuples(st.floats(0, 10), st.one_of(st.text(), st.from_regex(r"data: \\{.*\\}", fullmatch=True)))))
def test_a_stream_of_any_text_is_an_answer_or_wrong(lines: list[tuple[float, str]]) -> None:
    try:
        assert answers.generated(lines).tokens > 0
    except client.WrongAnswer as wrong:
        assert str(wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "logprobs", "content", "token", "usage", "completion_tokens", "data", "x"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_a_stream_of_any_json_is_an_answer_or_wrong(value: Any) -> None:
    lines = [(0.1, f"data: {json.dumps(value)}\n"), (0.2, "data: [DONE]\n")]
    try:
        assert answers.generated(lines).tokens > 0
    except client.WrongAnswer as wrong:
        assert str(wrong)
    answers.vectors(value)
    answers.relevances(value)
