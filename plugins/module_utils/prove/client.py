# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a vLLM server over HTTP, and say whether it is there and offers what it should."""

from __future__ import annotations

import http.client
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.visible import visible

# Of one answer; the longest are the metrics and the API's description, about 1 MB each.
LONGEST_ANSWER_BYTES = 32 * 1024 * 1024


class NoAnswer(Exception):
    """The server could not be reached, broke off or went on without end; the message says how."""


class WrongAnswer(Exception):
    """The server answered, and the answer is not what a working instance gives."""


class Refusal(WrongAnswer):
    """The server is well and does not do what was asked of it; ``status`` is that of HTTP."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}: {said}")
        self.status = status
        self.said = said


@dataclass(frozen=True)
class Server:
    """Address of a server; ``seconds`` is the time limit of one request, ``key`` its API key where it asks for one."""

    host: str
    port: int
    seconds: float
    key: str | None = field(default=None, repr=False)

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Send a GET, or a POST of JSON, and return the status and the decoded answer (text when not JSON)."""
        connection = self._connection()
        try:
            response = self._sent(connection, path, body)
            text = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        return response.status, _decoded(text)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
        """Send a POST and yield each line of the answer with the seconds since it was sent.

        Raises :class:`Refusal` for any status but 200, and :class:`NoAnswer`, also in the middle.
        """
        connection = self._connection()
        begin = time.monotonic()
        try:
            response = self._sent(connection, path, body)
            if response.status != http.client.OK:
                raise Refusal(response.status, said(_decoded(response.read().decode("utf-8", "replace"))))
            for line in response:
                yield time.monotonic() - begin, line.decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.seconds)
        end = time.monotonic() + self.seconds

        def response(sock: Any, *arguments: Any, **named: Any) -> http.client.HTTPResponse:
            made = http.client.HTTPResponse(sock, *arguments, **named)
            made.fp = io.BufferedReader(_Bounded(sock, made.fp.detach(), end))
            return made

        connection.response_class = response  # type: ignore[assignment]
        return connection

    def _sent(
        self, connection: http.client.HTTPConnection, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        payload = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, payload, headers)
        return connection.getresponse()


class _Bounded(io.RawIOBase):
    """What a server sends, until a point in time and up to a length; a socket alone has a limit for each byte."""

    def __init__(self, sock: Any, raw: Any, end: float) -> None:
        super().__init__()
        self._sock, self._raw, self._end = sock, raw, end
        self._left = LONGEST_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(seconds)
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(f"the answer is longer than {LONGEST_ANSWER_BYTES // 1024**2} MiB")
        return int(count or 0)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def probe_address(host: str) -> str:
    """Return the address to ask a server at that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def healthy(server: Server) -> bool:
    """Tell whether /health says 200; an engine that loads refuses the connection."""
    try:
        return server.request("/health")[0] == http.client.OK
    except NoAnswer:
        return False


def member(answer: Any, key: str) -> Any:
    """Return what an object holds under ``key``; None when it is none: who answers may be somebody else than vLLM."""
    return answer.get(key) if isinstance(answer, dict) else None


def data(answer: Any) -> list[dict[str, Any]]:
    """Return the objects of the list ``data`` of an answer."""
    found = member(answer, "data")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def said(answer: Any) -> str:
    """Return the sentence of an error, shortened to 300 characters."""
    if isinstance(answer, dict):
        error = answer.get("error")
        answer = error.get("message") if isinstance(error, dict) else error or answer
    return visible(" ".join(str(answer).split())[:300])


def check_models(server: Server, name: str, max_model_len: int | None) -> int | None:
    """Check that /v1/models offers ``name`` at the asked length, and return the length in tokens."""
    status, answer = server.request("/v1/models")
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        raise WrongAnswer(
            f"/v1/models wants an API key that is not the process's VLLM_API_KEY (status {status}); the warm-up has "
            "no other"
        )
    offered = {str(entry.get("id")): entry for entry in data(answer)}
    if status != http.client.OK or name not in offered:
        raise WrongAnswer(f"/v1/models offers {sorted(offered)} (status {status}) and not {name}")
    length = offered[name].get("max_model_len")
    if max_model_len and length != max_model_len:
        raise WrongAnswer(f"/v1/models says max_model_len {length} and {max_model_len} was asked for")
    return length


def offered_paths(server: Server) -> list[str]:
    """Return the paths of /openapi.json, none where the server keeps them to itself (--disable-fastapi-docs)."""
    status, answer = server.request("/openapi.json")
    found = member(answer, "paths")
    return sorted(found) if status == http.client.OK and isinstance(found, dict) else []
