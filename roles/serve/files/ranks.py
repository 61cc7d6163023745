"""Keeps the ranks of one engine over several hosts together: all of them run, or none does.

The main process of ``vllm@<name>.service`` on each host of such an engine; vLLM is its child. Each rank but the first
(the head) holds one TCP connection to the head. The head says "go" once it has all of them, and every rank starts vLLM.
From then on a connection that closes or falls silent, or a vLLM that ends, ends vLLM on every host, since vLLM itself
does not notice a rank that is gone before the next request. systemd starts the units again, and they wait here until
all are there. So ranks of two starts are never together, and a host that stays away costs the others no restarts.

Runs as the user of the service, with nothing but Python's library; sends no secrets and takes no orders but "go" and
"stop", from the addresses it was given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from types import FrameType
from typing import Any, NamedTuple

TICK = 0.5
BEAT_SECONDS = 2.0
RETRY_SECONDS = 2.0
CONNECT_SECONDS = 3.0
# A connection that has not said by then which rank it is gets closed.
HELLO_SECONDS = 5.0
LINE_BYTES = 4096
KILL_SECONDS = 20.0


class Node(NamedTuple):
    """A host of the engine: its name in the inventory, and its address on the network between the hosts."""

    host: str
    address: str

    def __str__(self) -> str:
        return f"{self.host} ({self.address})"


class Gone(Exception):
    """The other end of a connection is not there any more; the text says how that was seen."""


class Link:
    """A connection to another rank: lines of JSON, and empty lines as heartbeats."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.begun = self.heard = time.monotonic()
        self.sent = 0.0
        self.rest = b""

    def send(self, message: dict[str, Any] | None = None) -> None:
        """Send a message, or a heartbeat. A full buffer is a silent peer, which is judged elsewhere."""
        self.sent = time.monotonic()
        text = json.dumps(message) if message else ""
        with contextlib.suppress(OSError):
            self.socket.send(f"{text}\n".encode())

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages that have come. Raises Gone."""
        try:
            read = self.socket.recv(LINE_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Gone(f"its connection broke: {error.strerror}") from error
        if not read:
            raise Gone("its connection was closed")
        self.heard = time.monotonic()
        *lines, self.rest = (self.rest + read).split(b"\n")
        if len(self.rest) > LINE_BYTES:
            raise Gone("it sent what is no message")
        try:
            messages = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as error:
            raise Gone("it sent what is no message") from error
        return [message for message in messages if isinstance(message, dict)]

    def beat(self) -> None:
        """Send a heartbeat when it is time for one."""
        if time.monotonic() - self.sent >= BEAT_SECONDS:
            self.send()

    def silence(self) -> float:
        """Seconds since anything was heard."""
        return time.monotonic() - self.heard

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def notify(text: str) -> None:
    """Tell systemd what systemctl status shall show."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(f"STATUS={text}".encode(), address)


class Member:
    """What head and other ranks have in common: the engine as a child, a signal to stop, a line of status."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.nodes = [Node(*text.split("=", 1)) for text in options.node]
        self.rank: int = options.rank
        self.own, self.head = self.nodes[self.rank], self.nodes[0]
        self.port: int = options.port
        self.limit: float = options.silence
        self.hello = {"name": options.name, "rank": self.rank, "agreement": options.agreement}
        self.command: list[str] = options.command
        self.child: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.code: int | None = None
        self.shown = ""

    def run(self) -> int:
        """Go on until the engine has ended; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)
        while self.code is None:
            self.look()
            self.judge()
            ended = self.child.poll() if self.child and self.code is None else None
            if ended is not None:
                self.say(f"the engine has ended with {ended}")
                # systemd knows 2 as a wrong option, which no restart mends
                self.code = ended if ended >= 0 else 1
        self.kill()
        return self.code

    def look(self) -> None:
        """Read what the others say, for the time of a tick."""
        raise NotImplementedError

    def judge(self) -> None:
        """Decide what follows."""
        raise NotImplementedError

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Remember that systemd wants this unit to stop."""
        self.stopping = True

    def say(self, text: str) -> None:
        """Write into the journal, and show it as the status of the unit; once."""
        if text != self.shown:
            self.shown = text
            print(f"ranks: {text}", flush=True)
            notify(text)

    def start(self) -> None:
        """Start the engine."""
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        self.child = subprocess.Popen(self.command, env=environment)
        self.say(f"runs as rank {self.rank} of {', '.join(node.host for node in self.nodes)}")

    def end(self, why: str, code: int = 1) -> None:
        """End the engine at once: without all of its ranks it answers nothing."""
        self.say(why)
        self.code = code

    def kill(self) -> None:
        """Make sure of the engine's main process; systemd takes the rest of the unit when this one ends."""
        if self.child and self.child.poll() is None:
            self.child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(KILL_SECONDS)


class Head(Member):
    """Rank 0: the others connect to it."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.selector = selectors.DefaultSelector()
        self.listener: socket.socket | None = None
        self.links: dict[int, Link] = {}
        self.new: dict[Link, Node] = {}
        self.turned_away: dict[int, str] = {}
        self.terminated = False
        self.asked_by: Node | None = None

    def look(self) -> None:
        if self.listener is None and not self.listen():
            time.sleep(TICK)
            return
        for key, _events in self.selector.select(TICK):
            link = key.data
            if link is None:
                self.accept()
            elif link in self.new or link in self.links.values():
                self.read(link)

    def listen(self) -> bool:
        """Listen on the address that the others know; it may not be there yet while the host boots."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.own.address, self.port))
            listener.listen(2 * len(self.nodes))
        except OSError as error:
            listener.close()
            self.say(f"waiting for TCP port {self.port} of {self.own.address}: {error.strerror}")
            return False
        listener.setblocking(False)
        self.listener = listener
        self.selector.register(listener, selectors.EVENT_READ, None)
        return True

    def accept(self) -> None:
        """Take a connection from a host of the engine; others are closed."""
        assert self.listener is not None
        try:
            connection, (address, _port) = self.listener.accept()
        except OSError:
            return
        node = next((one for one in self.nodes[1:] if one.address == address), None)
        if node is None or len(self.new) >= 2 * len(self.nodes):
            connection.close()
            return
        link = Link(connection)
        self.new[link] = node
        self.selector.register(connection, selectors.EVENT_READ, link)

    def read(self, link: Link) -> None:
        """Act on what a connection says."""
        try:
            messages = link.receive()
        except Gone as gone:
            self.drop(link, str(gone))
            return
        for message in messages:
            if link in self.new:
                self.welcome(link, self.new.pop(link), message)
                continue
            rank = self.rank_of(link)
            if rank and message.get("stop") and self.child and self.asked_by is None:
                self.asked_by = self.nodes[rank]

    def rank_of(self, link: Link) -> int | None:
        """Which rank a connection belongs to."""
        return next((rank for rank, one in self.links.items() if one is link), None)

    def welcome(self, link: Link, node: Node, message: dict[str, Any]) -> None:
        """Take a rank in, or say why not; it tries again."""
        rank = self.nodes.index(node)
        if message != {**self.hello, "rank": rank}:
            self.turned_away[rank] = "it was deployed with other settings; deploy all hosts of the engine together"
            link.send({"wait": f"{self.head.host} was deployed with other settings"})
            self.forget(link)
            return
        self.turned_away.pop(rank, None)
        before = self.links.get(rank)
        if before:
            self.drop(before, "it was started anew")
            if self.code is not None:
                return
        self.links[rank] = link

    def forget(self, link: Link) -> None:
        """Close a connection."""
        self.selector.unregister(link.socket)
        link.close()

    def drop(self, link: Link, why: str) -> None:
        """Close a connection; while the engine runs, that is its end."""
        rank = self.rank_of(link)
        self.new.pop(link, None)
        self.forget(link)
        if rank is None:
            return
        del self.links[rank]
        if self.child:
            self.end(f"{self.nodes[rank]} is gone ({why}), so the engine is ended here too")

    def judge(self) -> None:
        for link in [*self.new, *self.links.values()]:
            link.beat()
        for link in [one for one in self.new if time.monotonic() - one.begun > HELLO_SECONDS]:
            self.drop(link, "it did not say who it is")
        for link in [one for one in self.links.values() if one.silence() > self.limit]:
            self.drop(link, f"silent for {self.limit:.0f} s")
        if self.code is not None:
            return
        if self.child is None:
            self.gather()
        elif (self.stopping or self.asked_by) and not self.terminated:
            # vLLM finishes its requests first, for which it needs the others
            self.terminated = True
            self.say("stopping" if self.stopping else f"stopping, as {self.asked_by} is being stopped")
            self.child.terminate()

    def gather(self) -> None:
        """Start when all ranks are there."""
        if self.stopping:
            self.end("stopped while it waited", 0)
            return
        missing = [rank for rank in range(1, len(self.nodes)) if rank not in self.links]
        if missing:
            if self.listener:
                self.say(f"waiting for {', '.join(self.missing_words(rank) for rank in missing)}")
            return
        for link in self.links.values():
            link.send({"go": True})
        self.start()

    def missing_words(self, rank: int) -> str:
        """Name a rank that is missing, and why if that is known."""
        why = self.turned_away.get(rank)
        return f"{self.nodes[rank]}{f': {why}' if why else ''}"


class Follower(Member):
    """Any other rank: connects to the head."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.link: Link | None = None
        self.next_try = 0.0
        self.asked = False

    def look(self) -> None:
        if self.link is None and (time.monotonic() < self.next_try or not self.connect()):
            time.sleep(TICK)
            return
        assert self.link is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.link.socket, selectors.EVENT_READ)
            if not selector.select(TICK):
                return
        try:
            for message in self.link.receive():
                self.take(message)
        except Gone as gone:
            self.lost(str(gone))

    def connect(self) -> bool:
        """Connect from the address that the head knows."""
        self.next_try = time.monotonic() + RETRY_SECONDS
        try:
            connection = socket.create_connection(
                (self.head.address, self.port), CONNECT_SECONDS, source_address=(self.own.address, 0)
            )
        except OSError as error:
            self.say(f"waiting for {self.head}: {error.strerror or error}")
            return False
        self.link = Link(connection)
        self.link.send(self.hello)
        return True

    def take(self, message: dict[str, Any]) -> None:
        """Act on what the head says."""
        if message.get("go") and self.child is None and not self.stopping:
            self.start()
        elif isinstance(message.get("wait"), str):
            self.say(f"waiting for {self.head}: {message['wait']}")

    def lost(self, why: str) -> None:
        """The head is gone: so is the engine; without one, try again."""
        if self.link:
            self.link.close()
            self.link = None
        if self.stopping:
            self.end("stopped", 0)
        elif self.child:
            self.end(f"{self.head} is gone ({why}), so the engine is ended here too")

    def judge(self) -> None:
        if self.link is None:
            if self.stopping and self.code is None:
                self.end("stopped while it waited", 0)
            return
        self.link.beat()
        if self.link.silence() > self.limit:
            self.lost(f"silent for {self.limit:.0f} s")
        elif self.stopping and self.child is None:
            self.end("stopped while it waited", 0)
        elif self.stopping and not self.asked:
            # its requests need this rank until they are finished
            self.asked = True
            self.link.send({"stop": True})
            self.say(f"stopping, once {self.head} has")
        elif self.child is None and not self.shown.startswith("waiting"):
            self.say(f"waiting for the other ranks, with {self.head}")


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Starts a command on several hosts together, and ends it together.")
    parser.add_argument("--name", required=True, help="name of the instance")
    parser.add_argument("--rank", type=int, required=True, help="place of this host among the nodes")
    parser.add_argument("--node", action="append", required=True, metavar="HOST=ADDRESS", help="each host, head first")
    parser.add_argument("--port", type=int, required=True, help="TCP port that the head listens on")
    parser.add_argument("--agreement", required=True, help="what has to be equal on all hosts")
    parser.add_argument("--silence", type=float, default=15, help="seconds after which a silent rank counts as gone")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def main() -> int:
    """Run; returns the exit status of the engine."""
    found = options(sys.argv[1:])
    return (Head(found) if found.rank == 0 else Follower(found)).run()


if __name__ == "__main__":
    sys.exit(main())
