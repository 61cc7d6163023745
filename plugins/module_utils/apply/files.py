# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read and write small files; what is written is whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def text_of(path: Path) -> str | None:
    """Return the text of a file, None when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file in place of what is there, in one step for everybody who reads it; makes its folder (0755).

    Raises OSError.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # by the descriptor: whoever may write into the folder can put a link in place of the name
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
