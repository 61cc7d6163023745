# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a vLLM server over HTTP, and say whether it answered as it should."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PROMPT = "Count from one to five."
MAX_TOKENS = 16


class NoAnswer(Exception):
    """The server could not be reached or broke off; the message says how."""


class WrongAnswer(Exception):
    """The server answered, and the answer is not what a working instance gives."""


@dataclass(frozen=True)
class Server:
    """Address of a server; ``seconds`` is the time limit of one request."""

    host: str
    port: int
    seconds: float

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Send a GET, or a POST of JSON, and return the status and the decoded answer (text when not JSON)."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.seconds)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, payload, headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text


def probe_address(host: str) -> str:
    """Return the address to ask a server at that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def healthy(server: Server) -> bool:
    """Tell whether /health says 200; an engine that loads refuses the connection."""
    try:
        return server.request("/health")[0] == http.client.OK
    except NoAnswer:
        return False


def _member(answer: Any, key: str) -> Any:
    return answer.get(key) if isinstance(answer, dict) else None


def _data(answer: Any) -> list[dict[str, Any]]:
    """Return the objects of the list ``data``; whoever answers may be somebody else than vLLM."""
    data = _member(answer, "data")
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def check_models(server: Server, name: str, max_model_len: int | None) -> int | None:
    """Check that /v1/models offers ``name`` at the asked length, and return the length in tokens."""
    status, answer = server.request("/v1/models")
    offered = {str(entry.get("id")): entry for entry in _data(answer)}
    if status != http.client.OK or name not in offered:
        raise WrongAnswer(f"/v1/models offers {sorted(offered)} (status {status}) and not {name}")
    length = offered[name].get("max_model_len")
    if max_model_len and length != max_model_len:
        raise WrongAnswer(f"/v1/models says max_model_len {length} and {max_model_len} was asked for")
    return length


def _generated(answer: Any) -> int:
    tokens = _member(_member(answer, "usage"), "completion_tokens")
    return tokens if isinstance(tokens, int) else 0


def _embedded(answer: Any) -> int:
    vectors = [entry.get("embedding") for entry in _data(answer)]
    return len(vectors[0]) if vectors and isinstance(vectors[0], list) else 0


# kind -> (path, body without the model, what a good answer holds at least one of)
REQUESTS: Mapping[str, tuple[str, Mapping[str, Any], Callable[[Any], int]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS},
        _generated,
    ),
    "completion": ("/v1/completions", {"prompt": PROMPT, "max_tokens": MAX_TOKENS}, _generated),
    "embedding": ("/v1/embeddings", {"input": PROMPT}, _embedded),
}
# A server without that endpoint, or a model without a chat template, refuses with one of these.
NOT_OFFERED = (
    http.client.BAD_REQUEST,
    http.client.NOT_FOUND,
    http.client.METHOD_NOT_ALLOWED,
    http.client.NOT_IMPLEMENTED,
)


def _said(answer: Any) -> str:
    if isinstance(answer, dict):
        error = answer.get("error")
        answer = error.get("message") if isinstance(error, dict) else error or answer
    return " ".join(str(answer).split())[:300]


def first_request(server: Server, name: str) -> dict[str, Any]:
    """Send the first kind of request that the model takes, and return ``kind``, ``seconds``, ``tokens``.

    Raises :class:`NoAnswer` or :class:`WrongAnswer`.
    """
    refused = []
    for kind, (path, body, count) in REQUESTS.items():
        begin = time.monotonic()
        status, answer = server.request(path, {"model": name, **body})
        if status in NOT_OFFERED:
            refused.append(f"{kind}: {status} {_said(answer)}")
            continue
        if status != http.client.OK:
            raise WrongAnswer(f"the {kind} request got status {status}: {_said(answer)}")
        size = count(answer)
        if size < 1:
            raise WrongAnswer(f"the {kind} request got an empty answer: {_said(answer)}")
        return {"kind": kind, "seconds": round(time.monotonic() - begin, 3), "tokens": size}
    raise WrongAnswer(f"every kind of request was refused ({'; '.join(refused)})")
