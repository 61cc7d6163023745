# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what paths and interpreters of this machine are."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

SECONDS = 60
NO_PYTHON: dict[str, Any] = {"version": None, "machine": None, "lacking": []}
# Virtual environments need ensurepip, and what compiles at run time needs Python.h; distributions package both apart.
ASK_PYTHON = """
import importlib.util, os, platform, sysconfig
print(platform.python_version(), platform.machine())
if not importlib.util.find_spec("ensurepip"):
    print("venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("headers")
"""


def folder_digest(folder: Path) -> str:
    """Return a digest of the names, sizes in bytes and modification times of the files right in a folder."""
    files = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    text = "\n".join(f"{name} {found.st_size} {found.st_mtime_ns}" for name, found in files)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def file_digest(file: Path) -> str:
    """Return a digest of the size in bytes and the modification time of a file, which says nothing of its content."""
    found = file.stat()
    return hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()


def path_facts(name: str) -> dict[str, Any]:
    """Return whether a path exists, the MiB free where it is or would be, where a link leads, a digest of it."""
    path = Path(name)
    existing = next(place for place in (path, *path.parents) if place.exists())
    return {
        "exists": path.exists(),
        "free_mib": shutil.disk_usage(existing).free // 1024**2,
        "target": str(path.readlink()) if path.is_symlink() else None,
        "digest": folder_digest(path) if path.is_dir() else file_digest(path) if path.is_file() else None,
    }


def python_facts(name: str) -> dict[str, Any]:
    """Ask an interpreter for its version, its kind of processor, and what of its own parts it lacks."""
    if not Path(name).exists():
        return {**NO_PYTHON, "problem": f"{name} does not exist"}
    argv = [name, "-c", ASK_PYTHON]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {**NO_PYTHON, "problem": f"{name} does not run: {error}"}
    if done.returncode:
        return {**NO_PYTHON, "problem": f"{name} does not run: {done.stderr.strip()}"}
    version, machine, *lacking = done.stdout.split()
    return {"version": version, "machine": machine, "lacking": lacking, "problem": None}


def tree(folder: Path) -> dict[str, list[int]]:
    """Return the files below a folder, each with its size in bytes and its modification time in ns since the epoch."""
    found = {}
    for place, _folders, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            # a file may go while it is looked at
            with contextlib.suppress(OSError):
                seen = path.stat()
                found[str(path.relative_to(folder))] = [seen.st_size, seen.st_mtime_ns]
    return dict(sorted(found.items()))


def user_facts(name: str) -> dict[str, Any] | None:
    """Return home, shell and further groups of a user; None where there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem)
    return {"home": entry.pw_dir, "shell": entry.pw_shell, "groups": groups}


def closed_to(path: Path, name: str) -> Path | None:
    """Return the first folder on the way to a path that a user may not enter, by owner, group and mode; None when open.

    A user who is not there yet is one of the others. Where a folder has an access list, its mode does not say it.
    """
    try:
        entry = pwd.getpwnam(name)
        user, groups = entry.pw_uid, {entry.pw_gid, *(one.gr_gid for one in grp.getgrall() if name in one.gr_mem)}
    except KeyError:
        user, groups = -1, set()
    for folder in reversed([path, *path.parents]):
        try:
            found = folder.stat()
        except OSError:
            return None
        needed = stat.S_IXUSR if found.st_uid == user else stat.S_IXGRP if found.st_gid in groups else stat.S_IXOTH
        if user != 0 and not found.st_mode & needed and not _has_list(folder):
            return folder
    return None


def _has_list(folder: Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(folder)
    except OSError:
        return False
