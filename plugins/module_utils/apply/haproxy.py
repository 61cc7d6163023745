# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Talk to HAProxy's master process, and through it to its workers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import haproxy

SECONDS = 10


@dataclass(frozen=True)
class Master:
    """The master's socket (option -S of HAProxy, which Debian's unit gives it)."""

    path: str

    def ask(self, command: str) -> str:
        """Send one command and return the answer."""
        said = b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(SECONDS)
                connection.connect(self.path)
                connection.sendall(f"{command}\n".encode())
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    said += part
        except OSError as error:
            raise GpufleetError(
                f"HAProxy does not answer at {self.path} ({error}). Look at 'systemctl status haproxy' on this "
                "gateway, and run the playbook gateway."
            ) from error
        return said.decode("utf-8", "replace")

    def workers(self) -> list[int]:
        """Process ids of the workers; the first takes connections, the others finish what they have."""
        return haproxy.workers(self.ask("show proc"))

    def current(self, command: str) -> str:
        """Ask the worker that takes connections."""
        return self.ask(f"@!{self.workers()[0]} {command}")

    def variable(self, name: str) -> str | None:
        """Return an environment variable of the worker that takes connections."""
        said = self.current(f"show env {name}").strip()
        return said.partition("=")[2] if said.startswith(f"{name}=") else None

    def set(self, command: str) -> None:
        """Give an order to all workers; raises what the one that takes connections objects.

        The others may get one more request on each connection that a client keeps.
        """
        pids = self.workers()
        said = [self.ask(f"@!{pid} {command}").strip() for pid in pids]
        if said[0]:
            raise GpufleetError(f"HAProxy refuses {command!r}: {said[0]}")

    def servers(self) -> list[haproxy.Server]:
        """List the servers of all backends."""
        return haproxy.servers(self.current("show servers state"))

    def busy(self, backend: str, server: str) -> int:
        """Count the requests at a server, also those that workers from before a reload still carry."""
        # a worker that ends meanwhile has none
        return sum(haproxy.busy(self.ask(f"@!{pid} show stat"), backend, server) for pid in self.workers())

    def cut(self, backend: str, server: str) -> None:
        """End the requests at a server, of all workers."""
        for pid in self.workers():
            self.ask(f"@!{pid} shutdown sessions server {backend}/{server}")

    def save(self, path: Path) -> None:
        """Write the state of all servers to where HAProxy reads it when it starts."""
        text = self.current("show servers state").lstrip("\n")
        if not text.startswith("1\n"):
            raise GpufleetError(f"HAProxy's state is of a form that is not known: {text[:100]!r}.")
        write_atomically(path, text, 0o600)
