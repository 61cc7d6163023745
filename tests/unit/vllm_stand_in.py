"""A real HTTP server that answers as vLLM does when it is well, and as no vLLM at hand can be made to: with NaN."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import client

# path -> (status, answer), an answer that is not JSON as text, or what to do with the connection
Answers = dict[str, tuple[int, Any] | Callable[[BaseHTTPRequestHandler], None]]


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
    key: str | None = None

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.bodies.append((self.path, json.loads(body)))
        self.answer()

    def answer(self) -> None:
        found = self.answers.get(self.path, (404, {"detail": "Not Found"}))
        if self.key and self.path.startswith("/v1") and self.headers["Authorization"] != f"Bearer {self.key}":
            found = (401, {"error": "Unauthorized"})
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
def answering(answers: Answers, key: str | None = None) -> Iterator[tuple[client.Server, list[tuple[str, Any]]]]:
    """Run a server for as long as the context lasts."""
    bodies: list[tuple[str, Any]] = []
    handler = type("Table", (Handler,), {"answers": answers, "bodies": bodies, "key": key})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield client.Server("127.0.0.1", server.server_address[1], 5), bodies
        finally:
            server.shutdown()
            thread.join()


def streamed(*events: Any, end: bool = True) -> tuple[int, str]:
    """Return an answer of server-sent events, as vLLM writes them."""
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events]
    return 200, "".join([*lines, "data: [DONE]\n\n" if end else ""])


def usage(tokens: int, prompt_tokens: int = 9) -> dict[str, Any]:
    """Return the last event of a stream (stream_options.include_usage)."""
    return {"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}}


def chat(words: Sequence[str], logprobs: Sequence[Any] = (), best: Sequence[Any] = ()) -> tuple[int, str]:
    """Return a streamed chat answer; ``best`` are the log probabilities of the likeliest tokens in every place."""
    events: list[Any] = [{"choices": [{"delta": {"role": "assistant", "content": ""}, "logprobs": None}]}]
    for place, word in enumerate(words):
        told = None
        if logprobs:
            top = [{"token": "x", "logprob": number} for number in best]
            told = {"content": [{"token": word, "logprob": logprobs[place], "top_logprobs": top}]}
        events.append({"choices": [{"delta": {"content": word}, "logprobs": told}]})
    return streamed(*events, usage(len(words)))


def completion(words: Sequence[str], logprobs: Sequence[Any] = ()) -> tuple[int, str]:
    """Return a streamed completion."""
    told = {"tokens": list(words), "token_logprobs": list(logprobs), "top_logprobs": [{"x": -1.0}] * len(logprobs)}
    return streamed({"choices": [{"text": "".join(words), "logprobs": told if logprobs else None}]}, usage(len(words)))
