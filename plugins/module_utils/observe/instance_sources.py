# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is asked of a host about its instances, and the names of the files that a recording keeps it in.

Like observe.sources for the GPUs: a live host and a recorded folder give the same texts by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import Command

KERNEL = "kernel.txt"
KERNEL_RING = "dmesg.txt"
FABRIC = "fabricmanager.txt"
UNITS = "units.txt"
CLOCK = "timedatectl.txt"
# What is read from files and asked of servers: one JSON object, see instances.describe().
INSTANCES = "instances.json"
# The name is a part of a file's name, also where a stranger answers it
JOURNAL = re.compile(r"journal-([A-Za-z0-9][A-Za-z0-9._-]{0,62})\.txt")
# Per instance; a start with its traceback takes about 300.
JOURNAL_LINES = 3000
KERNEL_LINES = 2000
FORMAT = ("--output=short-unix", "--no-hostname", "--no-pager", "--quiet", "--all")
UNIT_PROPERTIES = (
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
    "UnitFileState",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "MemoryMax",
    "ControlGroup",
)
# Printed for every request and every ten seconds: they would fill the lines that are read.
NOISE = re.compile(r'"(?:GET|POST|HEAD|OPTIONS) \S+ HTTP/[\d.]+" (?:[23]\d\d|401|404)\b|Avg prompt throughput')


def journal_name(name: str) -> str:
    """Name of the file with the journal of an instance."""
    return f"journal-{name}.txt"


def commands(names: Sequence[str]) -> dict[str, Command]:
    """The programs to run for instances, by the name of their file."""
    units = [f"vllm@{name}.service" for name in names]
    asked: dict[str, Command] = {
        KERNEL: ("journalctl", "--dmesg", "--lines", str(KERNEL_LINES), *FORMAT),
        KERNEL_RING: ("dmesg",),
        FABRIC: ("journalctl", "--boot", "--unit", "nvidia-fabricmanager.service", "--lines", "100", *FORMAT),
        CLOCK: ("timedatectl", "show", "--property=NTPSynchronized,NTP"),
    }
    if units:
        asked[UNITS] = ("systemctl", "show", f"--property={','.join(UNIT_PROPERTIES)}", "--", *units)
    for name, unit in zip(names, units):
        asked[journal_name(name)] = (
            "journalctl",
            "--boot",
            "--unit",
            unit,
            "--lines",
            str(JOURNAL_LINES),
            *FORMAT,
        )
    return asked


def quiet(text: str) -> str:
    """A journal without the lines of requests that went well."""
    return "\n".join(line for line in text.splitlines() if not NOISE.search(line)) + "\n"
