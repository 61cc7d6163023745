"""The program that keeps the ranks of an engine together: real processes and connections, on loopback addresses.

The engine is a stand-in: a program that writes down that it was started and waits.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.samples import CHECKOUT

PROGRAM = CHECKOUT / "roles/serve/files/ranks.py"
ENGINE = """
import os, signal, sys, time
def drain(*_):
    time.sleep(float(sys.argv[2]))
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
with open(sys.argv[1], "a") as log:
    print(os.getpid(), file=log)
while True:
    time.sleep(0.05)
"""
SECONDS = 20
# A rank that is silent for this long counts as gone.
SILENCE = 3


def wait_for(what: Callable[[], bool], seconds: float = SECONDS) -> float:
    """Wait until something is so; returns the seconds it took."""
    begin = time.monotonic()
    while not what():
        assert time.monotonic() - begin < seconds, "it did not happen"
        time.sleep(0.05)
    return time.monotonic() - begin


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


class Engine:
    """One engine over hosts that have a loopback address each."""

    def __init__(self, folder: Path, hosts: int) -> None:
        self.folder, self.port = folder, free_port()
        self.nodes = [f"--node=node{number}=127.0.0.{number}" for number in range(1, hosts + 1)]
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, rank: int, agreement: str = "same", drain: float = 0, command: list[str] | None = None) -> None:
        engine = [sys.executable, "-c", ENGINE, str(self.folder / str(rank)), str(drain)]
        with (self.folder / f"log{rank}").open("ab") as log:
            self.running[rank] = subprocess.Popen(
                [
                    *(sys.executable, "-I", str(PROGRAM), "--name=pair", f"--rank={rank}", *self.nodes),
                    *(f"--port={self.port}", f"--agreement={agreement}", f"--silence={SILENCE}", "--"),
                    *(command or engine),
                ],
                stdout=log,
                stderr=log,
            )

    def starts(self, rank: int) -> list[int]:
        """The engines that were started as a rank, by pid."""
        path = self.folder / str(rank)
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def alive(self, rank: int) -> bool:
        """Whether the engine that was started last runs."""
        started = self.starts(rank)
        # a child that has ended and was not waited for is a process without a command line
        return bool(started) and Path(f"/proc/{started[-1]}/cmdline").exists() and self.running[rank].poll() is None

    def log(self, rank: int) -> str:
        return (self.folder / f"log{rank}").read_text()

    def wait(self, rank: int) -> int:
        return self.running[rank].wait(SECONDS)

    def all_run(self) -> bool:
        return all(self.alive(rank) for rank in self.running)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def one(hosts: int = 2, start: bool = True, **how: float) -> Engine:
        engine = Engine(tmp_path, hosts)
        made.append(engine)
        for rank in range(hosts) if start else ():
            engine.start(rank, **how)  # type: ignore[arg-type]
        if start:
            wait_for(engine.all_run)
        return engine

    yield one
    for engine in made:
        for rank, process in engine.running.items():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            for pid in engine.starts(rank):
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)


def test_ranks_wait_for_one_another_and_start_together(make: Callable[..., Engine]) -> None:
    engine = make(hosts=3, start=False)
    engine.start(2)
    wait_for(lambda: "waiting for node1 (127.0.0.1): Connection refused" in engine.log(2))
    engine.start(0)
    wait_for(lambda: "waiting for node2 (127.0.0.2)" in engine.log(0))
    time.sleep(2 * SILENCE)  # nobody is tired of waiting
    assert engine.starts(0) == engine.starts(2) == []
    engine.start(1)
    wait_for(engine.all_run)
    assert "runs as rank 0 of node1, node2, node3" in engine.log(0)


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_an_engine_that_dies_ends_the_others(make: Callable[..., Engine], dead: int) -> None:
    engine = make(hosts=3)
    os.kill(engine.starts(dead)[-1], signal.SIGKILL)
    assert [engine.wait(rank) for rank in range(3)] == [1, 1, 1]
    for rank in range(3):
        assert not engine.alive(rank)
    if dead:
        assert f"node{dead + 1} (127.0.0.{dead + 1}) is gone (its connection was closed)" in engine.log(0)
    # and systemd starts them again
    for rank in range(3):
        engine.start(rank)
    wait_for(engine.all_run)
    assert [len(engine.starts(rank)) for rank in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("dead", [0, 1])
def test_the_program_itself_is_killed(make: Callable[..., Engine], dead: int) -> None:
    engine = make()
    engine.running[dead].kill()
    assert engine.wait(1 - dead) == 1
    assert not engine.alive(1 - dead)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_host_that_falls_silent(make: Callable[..., Engine], frozen: int) -> None:
    """As one that lost its power or its network: no connection is closed."""
    engine = make()
    engine.running[frozen].send_signal(signal.SIGSTOP)
    seconds = wait_for(lambda: engine.running[1 - frozen].poll() is not None)
    assert SILENCE - 2.5 < seconds < SILENCE + 3
    assert f"silent for {SILENCE} s" in engine.log(1 - frozen)
    # it wakes up, and does not go on by itself
    engine.running[frozen].send_signal(signal.SIGCONT)
    assert engine.wait(frozen) == 1


def test_a_silent_host_that_was_started_anew(make: Callable[..., Engine]) -> None:
    """The old connection still looks open when the new one comes."""
    engine = make()
    old = engine.running[1]
    old.send_signal(signal.SIGSTOP)
    engine.start(1)
    assert wait_for(lambda: engine.running[0].poll() is not None) < SILENCE
    assert "node2 (127.0.0.2) is gone (it was started anew)" in engine.log(0)
    old.send_signal(signal.SIGCONT)
    old.kill()


def test_a_stopped_head_finishes_before_the_others_end(make: Callable[..., Engine]) -> None:
    engine = make(drain=2)
    engine.running[0].terminate()
    time.sleep(1)
    assert engine.all_run()
    assert (engine.wait(0), engine.wait(1)) == (0, 1)


def test_a_stopped_rank_lets_the_head_finish_first(make: Callable[..., Engine]) -> None:
    engine = make(drain=2)
    engine.running[1].terminate()
    wait_for(lambda: "stopping, as node2 (127.0.0.2) is being stopped" in engine.log(0))
    time.sleep(1)
    assert engine.all_run()
    assert (engine.wait(0), engine.wait(1)) == (0, 0)
    # the head comes back, and waits
    engine.start(0)
    time.sleep(2)
    assert len(engine.starts(0)) == 1
    engine.start(1)
    wait_for(engine.all_run)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_waits_can_be_stopped(make: Callable[..., Engine], rank: int) -> None:
    engine = make(start=False)
    engine.start(rank)
    wait_for(lambda: "waiting for" in engine.log(rank))
    engine.running[rank].terminate()
    assert engine.wait(rank) == 0


def test_hosts_of_different_deployments_do_not_start(make: Callable[..., Engine]) -> None:
    engine = make(start=False)
    engine.start(0, agreement="new")
    engine.start(1, agreement="old")
    wait_for(lambda: "waiting for node2 (127.0.0.2): it was deployed with other settings" in engine.log(0))
    wait_for(lambda: "node1 was deployed with other settings" in engine.log(1))
    engine.running[1].terminate()
    engine.wait(1)
    engine.start(1, agreement="new")
    wait_for(engine.all_run)


def test_the_status_of_the_engine_is_handed_on(make: Callable[..., Engine]) -> None:
    """2 is how vLLM ends for a wrong option, and what systemd does not restart."""
    engine = make(start=False)
    engine.start(0)
    engine.start(1, command=[sys.executable, "-c", "raise SystemExit(2)"])
    assert (engine.wait(0), engine.wait(1)) == (1, 2)


def test_strangers_change_nothing(make: Callable[..., Engine]) -> None:
    """From an address of the engine and from another one, while it waits and while it runs."""
    engine = make(hosts=3, start=False)
    engine.start(0)
    engine.start(1)
    wait_for(lambda: "waiting for node3 (127.0.0.3)" in engine.log(0))
    for phase in range(2):
        for said in (
            b"",
            b"nonsense\n",
            b'{"go": true}\n',
            b"[]\n",
            b"[" * 4000 + b"\n",
            b"\xff" * 9000,
            b'{"rank": 2}\n',
            b'{"stop": 1}\n{"stop": 1}\n',
        ):
            for source in ("127.0.0.3", "127.0.0.9"):
                where = ("127.0.0.1", engine.port)
                with closing(socket.create_connection(where, 5, source_address=(source, 0))) as one:
                    one.sendall(said)
                    time.sleep(0.1)
        if not phase:
            engine.start(2)
            wait_for(engine.all_run)
    time.sleep(1)
    assert engine.all_run()
    assert [len(engine.starts(rank)) for rank in range(3)] == [1, 1, 1]


def test_systemd_is_told(make: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        make()
        told: list[str] = []
        while not told or "runs as rank" not in told[-1]:
            told.append(systemd.recv(1000).decode())
    assert any(text.startswith("STATUS=waiting for node") for text in told)
