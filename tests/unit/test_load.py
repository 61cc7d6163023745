"""The load that scenarios send: it has to see each fault that a client would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import load

DELTA = {"model": "chat", "choices": [{"delta": {"content": "x"}, "finish_reason": None}]}
END = {"model": "chat", "choices": [{"delta": {}, "finish_reason": "length"}]}
WHOLE = {"model": "chat", "choices": [{"message": {"content": "x"}, "finish_reason": "length"}]}


class Server(ThreadingHTTPServer):
    """Answers as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.how = "well"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer, well or not."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        how = self.server.how
        if how == "nothing":
            self.close_connection = True
            return
        if how == "refuses":
            self.whole(503, {"error": {"message": "not now"}})
        elif body["stream"]:
            pieces = [DELTA, DELTA, *([] if how == "without an end" else [END])]
            lines = [f"data: {json.dumps(piece)}\n\n" for piece in pieces]
            if how == "an error":
                lines.append('data: {"error": {"message": "dead"}}\n\n')
            self.pieces([*lines, "data: [DONE]\n\n"] if how != "no last line" else lines, cut=how == "cut")
        else:
            self.whole(200, WHOLE if how != "without an end" else {"choices": []})

    def whole(self, status: int, body: Any) -> None:
        """Send one body."""
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Served-By", "gpu1")
        self.end_headers()
        self.wfile.write(text)

    def pieces(self, lines: list[str], cut: bool) -> None:
        """Send a stream."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Served-By", "gpu1")
        self.end_headers()
        for line in lines[: 1 if cut else None]:
            self.wfile.write(f"{len(line):x}\r\n{line}\r\n".encode())
        if cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers well until it is told otherwise."""
    one = Server()
    yield one
    one.shutdown()
    one.server_close()


def told(server: Server, **options: Any) -> dict[str, Any]:
    """Send a few requests and return the report."""
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    settings: dict[str, Any] = {"requests": 4, "streamed": 1, "plain": 1, "pause": 0, "timeout": 10, **options}
    one = load.Load(load.Wishes(url, "chat", **settings))
    one.start()
    assert one.wait(30)
    return one.told()


def test_good_answers(server: Server) -> None:
    report = told(server, requests=20)
    assert (report["sent"], report["answered"], report["failed"], report["cut"]) == (20, 20, 0, 0)
    assert (report["models"], report["servers"]) == ({"chat": 20}, {"gpu1": 20})
    assert report["done"]
    assert report["texts"] == {"x": 20 - report["streamed"]}


@pytest.mark.parametrize(
    ("how", "streamed", "count", "said"),
    [
        ("nothing", 1, "failed", "RemoteDisconnected"),
        ("nothing", 0, "failed", "RemoteDisconnected"),
        ("refuses", 1, "failed", 'status 503: {"error": {"message": "not now"}}'),
        ("refuses", 0, "failed", "status 503"),
        ("cut", 1, "cut", "the stream ended after 1 characters"),
        ("an error", 1, "cut", "the stream holds an error: {'message': 'dead'}"),
        ("without an end", 1, "cut", "the stream ended after 2 characters"),
        ("no last line", 1, "cut", "the stream ended after 2 characters"),
        ("without an end", 0, "failed", "an answer without an end"),
    ],
)
def test_faults(server: Server, how: str, streamed: int, count: str, said: str) -> None:
    server.how = how
    report = told(server, streamed=streamed, plain=1 - streamed)
    assert (report[count], report["answered"], report["failed"] + report["cut"]) == (4, 0, 4)
    assert said in report["faults"][0]


def test_a_second_process(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with load.running(tmp_path, url, "chat", seconds=60, pause=0.01, key="k") as running:
        assert running.wait_for(10, 30)["answered"] >= 10
        report = running.stop(30)
    assert (report["failed"], report["cut"], report["done"]) == (0, 0, True)
    assert report["seconds"] < 50
