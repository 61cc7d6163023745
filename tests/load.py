"""Send a steady load of streamed and plain chat requests to an OpenAI endpoint, and count what became of them.

As a program it ends by itself, after ``--requests`` or ``--seconds``, or at SIGTERM, and prints its report as JSON:

    python tests/load.py http://10.0.0.1:8080/v1 --model chat --requests 5000 --streamed 3 --plain 3

The key is read from LOAD_API_KEY. ``--report FILE`` is written every second, so that it can be read meanwhile. Tests
run it as a second process with :func:`running`. Nothing is retried: whatever a client would have seen is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# A report names this many faults, and this many different answers.
KEPT = 50
KEY_VARIABLE = "LOAD_API_KEY"


class Fault(Exception):
    """A request that was not answered as it should have been; the message says how."""


class Cut(Fault):
    """An answer that began and did not come to its end."""


@dataclass(frozen=True)
class Wishes:
    """What to send; ``pause`` is in seconds between the requests of one worker, ``timeout`` for one silence.

    With ``every`` the workers send at the same moments, that many seconds apart: engines, which spin for a second after
    each request (vLLM 0.32, distributed/device_communicators/shm_broadcast.py:138), then rest between.
    """

    url: str
    model: str
    streamed: int = 2
    plain: int = 2
    requests: int = 0
    seconds: float = 0
    pause: float = 0.05
    every: float = 0
    timeout: float = 300
    stream_tokens: int = 64
    plain_tokens: int = 8
    key: str | None = field(default=None, repr=False)
    authority: str | None = None


@dataclass
class Report:
    """What became of the requests; ``streamed`` of ``answered`` were streams.

    ``texts`` counts plain answers by what they said, which one model says the same.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    cut: int = 0
    streamed: int = 0
    seconds: float = 0
    slowest_seconds: float = 0
    models: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    done: bool = False


class Load:
    """A load that runs in threads of this process until it has sent what was wished, or is stopped."""

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self.report = Report()
        self._begin = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        streams = [True] * wishes.streamed + [False] * wishes.plain
        self._workers = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in streams]

    def start(self) -> None:
        """Begin."""
        self._begin = time.monotonic()
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Send no more; what was sent is waited for by :meth:`wait`."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the workers, and tell whether all of them have ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        for worker in self._workers:
            worker.join(None if deadline is None else max(0, deadline - time.monotonic()))
        return not any(worker.is_alive() for worker in self._workers)

    def told(self) -> dict[str, Any]:
        """The report so far, as it is written."""
        with self._lock:
            self.report.seconds = round(time.monotonic() - self._begin, 1)
            self.report.done = not any(worker.is_alive() for worker in self._workers)
            return {
                name: dict(value.most_common(KEPT)) if isinstance(value, Counter) else value
                for name, value in vars(self.report).items()
            }

    def _work(self, streamed: bool) -> None:
        client = _Client(self.wishes)
        while self._take():
            begin = time.monotonic()
            try:
                answer = client.ask(streamed)
            except Fault as fault:
                self._failed(fault, streamed, begin)
            else:
                with self._lock:
                    self.report.answered += 1
                    self.report.slowest_seconds = max(self.report.slowest_seconds, round(time.monotonic() - begin, 2))
                    self.report.models[answer.model] += 1
                    self.report.servers[answer.server] += 1
                    self.report.streamed += streamed
                    if not streamed:
                        self.report.texts[answer.text] += 1
            self._stop.wait(self._pause())

    def _pause(self) -> float:
        """Seconds until the next request of a worker."""
        every = self.wishes.every
        return every - (time.monotonic() - self._begin) % every if every else self.wishes.pause

    def _take(self) -> bool:
        """Tell whether there is another request to send, and count it."""
        with self._lock:
            limit, seconds = self.wishes.requests, self.wishes.seconds
            over = (limit and self.report.sent >= limit) or (seconds and time.monotonic() - self._begin >= seconds)
            if over or self._stop.is_set():
                return False
            self.report.sent += 1
            return True

    def _failed(self, fault: Fault, streamed: bool, begin: float) -> None:
        with self._lock:
            if isinstance(fault, Cut):
                self.report.cut += 1
            else:
                self.report.failed += 1
            if len(self.report.faults) < KEPT:
                now = time.monotonic()
                kind = "streamed" if streamed else "plain"
                self.report.faults.append(
                    f"{now - self._begin:.1f} s ({time.strftime('%H:%M:%S')}), {kind}, "
                    f"after {now - begin:.1f} s: {fault}"
                )


@dataclass(frozen=True)
class _Answer:
    model: str
    server: str
    text: str


class _Client:
    """One connection, kept as long as the server keeps it, as a client library does."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        parts = urlsplit(wishes.url)
        self._path = f"{parts.path.rstrip('/')}/chat/completions"
        where = (parts.hostname or "localhost", parts.port)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=wishes.authority)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                *where, timeout=wishes.timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(*where, timeout=wishes.timeout)

    def ask(self, streamed: bool) -> _Answer:
        """Send one request and read its answer to the end."""
        began = False
        try:
            response = self._sent(streamed)
            began = response.status == http.client.OK
            server = response.getheader("X-Served-By") or ""
            if not began:
                said = " ".join(response.read().decode("utf-8", "replace").split())[:300]
                raise Fault(f"status {response.status}: {said}")
            return self._stream(response, server) if streamed else _plain(response, server)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            kind = Cut if began else Fault
            raise kind(f"{type(error).__name__}: {error}") from error
        except Fault:
            self._connection.close()
            raise

    def _sent(self, streamed: bool) -> http.client.HTTPResponse:
        wishes = self._wishes
        tokens = wishes.stream_tokens if streamed else wishes.plain_tokens
        body = {
            "messages": [{"role": "user", "content": "Count the ships in the harbour."}],
            "model": wishes.model,
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": streamed,
        }
        headers = {"Content-Type": "application/json"}
        if wishes.key:
            headers["Authorization"] = f"Bearer {wishes.key}"
        self._connection.request("POST", self._path, json.dumps(body), headers)
        return self._connection.getresponse()

    def _stream(self, response: http.client.HTTPResponse, server: str) -> _Answer:
        model, reason, said, done = "", None, "", False
        for line in response:
            data = line.strip().removeprefix(b"data: ")
            if done or not line.startswith(b"data: "):
                continue
            if data == b"[DONE]":
                done = True
                continue
            piece = _decoded(data)
            if "error" in piece:
                raise Cut(f"the stream holds an error: {str(piece['error'])[:300]}")
            model = piece.get("model") or model
            for choice in piece.get("choices") or ():
                said += (choice.get("delta") or {}).get("content") or ""
                reason = choice.get("finish_reason") or reason
        if not done or reason is None:
            raise Cut(f"the stream ended after {len(said)} characters, without its end")
        return _Answer(model, server, said)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise Cut(f"not JSON: {data[:100]!r}") from error
    if not isinstance(found, dict):
        raise Cut(f"not an object: {data[:100]!r}")
    return found


def _plain(response: http.client.HTTPResponse, server: str) -> _Answer:
    body = _decoded(response.read())
    choices = body.get("choices")
    if not choices or choices[0].get("finish_reason") is None:
        raise Fault(f"an answer without an end: {str(body)[:300]}")
    return _Answer(str(body.get("model")), server, str(choices[0]["message"]["content"]))


class Running:
    """A load in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], report: Path) -> None:
        self._process = process
        self._report = report

    def told(self) -> dict[str, Any]:
        """The report so far; empty before the first second is over."""
        try:
            found: dict[str, Any] = json.loads(self._report.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def wait_for(self, answered: int, seconds: float = 120) -> dict[str, Any]:
        """Wait until so many requests have been answered."""
        deadline = time.monotonic() + seconds
        while self.told().get("answered", 0) < answered:
            assert self._process.poll() is None or self.told().get("answered", 0) >= answered, self.told()
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.2)
        return self.told()

    def stop(self, seconds: float = 120) -> dict[str, Any]:
        """Let it finish what it has sent, and return the report."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=seconds)
        return self.told()

    def wait(self, seconds: float) -> dict[str, Any]:
        """Wait until it has ended by itself, and return the report."""
        self._process.communicate(timeout=seconds)
        return self.told()


@contextlib.contextmanager
def running(folder: Path, url: str, model: str, *, key: str | None = None, **options: Any) -> Iterator[Running]:
    """Run a load beside the test; ``options`` are those of the command line, with underscores."""
    report = folder / "load.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, __file__, url, "--model", model, "--report", str(report)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, **({KEY_VARIABLE: key} if key else {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as one:
        try:
            yield Running(one, report)
        finally:
            if one.poll() is None:
                one.kill()


def _written(report: Path | None, told: dict[str, Any]) -> None:
    if report:
        part = report.with_name(f"{report.name}.part")
        part.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        part.replace(report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a load; the exit status is 1 where a request failed or was cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="base URL, such as http://10.0.0.1:8080/v1")
    parser.add_argument("--report", type=Path)
    for name, value in vars(Wishes("", "")).items():
        if name not in ("url", "key"):
            kind = str if value is None or isinstance(value, str) else type(value)
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value, required=name == "model")
    options = vars(parser.parse_args(arguments))
    report = options.pop("report")
    if not options["requests"] and not options["seconds"]:
        parser.error("say when it ends: --requests or --seconds")
    load = Load(Wishes(**options, key=os.environ.get(KEY_VARIABLE)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: load.stop())
    load.start()
    while not load.wait(1):
        _written(report, load.told())
    told = load.told()
    _written(report, told)
    print(json.dumps(told, indent=2))
    return 1 if told["failed"] or told["cut"] or not told["answered"] else 0


if __name__ == "__main__":
    sys.exit(main())
