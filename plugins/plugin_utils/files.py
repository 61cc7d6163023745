# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes a file on the control node: whole or not at all, and only where it differs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plan_input import here

MODE = 0o644


def target(path: str | None, variable: str) -> Path | None:
    """Where a file goes, or None where none is wanted.

    Raises InputError, naming the variable, where the path is a folder or its folder is not there or cannot be written.
    """
    if not path:
        return None
    found = here(path)
    if found.is_dir():
        raise InputError(f"{variable} is {path!r}, which is a folder; write the name of a file.")
    if not found.parent.is_dir():
        raise InputError(f"{variable} is {path!r}, and there is no folder {found.parent}; make it, or write another.")
    if not os.access(found.parent, os.W_OK):
        raise InputError(f"{variable} is {path!r}, and you may not write into {found.parent}; write another path.")
    return found


def differs(path: Path, text: str) -> bool:
    """Whether the file is missing, or holds something else."""
    try:
        return path.read_bytes() != _encoded(text)
    except OSError:
        return True


def write(path: Path, text: str) -> None:
    """Replace the file in one step, readable by everybody.

    Raises InputError where the disk refuses it; the old file then stays as it was.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "wb") as stream:
                stream.write(_encoded(text))
            Path(name).chmod(MODE)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror}.") from error


def _encoded(text: str) -> bytes:
    # what a host or a model said may hold lone surrogates, which no file takes
    return text.encode(errors="replace")
