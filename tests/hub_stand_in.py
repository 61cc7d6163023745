"""A stand-in for the Hugging Face Hub that serves model folders of this machine over real HTTP.

The Hub itself cannot be asked in tests. This plays the part of its documented interface that huggingface_hub uses to
read and to download a model (https://huggingface.co/docs/hub/api, and huggingface_hub/utils/_http.py for the errors):

- ``GET /api/models/<org>/<name>[/revision/<revision>]``: the commit (``sha``) and the files with their sizes
- ``GET /api/models/<org>/<name>/auth-check``: whether the files of a model can be had; ``GET /api/whoami-v2``
- ``GET /api/models/<org>/<name>/tree/<revision>``: the files, as ``hf download`` lists them
- ``HEAD`` and ``GET /<org>/<name>/resolve/<revision>/<file>``: a file, with ``ETag`` and ``X-Repo-Commit``, or the
  bytes that a ``Range`` asks for
- errors by ``X-Error-Code``: ``RepoNotFound``, ``RevisionNotFound``, ``EntryNotFound`` (404), ``GatedRepo`` (403)
- 401 without a code for a token that is not one of its own: only those that begin with ``hf_good`` are

A folder ``<org>/<name>`` is a model; its only branch is ``main``, and its commit is computed from its files. Files of
1 MiB and more are kept as the Hub keeps large ones (LFS): their lists state a sha256, and the file is at the end of a
redirect to another server, which knows no tokens. A file ``.gated`` in it makes the model gated: its list can be read
and its files cannot, as on the Hub, but by tokens that begin with what the file holds, if it holds something;
``.pending`` and ``.fine-grained`` say why not. ``.forbidden`` makes every file of it end in a bare 403, as behind a
proxy that refuses. ``.slow`` holds the bytes per second at which large files are sent, ``.cut`` how many of them arrive
before the connection breaks, once, ``.stall`` after how many nothing more is sent and the connection stays open, once,
and ``.damage`` how often whole large files are sent with a byte changed. ``.status`` holds a status such as 429 that
every request for a file is answered with, ``.xet`` the address of the Xet storage that large files are said to lie in;
there is none here, and whoever asks without Xet gets them as before.

    python tests/hub_stand_in.py --folder DIR --port 8081 [--host 127.0.0.1]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)(?:/(?P<view>revision|tree)/(?P<revision>[^/]+))?/?")
AUTH_CHECK = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)/auth-check")
XET = re.compile(r"/api/models/(?P<model>[^/]+/[^/]+)/xet-read-token/[^/]+")
LARGE = re.compile(r"/lfs/(?P<model>[^/]+/[^/]+)/(?P<file>.+)")
LARGE_BYTES = 1024 * 1024
FILE = re.compile(r"/(?P<model>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
TOKEN = re.compile(r"Bearer hf_good\w*")
BRANCH = "main"
SILENT_SECONDS = 600


class Refused(Exception):
    """An answer other than success; ``code`` is what the Hub says in ``X-Error-Code``."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def _files(model: Path) -> dict[str, Path]:
    """The files that a model offers, by their names; those that begin with a dot are instructions to this server."""
    found = (path for path in sorted(model.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(model)): path for path in found}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_digest(path: Path) -> str:
    """Return what git calls a file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: Path) -> bool:
    """Tell whether the Hub would keep a file as a large one."""
    return path.stat().st_size >= LARGE_BYTES


def commit_of(model: Path) -> str:
    """Return 40 hexadecimal digits that change with any file of a model."""
    text = "\n".join(f"{name} {_digest(path)}" for name, path in _files(model).items())
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class Hub(ThreadingHTTPServer):
    """The server; ``asked`` lists method and path of every request that it got."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str, port: int) -> None:
        super().__init__((host, port), Handler)
        self.folder = folder
        self.asked: list[str] = []
        # Another port is another origin, to which huggingface_hub does not send the token.
        self.storage = Storage(folder, host) if type(self) is Hub else self

    @property
    def url(self) -> str:
        """What ``HF_ENDPOINT`` should be."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def model(self, name: str, revision: str | None) -> tuple[Path, str]:
        """Find a model's folder and its commit, or refuse as the Hub does."""
        folder = self.folder / name
        if folder.parent.parent != self.folder or ".." in folder.parts or not folder.is_dir():
            raise Refused(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
        commit = commit_of(folder)
        if revision not in (None, BRANCH, commit):
            raise Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return folder, commit


class Storage(Hub):
    """The server of large files."""

    def __init__(self, folder: Path, host: str) -> None:
        super().__init__(folder, host, 0)
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self.answer(with_body=False)

    def do_GET(self) -> None:
        """Answer."""
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        """Find out what is asked for."""
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        try:
            authorization = self.headers.get("Authorization")
            if authorization is not None and not TOKEN.fullmatch(authorization):
                raise Refused(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
            if path == "/api/whoami-v2":
                self.say_json(self.who(), with_body)
            elif match := AUTH_CHECK.fullmatch(path):
                self.check_access(self.server.model(match["model"], None)[0])
                self.say_json({}, with_body)
            elif match := XET.fullmatch(path):
                self.say_xet(**match.groupdict(), with_body=with_body)
            elif match := API.fullmatch(path):
                self.say_json(self.describe(**match.groupdict()), with_body)
            elif match := LARGE.fullmatch(path):
                self.say_large(**match.groupdict(), with_body=with_body)
            elif match := FILE.fullmatch(path):
                self.say_file(**match.groupdict(), with_body=with_body)
            else:
                raise Refused(HTTPStatus.NOT_FOUND, "", "Not found")
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            self.say_json({"error": str(refused)}, with_body, refused.status, headers)

    def who(self) -> dict[str, Any]:
        """Tell whose token it is."""
        if self.headers.get("Authorization") is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
        return {"type": "user", "name": "tester", "auth": {"type": "access_token"}}

    def check_access(self, folder: Path) -> None:
        """Refuse the files of a gated model to those who may not have them, in the Hub's words."""
        gate = folder / ".gated"
        if not gate.exists():
            return
        model = str(folder.relative_to(self.server.folder))
        authorization = self.headers.get("Authorization")
        if authorization is None:
            message = (
                f"Access to model {model} is restricted. You must have access to it and be authenticated to access it."
            )
            raise Refused(HTTPStatus.UNAUTHORIZED, "GatedRepo", f"{message} Please log in.")
        allowed = gate.read_text().strip()
        if allowed and authorization.startswith(f"Bearer {allowed}"):
            return
        message = f"Access to model {model} is restricted and you are not in the authorized list."
        if (folder / ".pending").exists():
            message = f"Your request to access model {model} is awaiting a review from the repo authors."
        if (folder / ".fine-grained").exists():
            message = "Please enable access to public gated repositories in your fine-grained token settings."
        raise Refused(HTTPStatus.FORBIDDEN, "GatedRepo", message)

    def say_xet(self, model: str, with_body: bool) -> None:
        """Send where the Xet storage is, and a token for it."""
        address = (self.server.folder / model / ".xet").read_text().strip()
        told = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": "4102444800"}
        answer = {"casUrl": address, "accessToken": "xet", "exp": 4102444800}
        self.say_json(answer, with_body, headers=told)

    def describe(self, model: str, view: str | None, revision: str | None) -> Any:
        """Answer a question about a model."""
        folder, commit = self.server.model(model, revision)
        files = _files(folder)
        if view == "tree":
            return [{"type": "file", "path": name, **self.digests(path, "oid")} for name, path in files.items()]
        siblings = [{"rfilename": name, **self.digests(path, "blobId")} for name, path in files.items()]
        gated = "manual" if (folder / ".gated").exists() else False
        return {"id": model, "sha": commit, "private": False, "gated": gated, "siblings": siblings}

    def digests(self, path: Path, git: str) -> dict[str, Any]:
        """Size and digests of a file, as the Hub's lists have them."""
        size = path.stat().st_size
        found: dict[str, Any] = {"size": size, git: git_digest(path)}
        if is_large(path):
            key = "oid" if git == "oid" else "sha256"
            found["lfs"] = {key: _digest(path), "size": size, "pointerSize": 134}
        return found

    def say_file(self, model: str, revision: str, file: str, with_body: bool) -> None:
        """Send a file of a model, or refuse."""
        folder, commit = self.server.model(model, revision)
        self.check_access(folder)
        if (folder / ".forbidden").exists():
            raise Refused(HTTPStatus.FORBIDDEN, "", "Forbidden by the proxy")
        if (folder / ".status").exists():
            raise Refused(HTTPStatus(int((folder / ".status").read_text())), "", "Not now")
        path = _files(folder).get(file)
        if path is None:
            raise Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        headers = {"ETag": f'"{_digest(path) if is_large(path) else git_digest(path)}"', "X-Repo-Commit": commit}
        if is_large(path):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", f"{self.server.storage.url}/lfs/{model}/{file}")
            for name, value in {
                **headers,
                "X-Linked-Etag": headers["ETag"],
                "X-Linked-Size": str(path.stat().st_size),
                **self.xet_headers(folder, path, commit),
                "Content-Length": "0",
            }.items():
                self.send_header(name, value)
            self.end_headers()
        else:
            self.send_content(path, headers, with_body)

    def xet_headers(self, folder: Path, path: Path, commit: str) -> dict[str, str]:
        """What tells huggingface_hub that a file can be had by Xet (huggingface_hub/utils/_xet.py)."""
        if not (folder / ".xet").exists():
            return {}
        model = folder.relative_to(self.server.folder)
        route = f"{self.server.url}/api/models/{model}/xet-read-token/{commit}"
        return {"X-Xet-Hash": _digest(path), "X-Xet-Refresh-Route": route}

    def say_large(self, model: str, file: str, with_body: bool) -> None:
        """Send a large file, as the storage behind the Hub does: no model is known there, and no token is asked for."""
        path = _files(self.server.folder / model).get(file)
        if path is None:
            raise Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        self.send_content(path, {"ETag": f'"{_digest(path)}"'}, with_body)

    def send_content(self, path: Path, headers: dict[str, str], with_body: bool) -> None:
        """Send a file, or the part of it that is asked for."""
        size = path.stat().st_size
        asked = RANGE.fullmatch(self.headers.get("Range", ""))
        begin = min(int(asked[1]), size) if asked else 0
        end = min(int(asked[2]) + 1, size) if asked and asked[2] else size
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        if asked:
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{size}"}
        for name, value in {**headers, "Content-Length": str(end - begin)}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            content = path.read_bytes()[begin:end]
            if is_large(path) and len(content) == size:
                content = self.damaged(path, content)
            self.send_slowly(path, content)

    def instruction(self, path: Path, name: str) -> int:
        """Read the number in a file of instructions of the model that a file belongs to; 0 without one."""
        model = self.server.folder / Path(*path.relative_to(self.server.folder).parts[:2])
        file = model / name
        return int(file.read_text()) if file.exists() else 0

    def use_up(self, path: Path, name: str, left: int) -> None:
        """Note that an instruction was followed."""
        model = self.server.folder / Path(*path.relative_to(self.server.folder).parts[:2])
        (model / name).write_text(str(left))

    def damaged(self, path: Path, content: bytes) -> bytes:
        """Change a byte, where the model's instructions say so."""
        times = self.instruction(path, ".damage")
        if not times or not content:
            return content
        self.use_up(path, ".damage", times - 1)
        return bytes([content[0] ^ 1]) + content[1:]

    def send_slowly(self, path: Path, content: bytes) -> None:
        """Send at the rate of the instructions, and break off where they say so."""
        rate = self.instruction(path, ".slow") if is_large(path) else 0
        cut = self.instruction(path, ".cut") if is_large(path) else 0
        if cut and cut < len(content):
            self.use_up(path, ".cut", 0)
            self.wfile.write(content[:cut])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        stall = self.instruction(path, ".stall") if is_large(path) else 0
        if stall and stall < len(content):
            self.use_up(path, ".stall", 0)
            self.wfile.write(content[:stall])
            self.stay_silent()
            return
        piece = max(1, rate // 10) if rate else len(content) or 1
        for begin in range(0, len(content), piece):
            self.wfile.write(content[begin : begin + piece])
            if rate:
                time.sleep(0.1)

    def stay_silent(self) -> None:
        """Keep the connection open and send nothing, until the other side is gone or the server ends."""
        self.close_connection = True
        self.connection.settimeout(SILENT_SECONDS)
        with suppress(OSError):
            self.connection.recv(1)

    def say_json(
        self,
        answer: Any,
        with_body: bool,
        status: HTTPStatus = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send JSON."""
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing: the tests look at ``asked``."""


@contextmanager
def running(folder: Path) -> Iterator[Hub]:
    """Serve a folder on a free port of this machine for as long as the context lasts."""
    server = Hub(folder, "127.0.0.1", 0)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until it is stopped."""
    parser = argparse.ArgumentParser(description="Serves model folders as the Hugging Face Hub would.")
    parser.add_argument("--folder", type=Path, required=True, help="holds <org>/<name>/ for each model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    wanted = parser.parse_args()
    if not wanted.folder.is_dir():
        parser.error(f"{wanted.folder} is not a folder.")
    with Hub(wanted.folder.resolve(), wanted.host, wanted.port) as server:
        print(f"HF_ENDPOINT={server.url} serves {wanted.folder}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
