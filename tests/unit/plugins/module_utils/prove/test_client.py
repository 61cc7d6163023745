"""The client, against a real HTTP server that answers as vLLM does when it is well, and when it is not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client

from tests.unit.vllm_stand_in import answering, hang_up

MODELS = (200, {"object": "list", "data": [{"id": "chat", "object": "model", "max_model_len": 2048}]})


@pytest.fixture
def nobody() -> Iterator[client.Server]:
    """An address where nobody listens: the port is held and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield client.Server("127.0.0.1", held.getsockname()[1], 5)


@pytest.mark.parametrize(
    ("answer", "well"), [((200, ""), True), ((503, ""), False), ((404, ""), False), (hang_up, False)]
)
def test_health(answer: Any, well: bool) -> None:
    with answering({"/health": answer}) as (server, _):
        assert client.healthy(server) is well


def test_nobody_listens(nobody: client.Server) -> None:
    assert client.healthy(nobody) is False
    with pytest.raises(client.NoAnswer, match="refused"):
        client.check_models(nobody, "chat", None)
    with pytest.raises(client.NoAnswer, match="refused"):
        list(client.Server(nobody.host, nobody.port, 5).stream("/v1/completions", {}))


def test_a_server_that_never_answers_is_given_up_on() -> None:
    release = Event()

    def dawdle(_: BaseHTTPRequestHandler) -> None:
        release.wait(10)

    with answering({"/health": dawdle}) as (server, _):
        impatient = client.Server(server.host, server.port, 0.1)
        with pytest.raises(client.NoAnswer, match="timed out"):
            impatient.request("/health")
        release.set()


@pytest.mark.parametrize("answered", [True, False], ids=["body", "headers"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up_on(answered: bool) -> None:
    release = Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if answered:
            handler.send_response(200)
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 ")
        with contextlib.suppress(OSError):
            while not release.wait(0.05):
                handler.wfile.write(b"x")

    with answering({"/health": drip}) as (server, _):
        impatient = client.Server(server.host, server.port, 0.3)
        for ask in (lambda: impatient.request("/health"), lambda: list(impatient.stream("/health", {}))):
            begin = time.monotonic()
            with pytest.raises(client.NoAnswer, match="timed out"):
                ask()
            assert time.monotonic() - begin < 3
        release.set()


def test_an_answer_without_end_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_ANSWER_BYTES", 2 * 1024**2)

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                handler.wfile.write(b"x" * 65536)

    with answering({"/metrics": flood, "/v1/models": (200, "x" * 1024**2)}) as (server, _):
        for ask in (lambda: server.request("/metrics"), lambda: list(server.stream("/metrics", {}))):
            with pytest.raises(client.NoAnswer, match="longer than 2 MiB"):
                ask()
        assert server.request("/v1/models") == (200, "x" * 1024**2)


def test_an_answer_of_deep_json_is_text() -> None:
    with answering({"/v1/models": (200, 100_000 * "[")}) as (server, _):
        assert server.request("/v1/models") == (200, 100_000 * "[")


@pytest.mark.parametrize("length", [None, 2048])
def test_models(length: int | None) -> None:
    with answering({"/v1/models": MODELS}) as (server, _):
        assert client.check_models(server, "chat", length) == 2048


@pytest.mark.parametrize(
    ("answer", "name", "length", "said"),
    [
        (MODELS, "other", None, "/v1/models offers ['chat'] (status 200) and not other"),
        (MODELS, "chat", 4096, "/v1/models says max_model_len 2048 and 4096 was asked for"),
        ((500, {"error": {"message": "x"}}), "chat", None, "/v1/models offers [] (status 500) and not chat"),
        (
            (401, {"error": "Unauthorized"}),
            "chat",
            None,
            "/v1/models wants an API key that is not the process's VLLM_API_KEY (status 401); the warm-up has no other",
        ),
        ((200, "<html>Welcome to nginx!</html>"), "chat", None, "/v1/models offers [] (status 200) and not chat"),
        ((200, ["chat"]), "chat", None, "/v1/models offers [] (status 200) and not chat"),
        ((200, {"data": None}), "chat", None, "/v1/models offers [] (status 200) and not chat"),
        ((200, {"data": ["chat", 1]}), "chat", None, "/v1/models offers [] (status 200) and not chat"),
        ((200, {"data": {"id": "chat"}}), "chat", None, "/v1/models offers [] (status 200) and not chat"),
    ],
)
def test_wrong_models(answer: Any, name: str, length: int | None, said: str) -> None:
    with answering({"/v1/models": answer}) as (server, _), pytest.raises(client.WrongAnswer) as raised:
        client.check_models(server, name, length)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("", "127.0.0.1"),
        ("10.0.0.7", "10.0.0.7"),
        ("gpu1.example.org", "gpu1.example.org"),
    ],
)
def test_probe_address(listens: str, asked: str) -> None:
    assert client.probe_address(listens) == asked


def test_the_api_key_is_sent_and_not_shown() -> None:
    with answering({"/v1/models": MODELS}, key="sesame") as (server, _):
        keyed = client.Server(server.host, server.port, 5, key="sesame")
        assert client.check_models(keyed, "chat", None) == 2048
        assert "sesame" not in repr(keyed)
        with pytest.raises(client.WrongAnswer, match="wants an API key"):
            client.check_models(server, "chat", None)


@pytest.mark.parametrize(
    ("answer", "paths"),
    [
        ((200, {"paths": {"/health": {}, "/v1/models": {}}}), ["/health", "/v1/models"]),
        ((200, {"paths": ["/health"]}), []),
        ((200, "<html>"), []),
        ((404, {"detail": "Not Found"}), []),
    ],
)
def test_offered_paths(answer: Any, paths: list[str]) -> None:
    with answering({"/openapi.json": answer}) as (server, _):
        assert client.offered_paths(server) == paths


def test_a_refused_stream_says_why() -> None:
    refused = (400, {"error": {"message": "This model has no\nchat template"}})
    with answering({"/v1/x": refused}) as (server, _), pytest.raises(client.Refusal) as raised:
        list(server.stream("/v1/x", {}))
    assert (raised.value.status, raised.value.said) == (400, "This model has no chat template")
