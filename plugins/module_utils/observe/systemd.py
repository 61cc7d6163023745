# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what systemd and the kernel say of the units of this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "InvocationID",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "StatusText",
    "UnitFileState",
    "NeedDaemonReload",
    "ControlGroup",
)
# Written by the role serve into the environment of the service: what it was started from.
DIGEST = "GPUFLEET_DIGEST"
SECONDS = 30


def parse_show(text: str) -> dict[str, dict[str, str]]:
    """Read the output of ``systemctl show`` for several units: a mapping of properties by the unit's Id."""
    units = {}
    for block in text.split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if properties.get("Id"):
            units[properties["Id"]] = properties
    return units


def show(units: Sequence[str]) -> dict[str, dict[str, str]]:
    """Ask systemd for :data:`PROPERTIES` of units; raises :class:`GpufleetError` when it does not answer."""
    command = ["systemctl", "show", "--property", ",".join(PROPERTIES), "--", *units]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GpufleetError(
            f"systemctl did not answer ({error}); this collection needs a host run by systemd."
        ) from error
    if done.returncode != 0:
        raise GpufleetError(f"systemctl failed ({done.stderr.strip()}); this collection needs a host run by systemd.")
    return parse_show(done.stdout)


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.split("=", 1) for item in raw.decode(errors="surrogateescape").split("\0") if "=" in item)
    return {pair[0]: pair[1] for pair in pairs}


def instance_state(properties: Mapping[str, str]) -> dict[str, object]:
    """Put the properties of an instance's unit into the words of ``host_info``."""
    pid = int(properties.get("MainPID") or 0)
    return {
        "active_state": properties.get("ActiveState") or "inactive",
        "sub_state": properties.get("SubState") or "dead",
        "result": properties.get("Result") or "success",
        "main_pid": pid,
        "restarts": int(properties.get("NRestarts") or 0),
        "digest": environment_of(pid).get(DIGEST) if pid else None,
        "status": properties.get("StatusText") or None,
    }


def waits(state: Mapping[str, object]) -> bool:
    """Tell whether an instance waits for the other hosts of its engine (roles/serve/files/ranks.py)."""
    return state.get("active_state") == "active" and str(state.get("status") or "").startswith("waiting for")


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it, as far as they can be seen."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            # a process may end while it is looked at
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in path.read_text(encoding="ascii").split())
    return found


def process_of(properties: Mapping[str, str]) -> dict[str, object] | None:
    """Tell which process of a unit runs, or None: ``invocation`` (systemd's id of this start), ``pid``, ``digest``.

    ``started`` is the second of the machine's monotonic clock at which it began.
    """
    pid = int(properties.get("MainPID") or 0)
    if not pid:
        return None
    return {
        "invocation": properties.get("InvocationID") or None,
        "pid": pid,
        "started": int(properties.get("ExecMainStartTimestampMonotonic") or 0) / 1e6,
        "digest": environment_of(pid).get(DIGEST),
    }


def unit_of(pid: int) -> str | None:
    """Return the systemd unit that a process belongs to, or None."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        last = line.rsplit("/", 1)[-1]
        if last.endswith((".service", ".socket")):
            return last
    return None


def pids_of(unit: Mapping[str, str]) -> list[int]:
    """The processes of a unit, by its control group."""
    group = unit.get("ControlGroup")
    if not group:
        return []
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
        folder = Path(root + group)
        if (folder / "cgroup.procs").exists():
            texts = [text_of(path) or "" for path in folder.rglob("cgroup.procs")]
            return sorted({int(pid) for text in texts for pid in text.split() if is_whole(pid)})
    return []
