# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what HAProxy's runtime API says. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

# srv_admin_state and srv_op_state of "show servers state" (management.txt 9.3, include/haproxy/server-t.h)
FORCED_MAINTENANCE = 0x01
FORCED_DRAIN = 0x08
RUNNING = 2


@dataclass(frozen=True)
class Server:
    """A server of a backend. ``admin`` and ``operation`` are HAProxy's numbers."""

    backend: str
    name: str
    admin: int
    operation: int

    @property
    def draining(self) -> bool:
        """Whether a person took it out for new requests."""
        return bool(self.admin & FORCED_DRAIN)

    @property
    def up(self) -> bool:
        """Whether it gets requests."""
        return self.operation == RUNNING and not self.admin


def workers(text: str) -> list[int]:
    """Give the process ids of ``show proc``: the worker that takes connections, then those that finish theirs."""
    found: dict[str, list[int]] = {"# workers": [], "# old workers": []}
    section = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("#"):
            section = line.strip()
        elif section in found and len(words) > 1 and is_whole(words[0]) and words[1] == "worker":
            found[section].append(int(words[0]))
    if not found["# workers"]:
        raise ParseError(f"HAProxy's master names no worker in its answer to 'show proc': {text.strip()[:200]!r}.")
    return [*found["# workers"], *found["# old workers"]]


def servers(text: str) -> list[Server]:
    """Give the servers of ``show servers state``."""
    found, header = [], None
    for line in text.splitlines():
        words = line.split()
        if line.startswith("# be_id"):
            header = words[1:]
        elif header and len(words) >= len(header):
            row = dict(zip(header, words))
            try:
                admin, operation = int(row["srv_admin_state"]), int(row["srv_op_state"])
            except (KeyError, ValueError) as error:
                raise ParseError(f"HAProxy's list of servers cannot be read: {line.strip()[:200]!r}.") from error
            found.append(Server(row["be_name"], row["srv_name"], admin, operation))
    return found


def _rows(text: str) -> Iterator[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith("# "):
        yield from csv.DictReader([lines[0][2:], *lines[1:]])


def busy(text: str, backend: str, server: str) -> int:
    """Count the requests that a worker has at a server or in its queue, of ``show stat``; 0 where it is unknown."""
    return sum(
        int(row.get("scur") or 0) + int(row.get("qcur") or 0)
        for row in _rows(text)
        if (row.get("pxname"), row.get("svname")) == (backend, server)
    )


def last_check(text: str, backend: str, server: str) -> str:
    """Say in HAProxy's words what the last check of a server found, of ``show stat``."""
    for row in _rows(text):
        if (row.get("pxname"), row.get("svname")) == (backend, server):
            said = (row.get("check_desc") or "no check yet", row.get("last_chk") or "")
            return f"{row.get('status')}, {': '.join(part for part in said if part)}"
    return "unknown"
