#!/usr/bin/python3
# Written by Ansible (gpufleet.vllm.gateway); changes made here are lost.
"""Keep the state of HAProxy's servers over a reload and a restart.

HAProxy reads FILE when it starts: which servers are drained, up or down. This writes it from what the running HAProxy
says, or from what FILE had where none runs, and makes it fit CONFIG: HAProxy would take a port from FILE that CONFIG
has changed meanwhile, and would send requests to a server that FILE does not know before it has checked it.
"""

import os
import re
import socket
import sys
import tempfile
from pathlib import Path

HEADER = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)
# Stopped (srv_op_state 0), to be checked; ids of 0 are found by name.
NEW = "0 {backend} 0 {name} - 0 0 1 1 0 1 0 0 6 0 0 0 - {port} - 0 0 - - 0"
BACKEND, NAME, ADDRESS, FQDN, PORT = 1, 3, 4, 17, 18


def ask(path: str, command: str) -> str:
    """Send a command to the master and return the answer."""
    said = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        connection.shutdown(socket.SHUT_WR)
        while True:
            part = connection.recv(65536)
            if not part:
                return said.decode("utf-8", "replace")
            said += part


def configured(text: str) -> "dict[tuple[str, str], tuple[str, str]]":
    """Give address and port of each server of a configuration, by backend and name."""
    found, backend = {}, ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["backend"]:
            backend = words[1]
        elif words[:1] == ["server"] and backend:
            address, _colon, port = words[2].rpartition(":")
            found[backend, words[1]] = (address.strip("[]"), port)
        elif line[:1].strip():
            backend = ""
    return found


def fitted(state: str, config: str) -> str:
    """Make a state fit a configuration."""
    servers, seen, lines = configured(config), set(), []
    rows = [line for line in state.splitlines() if line.strip()]
    header = next((line for line in rows if line.startswith("# be_id")), HEADER)
    for row in rows:
        words = row.split()
        if len(words) <= PORT or row.startswith("#") or (words[BACKEND], words[NAME]) not in servers:
            continue
        address, port = servers[words[BACKEND], words[NAME]]
        if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*", address):
            words[ADDRESS] = address
        words[PORT] = port
        seen.add((words[BACKEND], words[NAME]))
        lines.append(" ".join(words))
    for backend, name in servers:
        if (backend, name) not in seen:
            lines.append(NEW.format(backend=backend, name=name, port=servers[backend, name][1]))
    return "\n".join(["1", header, *lines, ""])


def read(path: str) -> str:
    """Return a file's text, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def running(path: str) -> str:
    """Return the state of the running HAProxy, empty where none runs."""
    try:
        section = ask(path, "show proc").partition("# workers")[2]
        found = re.search(r"^(\d+)\s+worker", section, re.MULTILINE)
        return ask(path, f"@!{found[1]} show servers state") if found else ""
    except OSError:
        return ""


def main() -> None:
    """Write the state."""
    config, master, path = sys.argv[1:]
    state = running(master)
    text = fitted(state if "# be_id" in state else read(path), read(config))
    handle, part = tempfile.mkstemp(dir=Path(path).parent, prefix=".servers.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    main()
