# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring files, links and folders about, and say what that changes; or only say it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of, write_atomically

FILE_MODE = 0o644
FOLDER_MODE = 0o755


class Writer:
    """Collects what was changed, or with ``check`` what would be; raises OSError."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.changed: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def _note(self, path: Path, before: str, after: str) -> None:
        self.changed.append(str(path))
        header = str(path)
        self.diffs.append({"before": before, "after": after, "before_header": header, "after_header": header})

    def folder(self, path: Path) -> None:
        """Make a folder (0755)."""
        if path.is_dir():
            if stat.S_IMODE(path.stat().st_mode) != FOLDER_MODE:
                self._note(path, f"mode {stat.S_IMODE(path.stat().st_mode):04o}\n", f"mode {FOLDER_MODE:04o}\n")
                if not self.check:
                    path.chmod(FOLDER_MODE)
            return
        self._note(path, "absent\n", "a folder\n")
        if not self.check:
            path.mkdir(mode=FOLDER_MODE, parents=True)
            path.chmod(FOLDER_MODE)

    def text(self, path: Path, text: str) -> None:
        """Write a file of root (0644)."""
        before = text_of(path)
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else FILE_MODE
        owner = path.stat().st_uid if before is not None else os.geteuid()
        if (before, mode, owner) == (text, FILE_MODE, os.geteuid()):
            return
        told = "" if before == text and mode == FILE_MODE else f"mode {mode:04o}\n" if before == text else ""
        self._note(path, told + (before or ""), (f"mode {FILE_MODE:04o}\n" if told else "") + text)
        if not self.check:
            write_atomically(path, text, FILE_MODE)

    def link(self, path: Path, target: str) -> None:
        """Point a link at something, in one step for everybody who follows it."""
        before = str(path.readlink()) if path.is_symlink() else None
        if before == target:
            return
        self._note(path, f"-> {before}\n" if before else "", f"-> {target}\n")
        if not self.check:
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            part.unlink(missing_ok=True)
            part.symlink_to(target)
            part.replace(path)

    def absent(self, path: Path, shown: bool = True) -> None:
        """Remove a file, a link, or a folder with all that is in it; ``shown`` puts a file's text into the diff."""
        if not (path.is_symlink() or path.exists()):
            return
        folder = path.is_dir() and not path.is_symlink()
        before = "a folder\n" if folder else (text_of(path) or "") if shown and not path.is_symlink() else "a file\n"
        self._note(path, before, "")
        if self.check:
            return
        if folder:
            shutil.rmtree(path)
        else:
            path.unlink()

    def touched(self, folder: Path) -> bool:
        """Tell whether something in a folder was changed."""
        return any(Path(path).is_relative_to(folder) for path in self.changed)
