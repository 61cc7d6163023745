# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which snapshots of hub models a host needs, and whether they fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GIB = 1024**3
# What a file system wants free beside the files: metadata, caches of kernels, logs.
SPARE_BYTES = GIB


def snapshots(
    instances: Sequence[Mapping[str, Any]], files: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return ``model``, ``revision``, ``files``, ``instances`` of each snapshot, one for all instances that share it.

    ``instances`` are layouts, ``files`` maps an instance's name to the files of its model; where it has none, ``files``
    of the snapshot is None.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for layout in instances:
        if layout["origin"] != "hub":
            continue
        known = found.setdefault(
            (layout["model"], layout["revision"]),
            {"model": layout["model"], "revision": layout["revision"], "files": None, "instances": []},
        )
        known["files"] = known["files"] or list(files.get(layout["name"]) or ()) or None
        known["instances"].append(layout["name"])
    return list(found.values())


def problems(wanted: Sequence[Mapping[str, Any]], cache: str) -> list[str]:
    """Return a sentence for each thing that stands against the downloads.

    Each of ``wanted`` has ``model``, ``missing_bytes``, ``free_bytes`` and ``problems`` of its own.
    """
    own = [problem for one in wanted for problem in one.get("problems") or ()]
    return [*dict.fromkeys(own), *disk_problems(wanted, cache)]


def disk_problems(wanted: Sequence[Mapping[str, Any]], cache: str) -> list[str]:
    """Return a sentence when the snapshots that are not there do not fit.

    Each of ``wanted`` has ``model``, ``missing_bytes`` and ``free_bytes`` of the cache's file system.
    """
    needed = sum(one["missing_bytes"] for one in wanted)
    if not needed:
        return []
    free = min(one["free_bytes"] for one in wanted)
    if needed + SPARE_BYTES <= free:
        return []
    names = ", ".join(
        f"{one['model']} ({one['missing_bytes'] / GIB:.1f} GiB)" for one in wanted if one["missing_bytes"]
    )
    return [
        f"What is still to be downloaded of {names} and {SPARE_BYTES / GIB:.0f} GiB to spare do not fit: {cache} has "
        f"{free / GIB:.1f} GiB free. Free some (model_prune removes models that no instance uses), or name a folder on "
        "a larger disk in model_hub_cache."
    ]
