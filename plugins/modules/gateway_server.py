#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module gateway_server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_server
short_description: Takes a server out of a gateway's backend, and puts it back
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Speaks with HAProxy on the host that it runs on, through the socket of its master process, so that requests which
    a worker from before a reload still carries are seen too.
  - The state is kept in a file as well, from which HAProxy takes it up again when it starts.
options:
  backend:
    description: Name of the backend, which is the name of the model.
    type: str
    required: true
  server:
    description: Name of the server in the backend, which is the inventory name of its host.
    type: str
    required: true
  state:
    description:
      - V(drain) lets the server finish what it has and gives it nothing new. V(drained) waits until it has finished.
      - V(ready) gives it requests again, as soon as its check succeeds. V(up) waits until it does.
      - A server that HAProxy does not know gets no requests, so there is nothing to drain; V(ready) and V(up) fail.
    type: str
    choices: [drain, drained, ready, up]
    required: true
  timeout:
    description: Seconds to wait, with V(drained) and V(up).
    type: int
    default: 600
  force:
    description: Whether V(drained) ends the requests that are still running after O(timeout), in place of failing.
    type: bool
    default: false
  allow_last:
    description: Whether the last server of the backend that is up may be drained.
    type: bool
    default: false
  socket:
    description: Socket of HAProxy's master process.
    type: path
    default: /run/haproxy-master.sock
  state_file:
    description: File from which HAProxy takes up the state of servers when it starts.
    type: path
    default: /var/lib/haproxy/vllm-servers
attributes:
  check_mode:
    description: Says what it would set, and waits for nothing.
    support: full
  diff_mode:
    description: Shows whether the server gets new requests.
    support: full
  idempotent:
    description: A server that is drained is not drained again.
    support: full
"""

EXAMPLES = r"""
- name: Give the server nothing new
  gpufleet.vllm.gateway_server:
    backend: qwen3-32b
    server: gpu01.example.com
    state: drain

- name: Wait until it has finished what it has
  gpufleet.vllm.gateway_server:
    backend: qwen3-32b
    server: gpu01.example.com
    state: drained
    timeout: 900
"""

RETURN = r"""
known:
  description: Whether HAProxy has this server.
  returned: success
  type: bool
requests:
  description: Requests that the server has, or has waiting for it.
  returned: success
  type: int
cut:
  description: Requests that were ended because of O(force).
  returned: success
  type: int
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.haproxy import Master
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.draining import refusal
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import haproxy

POLL_SECONDS = 0.5


class Unknown(GpufleetError):
    """HAProxy does not have the server."""


class Task:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.master = Master(module.params["socket"])
        self.backend: str = module.params["backend"]
        self.name: str = module.params["server"]

    def server(self) -> haproxy.Server:
        """How the server is now."""
        for one in self.servers():
            if one.name == self.name:
                return one
        raise Unknown(
            f"HAProxy has no server {self.name} in the backend {self.backend}; run the playbook gateway with an "
            "inventory in which this host has a model of that name."
        )

    def servers(self) -> list[haproxy.Server]:
        """All servers of the backend."""
        return [one for one in self.master.servers() if one.backend == self.backend]

    def drain(self) -> dict[str, Any]:
        """Give it nothing new. Between the look and the order nobody else may take out another one."""
        with self.alone():
            found = self.server()
            problem = refusal(self.servers(), self.name, self.module.params["allow_last"])
            if problem and not found.draining:
                raise GpufleetError(problem)
            return self.set(found, "drain", not found.draining)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs of this module waiting. The lock goes with the process that has it."""
        if self.module.check_mode:
            yield
            return
        # of its own, since who may read a folder may lock it
        path = Path(f"{self.module.params['state_file']}.lock")
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def ready(self) -> dict[str, Any]:
        """Give it requests."""
        found = self.server()
        return self.set(found, "ready", found.draining or bool(found.admin & haproxy.FORCED_MAINTENANCE))

    def set(self, found: haproxy.Server, state: str, changed: bool) -> dict[str, Any]:
        """Bring an administrative state about, and keep it for the next start."""
        if changed and not self.module.check_mode:
            self.master.set(f"set server {self.backend}/{self.name} state {state}")
            self.master.save(Path(self.module.params["state_file"]))
        before = "drain" if found.draining else "ready" if not found.admin else "maintenance"
        where = f"{self.backend}/{self.name}"
        diff = {"before": f"{where}: {before}\n", "after": f"{where}: {state}\n"} if changed else {}
        return {"changed": changed, "diff": diff}

    def drained(self) -> dict[str, Any]:
        """Wait until it has finished what it has."""
        self.server()
        if self.wait(lambda: self.master.busy(self.backend, self.name) == 0):
            return {"changed": False}
        left, seconds = self.master.busy(self.backend, self.name), self.module.params["timeout"]
        if not self.module.params["force"]:
            raise GpufleetError(
                f"{self.name} still has {left} requests of {self.backend} after {seconds} s. It stays drained. Wait "
                "longer with gateway_drain_timeout, or end them with gateway_drain_force."
            )
        self.master.cut(self.backend, self.name)
        return {"changed": True, "cut": left}

    def up(self) -> dict[str, Any]:
        """Wait until its check succeeds."""
        self.server()
        if not self.wait(lambda: self.server().up):
            said = haproxy.last_check(self.master.current("show stat"), self.backend, self.name)
            raise GpufleetError(
                f"{self.name} is not up in {self.backend} after {self.module.params['timeout']} s. HAProxy says: "
                f"{said}. The check asks /health and /v1/models for this model; see journalctl -u "
                f"vllm@{self.backend} on {self.name}, and whether the gateway can reach it."
            )
        return {"changed": False}

    def wait(self, done: Any) -> bool:
        """Poll until something is so or the time is over; in check mode it is taken to be so."""
        deadline = time.monotonic() + self.module.params["timeout"]
        while not self.module.check_mode and not done():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "backend": {"type": "str", "required": True},
            "server": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drain", "drained", "ready", "up"], "required": True},
            "timeout": {"type": "int", "default": 600},
            "force": {"type": "bool", "default": False},
            "allow_last": {"type": "bool", "default": False},
            "socket": {"type": "path", "default": "/run/haproxy-master.sock"},
            "state_file": {"type": "path", "default": "/var/lib/haproxy/vllm-servers"},
        },
        supports_check_mode=True,
    )
    task = Task(module)
    state = module.params["state"]
    steps = {"drain": task.drain, "drained": task.drained, "ready": task.ready, "up": task.up}
    try:
        result: dict[str, Any] = {"known": True, "cut": 0, **steps[state]()}
        result["requests"] = task.master.busy(task.backend, task.name)
    except Unknown as error:
        if state in ("ready", "up"):
            module.fail_json(msg=str(error))
        result = {"changed": False, "known": False, "cut": 0, "requests": 0}
    except (GpufleetError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
