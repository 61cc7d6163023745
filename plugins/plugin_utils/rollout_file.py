# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record of a roll-out on the control node: read, changed and written as one step, also by several processes."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rollout_record
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import files


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def by() -> dict[str, str]:
    """Say who runs this, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # no name for the user id
        user = str(os.getuid())
    return {"user": user, "controller": socket.gethostname()}


def target(written: str | None, kind: str) -> Path:
    """Return where the record goes; by default into the folder that the command was started in. Raises InputError."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path = files.target(written or f"{kind}-{stamp}.json", "rollout_record")
    assert path is not None
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Change a record in one step, one process after the other. Raises InputError."""
    try:
        lock = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be opened: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = change(read(path))
        files.write(path, rollout_record.text(found))
        return found
    finally:
        os.close(lock)


def read(path: Path) -> dict[str, Any]:
    """Read a record. Raises InputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; it is written when a roll-out begins.") from error
    return rollout_record.read(text, str(path))
