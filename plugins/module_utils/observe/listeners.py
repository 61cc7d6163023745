# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find who listens on a TCP port, from /proc."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.systemd import unit_of

LISTEN = "0A"  # include/net/tcp_states.h
ADDRESS = re.compile(r"[0-9A-Fa-f]{1,32}:([0-9A-Fa-f]{1,4})")
SOCKET = re.compile(r"socket:\[(\d+)\]")


def parse_proc_net_tcp(text: str) -> dict[str, int]:
    """Read /proc/net/tcp or tcp6: the local port of every listening socket, by its inode."""
    found = {}
    for line in text.splitlines()[1:]:
        columns = line.split()
        address = ADDRESS.fullmatch(columns[1]) if len(columns) > 9 and columns[3] == LISTEN else None
        if address:
            found[columns[9]] = int(address[1], 16)
    return found


def _owners(inodes: Collection[str]) -> dict[str, int]:
    """Return the process that holds each socket, as far as it can be seen."""
    found: dict[str, int] = {}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        # a process may end while it is looked at
        with contextlib.suppress(OSError):
            for link in folder.iterdir():
                with contextlib.suppress(OSError):
                    match = SOCKET.fullmatch(str(link.readlink()))
                    if match and match.group(1) in inodes:
                        found.setdefault(match.group(1), int(folder.parent.name))
    return found


def listeners(ports: Collection[int] | None = None) -> list[dict[str, object]]:
    """Return a mapping of ``port``, ``pid``, ``process`` and ``unit`` for each of ``ports`` that somebody holds.

    Without ``ports``, of all that somebody holds.
    """
    found: dict[int, str] = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for inode, port in parse_proc_net_tcp(Path(f"/proc/net/{name}").read_text(encoding="ascii")).items():
                if ports is None or port in ports:
                    found.setdefault(port, inode)
    owners = _owners(set(found.values())) if found else {}
    result: list[dict[str, object]] = []
    for port, inode in sorted(found.items()):
        pid = owners.get(inode)
        process = None
        if pid:
            with contextlib.suppress(OSError):
                process = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        result.append({"port": port, "pid": pid, "process": process, "unit": unit_of(pid) if pid else None})
    return result
