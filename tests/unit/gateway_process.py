"""HAProxy, the real one, run with what the role gateway writes, before stand-ins for the engines."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.haproxy import Master
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError

from tests.unit.samples import CHECKOUT
from tests.unit.templating import load_trusted, render
from tools import debian_programs

ROLE = CHECKOUT / "roles" / "gateway"
KEY = "sk-of-the-tests-0123456789abcdef"
_FOLDER = debian_programs.find("haproxy")
HAPROXY = None if _FOLDER is None else str(_FOLDER / "haproxy")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="there is no HAProxy; make unit brings one")
# Of the process that the tests run as: no change of user, and no folders of the system.
OF_THE_SYSTEM = ("user ", "group ", "chroot ", "stats socket ")


def entry(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "model": "/m", "host": "0.0.0.0", "port": port, **more}


def variables(folder: Path, hosts: dict[str, list[dict[str, Any]]], **more: Any) -> dict[str, Any]:
    """Variables of the role on the gateway ``edge``."""
    return {
        **load_trusted(ROLE / "defaults/main.yml"),
        **load_trusted(ROLE / "vars/main.yml"),
        "ansible_search_path": [str(ROLE)],
        "inventory_hostname": "edge",
        "hostvars": {name: {"ansible_host": "127.0.0.1", "vllm_models": models} for name, models in hosts.items()},
        "gateway_replica_hosts": list(hosts),
        "gateway_api_keys": {"team-a": KEY},
        "__gateway_host_info": {"paths": {}},
        "__gateway_folder": str(folder),
        "__gateway_state_file": str(folder / "servers"),
        **more,
    }


def rendered(name: str, values: dict[str, Any]) -> str:
    text = render((ROLE / "templates" / f"{name}.j2").read_text(encoding="utf-8"), values)
    assert isinstance(text, str)
    return text


def write(folder: Path, values: dict[str, Any]) -> str:
    """Write what the role writes, and return the configuration."""
    for name in ("models.map", "keys.map"):
        (folder / name).write_text(rendered(name, values) if name != "keys.map" or values["gateway_api_keys"] else "")
    shutil.copy(ROLE / "files/wait.lua", folder)
    config = rendered("haproxy.cfg", values)
    (folder / "haproxy.cfg").write_text(config)
    return config


def take_as_ourselves(folder: Path) -> None:
    """Take from a configuration what only HAProxy as a service of the system can do."""
    lines = (folder / "haproxy.cfg").read_text().splitlines()
    (folder / "haproxy.cfg").write_text(
        "".join(f"{line}\n" for line in lines if not line.strip().startswith(OF_THE_SYSTEM))
    )


def objections(folder: Path) -> str:
    """What HAProxy says of a configuration."""
    take_as_ourselves(folder)
    done = subprocess.run(
        [str(HAPROXY), "-c", "-f", str(folder / "haproxy.cfg")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    return "\n".join(line for line in lines if "[WARNING]" in line and "server state file" not in line)


# A stand-in for the engine, because what is tested here is the gateway: it says of each request what arrived.
class Engine(ThreadingHTTPServer):
    """Answers as vLLM does, without a model."""

    daemon_threads = True

    def __init__(self, model: str) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.model = model
        self.posts = 0
        self.broken = False
        self.go_on = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class Answers(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Engine

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Health and models."""
        known = {"/health": {}, "/v1/models": {"data": [{"id": self.server.model}]}}
        self.answer(200 if self.path in known else 404, known.get(self.path, {}))

    def do_POST(self) -> None:
        """Say what arrived, or break off."""
        self.server.posts += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.broken:
            self.close_connection = True
            return
        if b'"stream"' in body:
            self.stream()
            return
        if b'"wait"' in body:
            self.server.go_on.wait(60)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.answer(200, {"model": self.server.model, "path": self.path, "size": len(body), "headers": headers})

    def stream(self) -> None:
        """Send one piece at once, and another one when it is told to."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"9\r\ndata: 1\n\n\r\n")
        self.server.go_on.wait(60)
        self.wfile.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    def answer(self, status: int, body: Any) -> None:
        """Answer."""
        text = json.dumps(body, separators=(",", ":")).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@dataclass
class Gateway:
    """A running HAProxy with the role's configuration."""

    folder: Path
    port: int
    metrics: int
    engines: list[Engine]
    log: Path
    answers: list[Any] = field(default_factory=list)
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def master(self) -> Master:
        return Master(str(self.folder / "master"))

    @property
    def up(self) -> set[tuple[str, str]]:
        """Backend and name of the servers that get requests."""
        return {(server.backend, server.name) for server in self.master.servers() if server.up}

    def save_state(self) -> None:
        """Run what the unit runs before a start and a reload."""
        paths = [self.folder / name for name in ("haproxy.cfg", "master", "servers")]
        subprocess.run(["python3", ROLE / "files/server_state.py", *paths], check=True)

    def reload(self) -> None:
        """Let it start anew from its files."""
        before = self.master.workers()[0]
        self.save_state()
        self.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: self.answers_at_all() and self.master.workers()[0] != before)

    def answers_at_all(self) -> bool:
        """Whether it runs."""
        try:
            self.master.servers()
        except GpufleetError:
            return False
        return True

    def ask(
        self, body: Any = None, path: str = "/v1/chat/completions", key: str | None = KEY, port: int | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Send a request and return status, body and header."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        payload = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, payload, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        with contextlib.suppress(ValueError):
            return response.status, json.loads(text), dict(response.getheaders())
        return response.status, text, dict(response.getheaders())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextlib.contextmanager
def gateway(folder: Path, models: dict[str, list[str]], **more: Any) -> Iterator[Gateway]:
    """Run HAProxy before a stand-in for each host of each model; names by what is in the inventory and what serves."""
    hosts: dict[str, list[dict[str, Any]]] = {}
    engines = []
    for name, served in models.items():
        for place, model in enumerate(served):
            engines.append(Engine(model))
            hosts.setdefault(f"gpu{place}", []).append(entry(name, engines[-1].port))
    one = Gateway(folder, free_port(), free_port(), engines, folder / "log")
    values = variables(
        folder,
        hosts,
        gateway_bind="127.0.0.1",
        gateway_port=one.port,
        gateway_metrics_port=one.metrics,
        gateway_show_server=True,
        **more,
    )
    write(folder, values)
    take_as_ourselves(folder)
    one.save_state()
    command = [str(HAPROXY), "-W", "-f", str(folder / "haproxy.cfg"), "-S", str(folder / "master")]
    with one.log.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as one.process:
        try:
            wait_until(one.answers_at_all)
            yield one
        finally:
            one.process.terminate()
            for engine in engines:
                engine.end()


def wait_until(done: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)
