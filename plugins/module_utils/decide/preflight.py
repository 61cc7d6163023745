# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what on a host stands in the way of a deployment, before the first change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import VERSION
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers, release_of, rocm_release_of


def engine_problems(
    host: Mapping[str, Any],
    root: str,
    releases: Mapping[str, str],
    python: str,
    disk_mib: int,
    missing_packages: Sequence[str] = (),
    variant: str = "cuda",
    left_mib: int = 0,
) -> list[str]:
    """Return a sentence for each reason why vLLM releases cannot be installed.

    ``host`` is what host_info returned for the path ``root`` (folder of all releases), for the marks in ``releases`` (a
    mapping from version to the file that marks it as whole) and for the interpreter ``python``. One release takes
    ``disk_mib``, of which ``left_mib`` are there from an installation that was cut off, and ``variant`` is the build
    (cuda, rocm, cpu). ``missing_packages`` are packages of the distribution that are not there and cannot be installed.
    A release that is there needs nothing more.
    """
    found = [
        f"The vLLM version {version!r} is not a version. Write one such as '0.33.0', in quotes, in engine_version."
        for version in releases
        if not VERSION.fullmatch(version)
    ]
    wanted = [version for version, mark in releases.items() if not host["paths"].get(mark, {}).get("exists")]
    if found or not wanted:
        return found
    found.extend(_python_problems(host["python"], python, wanted, variant))
    found.extend(_lacking_problems(host["python"], python))
    free, needed = host["paths"][root]["free_mib"], max(0, disk_mib * len(wanted) - left_mib)
    if free < needed:
        what = "The vLLM release takes" if len(wanted) == 1 else f"The vLLM releases {', '.join(wanted)} take"
        found.append(
            f"{what} about {needed} MiB of disk space, and {root} has {free} MiB free. "
            "Free some, or name a folder on a larger disk in engine_root."
        )
    if missing_packages:
        found.append(
            f"vLLM needs packages of the distribution that are not installed: {', '.join(missing_packages)}. Install "
            "them from a mirror or with the image of the host; engine_offline keeps this role from asking for them."
        )
    return found


def python_packages(python: str, os_family: str) -> list[str]:
    """Packages of the distribution with an interpreter's virtual environments and headers; none for other interpreters.

    ``os_family`` is Ansible's, Debian or RedHat.
    """
    match = re.fullmatch(r"/usr/bin/(python3(?:\.\d+)?)", python)
    if not match:
        return []
    name = match[1]
    return {"Debian": [f"{name}-venv", f"{name}-dev"], "RedHat": [name, f"{name}-devel"]}.get(os_family, [])


def _lacking_problems(found: Mapping[str, Any], python: str) -> list[str]:
    """What an interpreter lacks that no package of the distribution has."""
    words = {
        "venv": "cannot make virtual environments (it has no module ensurepip)",
        "headers": "has no header Python.h",
    }
    lacking = [words[one] for one in found.get("lacking") or ()]
    if not lacking or python_packages(python, "Debian"):
        return []
    return [
        f"{python} {' and '.join(lacking)}, and is not of the distribution, so no package can be installed for it. "
        "Install it with its development files, or name another one in engine_python."
    ]


def _python_problems(found: Mapping[str, Any], python: str, versions: Sequence[str], variant: str) -> list[str]:
    for version in versions:
        release = rocm_release_of(version) if variant == "rocm" else release_of(version)
        if release is None:
            continue
        least, below = release.python
        # Wheels for ROCm are of one Python.
        wanted = f"Python {least}" if variant == "rocm" else f"a Python from {least} to below {below}"
        if found["problem"]:
            return [f"vLLM cannot be installed: {found['problem']}. Install {wanted} and name it in engine_python."]
        if not numbers(least) <= numbers(found["version"])[:2] < numbers(below):
            return [
                f"vLLM {version} needs {wanted}, and {python} is {found['version']}. Name another one in engine_python."
            ]
    return []


def port_problems(
    instances: Sequence[Mapping[str, Any]], listeners: Sequence[Mapping[str, Any]], leaving: Sequence[str] = ()
) -> list[str]:
    """Return a sentence for each port that somebody else than the instance itself listens on.

    ``instances`` are layouts, ``listeners`` is what host_info returned, ``leaving`` the names of instances that are
    removed before others start.
    """
    found = []
    gone = {f"vllm@{name}.service" for name in leaving}
    for instance in instances:
        for listener in listeners:
            if listener["port"] not in instance["ports"] or listener["unit"] in {instance["unit"], *gone}:
                continue
            holder = listener["process"] or "a process that cannot be seen"
            details = ", ".join(
                str(part) for part in (f"pid {listener['pid']}" if listener["pid"] else None, listener["unit"]) if part
            )
            found.append(
                f"{instance['name']}: port {listener['port']} is already in use by {holder}"
                f"{f' ({details})' if details else ''}. Give the instance another "
                f"'{'port' if listener['port'] == instance['port'] else 'master_port'}', or stop what holds it."
            )
    return found
