# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the packages of a virtual environment say that they installed, and what of it is there.

The format of RECORD is that of "Recording installed projects" in the Python Packaging User Guide.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

RECORD = "RECORD"
WHEEL = "WHEEL"
# Written by uv and pip when all files of a package are there; wheels hold none.
INSTALLER = "INSTALLER"


@dataclass
class Packages:
    """Of an environment: what is installed, files of several packages, and packages whose files are not all there."""

    names: list[str] = field(default_factory=list)
    files: int = 0
    shared: dict[str, list[str]] = field(default_factory=dict)
    # By name, the folder that stands for a package that was written by half.
    incomplete: dict[str, Path] = field(default_factory=dict)


def site_packages(release: Path) -> Path | None:
    """The folder of an environment's packages; None where there is none."""
    return next(iter(sorted(release.glob("lib/python3.*/site-packages"))), None)


def name_of(folder: Path) -> str:
    """Name of a package, by the folder that stands for it: ``cuda_python-13.4.4.dist-info`` is cuda-python."""
    return folder.name.rpartition(".")[0].rpartition("-")[0].lower().replace("_", "-").replace(".", "-")


def version_of(folder: Path) -> str:
    """Version of a package, by the folder that stands for it."""
    return folder.name.rpartition(".")[0].rpartition("-")[2]


def recorded(folder: Path) -> Iterator[tuple[str, int | None]]:
    """The files that a package's RECORD names, each with its size in bytes where that is written."""
    with (folder / RECORD).open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            if row:
                yield row[0], int(row[2]) if len(row) > 2 and is_whole(row[2]) else None


def is_there(path: Path, size: int | None) -> bool:
    """Whether a file exists and was not cut off.

    It may be longer: tools that repair wheels (auditwheel) leave the sizes from before (pynvvideocodec 2.0.4).
    """
    try:
        found = path.stat()
    except OSError:
        return False
    return size is None or found.st_size >= size


def packages(folder: Path) -> Packages:
    """Read the environment whose packages lie in ``folder``.

    A folder without WHEEL stands for a name only, and is no package that was installed.
    """
    found = Packages()
    owners: dict[str, list[tuple[str, int | None, Path]]] = {}
    for one in sorted(folder.glob("*.dist-info")):
        name = name_of(one)
        if not (one / RECORD).exists() or not (one / INSTALLER).exists():
            if (one / WHEEL).exists():
                found.incomplete[name] = one
            continue
        found.names.append(name)
        for file, size in recorded(one):
            found.files += 1
            owners.setdefault(os.path.normpath(file), []).append((name, size, one))
    found.shared = {file: [name for name, _size, _one in of] for file, of in sorted(owners.items()) if len(of) > 1}
    for file, of in owners.items():
        name, size, one = of[0]
        # of several packages, the one that wrote it last decides its size
        if name not in found.incomplete and not is_there(folder / file, size if len(of) == 1 else None):
            found.incomplete[name] = one
    return found
