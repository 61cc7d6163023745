# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what on a host stands in the way of a deployment, before the first change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def engine_problems(
    host: Mapping[str, Any], root: str, release: str, python: str, python_range: Sequence[str], disk_mib: int
) -> list[str]:
    """Return a sentence for each reason why a vLLM release cannot be installed.

    ``host`` is what host_info returned for the paths ``root`` (folder of all releases) and ``release`` (the mark of a
    whole one) and for the interpreter ``python``; ``python_range`` is the least version and the first that is too new.
    A release that is there needs nothing more.
    """
    if host["paths"][release]["exists"]:
        return []
    least, below = python_range
    wanted = f"a Python from {least} to below {below}"
    found = []
    problem, version = host["python"]["problem"], host["python"]["version"]
    if problem:
        found.append(f"vLLM cannot be installed: {problem}. Install {wanted} and name it in engine_python.")
    elif not _version(least) <= _version(version) < _version(below):
        found.append(f"vLLM needs {wanted}, and {python} is {version}. Name another one in engine_python.")
    free = host["paths"][root]["free_mib"]
    if free < disk_mib:
        found.append(
            f"The vLLM release takes about {disk_mib} MiB of disk space, and {root} has {free} MiB free. "
            "Free some, or name a folder on a larger disk in engine_root."
        )
    return found


def port_problems(instances: Sequence[Mapping[str, Any]], listeners: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each port that somebody else than the instance itself listens on.

    ``instances`` are layouts, ``listeners`` is what host_info returned.
    """
    found = []
    for instance in instances:
        for listener in listeners:
            if listener["port"] != instance["port"] or listener["unit"] == instance["unit"]:
                continue
            holder = listener["process"] or "a process that cannot be seen"
            details = ", ".join(
                str(part) for part in (f"pid {listener['pid']}" if listener["pid"] else None, listener["unit"]) if part
            )
            found.append(
                f"{instance['name']}: port {instance['port']} is already in use by {holder}"
                f"{f' ({details})' if details else ''}. Give the instance another 'port', or stop what holds it."
            )
    return found
