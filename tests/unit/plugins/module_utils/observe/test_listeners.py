"""Who listens on a port."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import listeners
from hypothesis import given
from hypothesis import strategies as st

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 51234 1 0000000000000000 100 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20110 1 0000000000000000 100 0
   2: 0100007F:1F40 0100007F:C350 01 00000000:00000000 00:00000000 00000000   998        0 51301 1 0000000000000000 20 4
   3: 0100007F:C350 0100007F:1F40 06 00000000:00000000 03:00000F3A 00000000     0        0 0 3 0000000000000000
"""  # noqa: E501 - as the kernel prints it
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F41 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 60001 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:C351 00000000000000000000000001000000:1F41 01 00000000:00000000 00:00000000 00000000     0        0 60002 1 0000000000000000 100 0 0 10 0
"""  # noqa: E501 - as the kernel prints it
HEADER = TCP.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TCP, {"51234": 8000, "20110": 22}),
        (TCP6, {"60001": 8001}),
        (HEADER, {}),
        ("", {}),
        (f"{HEADER}\n   0: 0100007F:1F40 00000000:0000 0A", {}),
        (f"{HEADER}\n\n", {}),
        (f"{HEADER}\n   0: nonsense 00000000:0000 0A 0 0 0 0 0 0 0", {}),
    ],
)
def test_proc_net_tcp(text: str, found: dict[str, int]) -> None:
    assert listeners.parse_proc_net_tcp(text) == found


@given(st.integers(0, 65535), st.sampled_from(["0A", "01", "06"]))
def test_every_port_is_read(port: int, state: str) -> None:
    line = f"   0: 0100007F:{port:04X} 00000000:0000 {state} 0:0 00:0 0 998 0 51234 1"
    found = listeners.parse_proc_net_tcp(f"{HEADER}\n{line}")
    assert found == ({"51234": port} if state == "0A" else {})


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_socket_of_this_process_is_found(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as held:
        try:
            held.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        port = held.getsockname()[1]
        assert listeners.listeners({port}) == [], "a port that is held and not listened on is free to see"
        held.listen()
        (found,) = listeners.listeners({port})
    assert (found["port"], found["pid"]) == (port, os.getpid())
    assert found["process"] == Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    assert listeners.listeners({port}) == []


def test_only_the_ports_that_are_asked_for() -> None:
    with socket.socket() as one, socket.socket() as two:
        ports = []
        for held in (one, two):
            held.bind(("127.0.0.1", 0))
            held.listen()
            ports.append(held.getsockname()[1])
        assert [found["port"] for found in listeners.listeners(ports)] == sorted(ports)
        assert [found["port"] for found in listeners.listeners(ports[:1])] == ports[:1]
        assert listeners.listeners([]) == []
