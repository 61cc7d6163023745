"""One node as a running machine: boot it, find its processes, stop it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.nodes.errors import NodeError
from tools.nodes.host import booted_by_systemd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BOOT_S = 120
_POWEROFF_S = 20
_KILL_S = 10
_CGROUP_PARENT = "gpufleet"

# What systemd does for nspawn where it runs the machine.
# nspawn wants /run/systemd for itself: it gets one that nobody else sees. "$1" lists the control groups
# it is to run in: nodes that share one would find, and kill, each other's services. With --keep-unit it
# ends with status 133 to be started again when the node reboots (seen with 252 and in its nspawn.c).
_WITHOUT_SYSTEMD = """
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd || exit
groups=$1
shift
status=133
while [ "$status" -eq 133 ]; do
  sh -c 'for group in $0; do echo $$ > "$group/cgroup.procs" || exit; done; exec "$@"' "$groups" "$@"
  status=$?
done
exit "$status"
"""


@dataclass(frozen=True)
class Bind:
    """A folder of this machine inside a node."""

    source: str
    target: str
    read_only: bool = False

    @property
    def argument(self) -> str:
        """The nspawn option; colons and backslashes in paths are escaped as systemd-nspawn(1) says."""
        source, target = (path.replace("\\", "\\\\").replace(":", "\\:") for path in (self.source, self.target))
        return f"--bind{'-ro' if self.read_only else ''}={source}:{target}"


def parse_bind(text: str) -> Bind:
    """Parse SRC:DST or SRC:DST:ro. Raises NodeError for anything else and for a source that is not there."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] != "ro"):
        raise NodeError(f"--bind {text!r} is not SRC:DST or SRC:DST:ro.")
    if not all(part.startswith("/") for part in parts[:2]):
        raise NodeError(f"--bind {text!r}: write both paths from the root, beginning with a slash.")
    if not Path(parts[0]).exists():
        raise NodeError(f"--bind {text!r}: {parts[0]} does not exist on this machine.")
    return Bind(parts[0], parts[1], len(parts) == 3)


@dataclass(frozen=True)
class Machine:
    """How nspawn knows a node, and where its files are."""

    machine: str
    hostname: str
    root: Path
    log: Path
    bridge: str
    suite: str
    binds: tuple[Bind, ...]


def nspawn_argv(machine: Machine, systemd: bool) -> list[str]:
    """The nspawn command line; `systemd` is whether this machine is run by systemd."""
    return [
        "systemd-nspawn",
        "--quiet",
        f"--machine={machine.machine}",
        f"--directory={machine.root}",
        f"--hostname={machine.hostname}",
        "--settings=no",
        "--boot",
        "--register=no",
        # With systemd, nspawn asks for a scope of its own, so that the node outlives this session.
        *([] if systemd else ["--keep-unit"]),
        f"--network-bridge={machine.bridge}",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        *(bind.argument for bind in machine.binds),
    ]


def control_groups(own: str, mounts: str, name: str) -> list[str]:
    """Folders of a node's own control groups, in the hierarchies that systemd tracks services by.

    `own` is /proc/self/cgroup, `mounts` /proc/self/mountinfo. Those hierarchies are name=systemd and the
    unified one; the groups lie below the one this process is in.
    """
    folders = []
    for line in own.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers not in ("", "name=systemd"):
            continue
        for mount in mounts.splitlines():
            before, _separator, after = mount.partition(" - ")
            kind, _source, options = after.split(" ", 2)
            if (kind == "cgroup2" and not controllers) or (controllers and controllers in options.split(",")):
                folders.append(f"{before.split()[4]}{path.rstrip('/')}/{_CGROUP_PARENT}/{name}")
                break
    return folders


def _own_control_groups(name: str) -> list[str]:
    """`control_groups` of this process."""
    return control_groups(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text(), name)


def boot(machine: Machine) -> subprocess.Popen[bytes]:
    """Start the node in a session of its own. Raises NodeError when its control groups cannot be made."""
    systemd = booted_by_systemd()
    argv = nspawn_argv(machine, systemd)
    if not systemd:
        groups = _own_control_groups(machine.machine)
        try:
            for group in groups:
                Path(group).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NodeError(
                f"A control group for node {machine.hostname} cannot be made ({error}). In a container, run "
                "it with --privileged and a writable /sys/fs/cgroup, or use a virtual machine."
            ) from error
        argv = ["unshare", "--mount", "sh", "-c", _WITHOUT_SYSTEMD, "sh", " ".join(groups), *argv]
    environment = {
        **os.environ,
        # /tmp on disk: a tenth of the memory is too little for unpacking an engine's wheels.
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    }
    if machine.suite != "bookworm":
        # From Debian 13 on, systemd boots only with the unified hierarchy.
        environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    with machine.log.open("wb") as log:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def nspawn_pids(name: str) -> list[int]:
    """Processes started with exactly this --machine: nspawn, and the shell that starts it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and f"--machine={name}" in _argv(int(folder.name)):
            found.append(int(folder.name))
    return found


def _argv(pid: int) -> list[str]:
    """A process's arguments, none for one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def _with_descendants(pids: Iterable[int]) -> list[int]:
    """The processes and all that they started, parents first."""
    found = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def stop(machine: Machine) -> bool:
    """Power the node off, by force after 20 s, and wait until none of its processes is left.

    Returns whether there was anything to stop. Raises NodeError when a process survives SIGKILL.
    """
    # nspawn forwards SIGTERM to the node's init as a request to power off (systemd-nspawn(1), --kill-signal).
    leaders = [handle for pid in nspawn_pids(machine.machine) if (handle := _open(pid, machine.machine)) is not None]
    try:
        members = _with_descendants(nspawn_pids(machine.machine))
        handles = [handle for pid in members if (handle := _open(pid, None)) is not None]
        try:
            _signal(leaders, signal.SIGTERM)
            if not _wait_gone(handles, _POWEROFF_S):
                _signal([*leaders, *handles], signal.SIGKILL)
                if not _wait_gone(handles, _KILL_S):
                    pids = " ".join(map(str, members))
                    raise NodeError(f"Processes of node {machine.hostname} survive SIGKILL: {pids}.")
        finally:
            _close(handles)
    finally:
        _close(leaders)
    _remove_control_groups(machine.machine)
    return bool(leaders)


def _open(pid: int, name: str | None) -> int | None:
    """A handle on a process that stays its own when the pid is used again; None when it is gone.

    With a machine `name`, also None when the process is not of that machine.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if name is not None and f"--machine={name}" not in _argv(pid):
        os.close(handle)
        return None
    return handle


def _signal(handles: Iterable[int], number: signal.Signals) -> None:
    """Send a signal through process handles."""
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _close(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)


def _wait_gone(handles: Sequence[int], seconds: float) -> bool:
    """Wait until all processes have ended; whether they have."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all(_ended(handle) for handle in handles):
            return True
        time.sleep(0.05)
    return False


def _ended(handle: int) -> bool:
    """Whether the process has ended. Signal 0 would still reach a zombie; the handle turns readable."""
    return bool(select.select([handle], [], [], 0)[0])


def _remove_control_groups(name: str) -> None:
    """Remove the node's empty control groups, and the parent when it was the last."""
    for group in _own_control_groups(name):
        top = Path(group)
        if top.is_dir():
            for folder, _subfolders, _files in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        with contextlib.suppress(OSError):
            top.parent.rmdir()


def wait_for_ssh(machine: Machine, address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the node listens on port 22.

    Raises NodeError with the last lines of its console when nspawn ends before, or after 120 s.
    """
    deadline = time.monotonic() + _BOOT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NodeError(
                f"Node {machine.hostname} ended while booting (nspawn's exit status {process.returncode}).\n"
                f"{console_tail(machine)}"
            )
        with contextlib.suppress(OSError), socket.create_connection((address, 22), timeout=1):
            return
        time.sleep(0.2)
    raise NodeError(
        f"Node {machine.hostname} did not listen on {address}:22 within {_BOOT_S} s.\n{console_tail(machine)}"
    )


def console_tail(machine: Machine) -> str:
    """The last lines of the node's console and where all of it is."""
    text = machine.log.read_text(errors="replace") if machine.log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()][-8:]
    return f"Last lines of {machine.log}:\n  " + "\n  ".join(lines or ["(empty)"])
