"""Running commands and holding locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from typing import TYPE_CHECKING

from tools.nodes.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def run(argv: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    """Run a command and return its standard output.

    Raises NodeError with the last lines of its standard error when it fails and `check` is set.
    """
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise NodeError(f"`{' '.join(argv)}` failed with exit status {done.returncode}: {' '.join(said)}")
    return done.stdout


@contextlib.contextmanager
def locked(folder: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on an existing folder; says `waiting` once when another run holds it.

    The lock is on the folder itself, so no lock file is left. A folder that was removed while we
    waited raises NodeError.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        if not folder.exists() or not os.path.samestat(os.fstat(handle), folder.stat()):
            raise NodeError(f"{folder} was removed by the run that was waited for. Run the command again.")
        yield
    finally:
        os.close(handle)
