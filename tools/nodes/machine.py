"""One node as a running machine: boot it, find its processes, stop it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tools.nodes.errors import NodeError
from tools.nodes.host import booted_by_systemd
from tools.nodes.shell import run

_BOOT_S = 120
_POWEROFF_S = 20
_KILL_S = 10
_CGROUP_PARENT = "gpufleet"

# What systemd does for nspawn where it runs the machine.
# nspawn wants /run/systemd for itself: it gets one that nobody else sees. "$1" lists the control groups
# it is to run in: nodes that share one would find, and kill, each other's services. "$2" is a machine-id
# to lend to a machine whose own is empty. With --keep-unit nspawn ends with status 133 to be started again
# when the node reboots (seen with 252 and in its nspawn.c).
_WITHOUT_SYSTEMD = """
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd || exit
if [ -n "$2" ] && [ -e /etc/machine-id ] && [ ! -s /etc/machine-id ]; then mount --bind "$2" /etc/machine-id || exit; fi
groups=$1
shift 2
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
    # systemd-nspawn and folders of its libraries, where this machine has none of its own.
    program: str = "systemd-nspawn"
    libraries: tuple[str, ...] = ()
    # A machine-id for nspawn where this machine has none; nspawn does not start without.
    identity: Path | None = None


def nspawn_argv(machine: Machine, systemd: bool) -> list[str]:
    """The nspawn command line; `systemd` is whether this machine is run by systemd.

    Without a bridge the node shares this machine's network.
    """
    return [
        machine.program,
        "--quiet",
        f"--machine={machine.machine}",
        f"--directory={machine.root}",
        f"--hostname={machine.hostname}",
        "--settings=no",
        "--boot",
        "--register=no",
        # With systemd, nspawn asks for a scope of its own for the node.
        *([] if systemd else ["--keep-unit"]),
        *([f"--network-bridge={machine.bridge}"] if machine.bridge else []),
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
    if systemd:
        # Out of the session's or the service's own group, so that nspawn does not end with it.
        scope = f"--unit={machine.machine}-nspawn.scope"
        argv = ["systemd-run", "--scope", "--quiet", "--collect", "--slice=machine", scope, *argv]
    else:
        groups = _own_control_groups(machine.machine)
        try:
            for group in groups:
                Path(group).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NodeError(
                f"A control group for node {machine.hostname} cannot be made ({error}). In a container, run "
                "it with --privileged and a writable /sys/fs/cgroup, or use a virtual machine."
            ) from error
        argv = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            _WITHOUT_SYSTEMD,
            "sh",
            " ".join(groups),
            str(machine.identity or ""),
            *argv,
        ]
    environment = {
        **os.environ,
        # /tmp on disk: a tenth of the memory is too little for unpacking an engine's wheels.
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    }
    if machine.suite != "bookworm":
        # From Debian 13 on, systemd boots only with the unified hierarchy.
        environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    if machine.libraries:
        environment["LD_LIBRARY_PATH"] = ":".join(machine.libraries)
    with machine.log.open("wb") as log:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def nspawn_pids(name: str) -> list[int]:
    """Processes started with exactly this --machine: nspawn, and the shell that starts it."""
    return [pid for pid in _pids() if _is_starter(pid, name)]


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _read(pid: int, file: str) -> str:
    """A file of /proc/PID, "" when the process is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace")
    return ""


def _is_starter(pid: int, name: str) -> bool:
    return f"--machine={name}" in _read(pid, "cmdline").split("\0")


def in_control_group(cgroup: str, name: str) -> bool:
    """Whether /proc/PID/cgroup says that a process is of the machine: in our group, or in nspawn's scope."""
    paths = (line.split(":", 2)[-1].split("/") for line in cgroup.splitlines())
    return any(name in path or f"{name}.scope" in path for path in paths)


def _is_member(pid: int, name: str) -> bool:
    """Whether a process is of the machine and has not ended: a zombie stays in its group."""
    ended = ") Z " in _read(pid, "stat")
    return not ended and (_is_starter(pid, name) or in_control_group(_read(pid, "cgroup"), name))


def _signal(name: str, number: signal.Signals, starters_only: bool = False) -> None:
    """Send a signal to the machine's processes, through handles that outlive a reuse of the pid."""
    for pid in _pids():
        if not _is_member(pid, name):
            continue
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if _is_starter(pid, name) or (not starters_only and _is_member(pid, name)):
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def members(name: str) -> list[int]:
    """The processes of a node, as this machine numbers them."""
    return [pid for pid in _pids() if _is_member(pid, name)]


def _wait_gone(name: str, seconds: float) -> bool:
    """Wait until no process of the machine is left; whether that came true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not members(name):
            return True
        time.sleep(0.1)
    return False


def stop(machine: Machine) -> None:
    """Power the node off, by force after 20 s, and wait until none of its processes is left.

    The processes are found by their control group as well: those of a node whose nspawn was killed live on.
    Raises NodeError when one survives SIGKILL.
    """
    name = machine.machine
    if nspawn_pids(name):
        # nspawn passes SIGTERM on to the node's init as a request to power off (--kill-signal).
        _signal(name, signal.SIGTERM, starters_only=True)
        _wait_gone(name, _POWEROFF_S)
    _signal(name, signal.SIGKILL)
    if not _wait_gone(name, _KILL_S):
        pids = " ".join(map(str, members(name)))
        raise NodeError(f"Processes of node {machine.hostname} survive SIGKILL: {pids}.")
    _remove_control_groups(name)


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
                f"{last_words(machine)}"
            )
        with contextlib.suppress(OSError), socket.create_connection((address, 22), timeout=1):
            return
        time.sleep(0.2)
    raise NodeError(
        f"Node {machine.hostname} did not listen on {address}:22 within {_BOOT_S} s.\n{last_words(machine)}"
    )


def last_words(machine: Machine) -> str:
    """The last lines of the node's console and of its journal, with where all of each is."""
    console = machine.log.read_text(errors="replace") if machine.log.exists() else ""
    journal = ["journalctl", f"--root={machine.root}", "--quiet", "--no-pager", "--output=short"]
    said = run([*journal, "--priority=warning"], check=False) if shutil.which("journalctl") else ""
    return "\n".join(
        [
            f"Last lines of {machine.log}:",
            *_last_lines(console),
            f"Last warnings of `{' '.join(journal[:2])}`:",
            *_last_lines(said),
        ]
    )


def _last_lines(text: str) -> list[str]:
    """The last eight lines that are not empty, indented."""
    lines = [f"  {line.strip()}" for line in text.splitlines() if line.strip()][-8:]
    return lines or ["  (none)"]
