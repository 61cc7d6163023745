"""The client, against a real HTTP server that answers as vLLM does when it is well, and when it is not."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client

# path -> (status, answer), an answer that is not JSON as text, or what to do with the connection
Answers = dict[str, tuple[int, Any] | Callable[[BaseHTTPRequestHandler], None]]

MODELS = (200, {"object": "list", "data": [{"id": "chat", "object": "model", "max_model_len": 2048}]})
CHAT = (200, {"choices": [{"message": {"content": "1 2"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})
COMPLETION = (200, {"choices": [{"text": "1 2"}], "usage": {"completion_tokens": 7}})
EMBEDDING = (200, {"data": [{"embedding": [0.1, 0.2, 0.3]}], "usage": {"prompt_tokens": 9}})
NOT_FOUND = (404, {"error": {"message": "The model does not support Chat Completions API", "code": 404}})
NO_TEMPLATE = (400, {"error": {"message": "As of transformers v4.44, default chat template\nis no longer allowed"}})
DEAD = (500, {"error": {"message": "EngineCore encountered an issue. See stack trace for the root cause."}})


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent, then hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing at all."""
    handler.close_connection = True


class Handler(BaseHTTPRequestHandler):
    """Answers from a table, and remembers what it was sent."""

    answers: Answers
    bodies: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.bodies.append((self.path, json.loads(body)))
        self.answer()

    def answer(self) -> None:
        found = self.answers.get(self.path, (404, {"detail": "Not Found"}))
        if callable(found):
            found(self)
            return
        status, answer = found
        body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextmanager
def answering(answers: Answers) -> Iterator[tuple[client.Server, list[tuple[str, Any]]]]:
    """Run a server for as long as the context lasts."""
    bodies: list[tuple[str, Any]] = []
    handler = type("Table", (Handler,), {"answers": answers, "bodies": bodies})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield client.Server("127.0.0.1", server.server_address[1], 5), bodies
        finally:
            server.shutdown()
            thread.join()


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
        client.first_request(nobody, "chat")


def test_a_server_that_never_answers_is_given_up_on() -> None:
    release = Event()

    def dawdle(_: BaseHTTPRequestHandler) -> None:
        release.wait(10)

    with answering({"/health": dawdle}) as (server, _):
        impatient = client.Server(server.host, server.port, 0.1)
        with pytest.raises(client.NoAnswer, match="timed out"):
            impatient.request("/health")
        release.set()


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
        ((401, {"error": "Unauthorized"}), "chat", None, "/v1/models offers [] (status 401) and not chat"),
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


CHAT_PATH, COMPLETION_PATH, EMBEDDING_PATH = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


@pytest.mark.parametrize(
    ("answers", "kind", "tokens", "asked"),
    [
        ({CHAT_PATH: CHAT}, "chat", 5, 1),
        ({CHAT_PATH: NO_TEMPLATE, COMPLETION_PATH: COMPLETION}, "completion", 7, 2),
        ({CHAT_PATH: (501, "no"), COMPLETION_PATH: COMPLETION}, "completion", 7, 2),
        ({CHAT_PATH: NOT_FOUND, COMPLETION_PATH: (405, ""), EMBEDDING_PATH: EMBEDDING}, "embedding", 3, 3),
        ({EMBEDDING_PATH: EMBEDDING}, "embedding", 3, 3),
    ],
)
def test_the_first_kind_that_is_offered_answers(answers: Answers, kind: str, tokens: int, asked: int) -> None:
    with answering(answers) as (server, bodies):
        found = client.first_request(server, "chat")
    assert (found["kind"], found["tokens"]) == (kind, tokens)
    assert 0 <= found["seconds"] < 5
    assert [path for path, _ in bodies] == [CHAT_PATH, COMPLETION_PATH, EMBEDDING_PATH][:asked]
    assert all(body["model"] == "chat" for _, body in bodies)
    assert bodies[0][1]["messages"] == [{"role": "user", "content": client.PROMPT}]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({CHAT_PATH: DEAD}, "the chat request got status 500: EngineCore encountered an issue. See stack trace"),
        ({CHAT_PATH: NO_TEMPLATE, COMPLETION_PATH: DEAD}, "the completion request got status 500: EngineCore"),
        ({CHAT_PATH: (401, {"error": "Unauthorized"})}, "the chat request got status 401: Unauthorized"),
        (
            {CHAT_PATH: (200, {"choices": [], "usage": {"completion_tokens": 0}})},
            "the chat request got an empty answer",
        ),
        ({CHAT_PATH: (200, {})}, "the chat request got an empty answer: {}"),
        ({CHAT_PATH: (200, "<html>hello</html>")}, "the chat request got an empty answer: <html>hello</html>"),
        ({CHAT_PATH: (200, {"usage": []})}, "the chat request got an empty answer"),
        ({CHAT_PATH: (200, {"usage": "much"})}, "the chat request got an empty answer"),
        ({CHAT_PATH: (200, {"usage": {"completion_tokens": "many"}})}, "the chat request got an empty answer"),
        ({EMBEDDING_PATH: (200, {"data": []})}, "the embedding request got an empty answer"),
        ({EMBEDDING_PATH: (200, {"data": [{"embedding": []}]})}, "the embedding request got an empty answer"),
        ({EMBEDDING_PATH: (200, {"data": {"embedding": [1]}})}, "the embedding request got an empty answer"),
        ({EMBEDDING_PATH: (200, {"data": [1]})}, "the embedding request got an empty answer"),
        (
            {CHAT_PATH: NO_TEMPLATE},
            "every kind of request was refused (chat: 400 As of transformers v4.44, default chat template is no longer "
            "allowed; completion: 404 {'detail': 'Not Found'}; embedding: 404 {'detail': 'Not Found'})",
        ),
    ],
)
def test_wrong_answers(answers: Answers, said: str) -> None:
    with answering(answers) as (server, _), pytest.raises(client.WrongAnswer) as raised:
        client.first_request(server, "chat")
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("fault", [cut_off, hang_up])
def test_an_engine_that_dies_on_its_first_request(fault: Callable[[BaseHTTPRequestHandler], None]) -> None:
    with answering({CHAT_PATH: fault}) as (server, _), pytest.raises(client.NoAnswer) as raised:
        client.first_request(server, "chat")
    assert str(raised.value)


def test_a_long_answer_is_shortened() -> None:
    with answering({CHAT_PATH: (500, "x" * 9999)}) as (server, _), pytest.raises(client.WrongAnswer) as raised:
        client.first_request(server, "chat")
    assert len(str(raised.value)) < 400


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
