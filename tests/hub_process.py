"""The stand-in for the hub as a process that nodes can reach."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testinfra.host import Host

from tests.deployments import ROOT

SECONDS_TO_START = 20


@contextmanager
def serving(folder: Path, host: Host) -> Iterator[str]:
    """Serve a folder of models where a node can reach it, and give the address."""
    gateway = host.check_output("ip -4 route show default").split()[2]
    with socket.socket() as free:
        free.bind((gateway, 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "tests/hub_stand_in.py"), "--folder", str(folder), "--host", gateway]
    with subprocess.Popen([*command, "--port", str(port)]) as process:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                socket.create_connection((gateway, port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        try:
            yield f"http://{gateway}:{port}"
        finally:
            process.terminate()
