# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make root the owner of the folders in /var/lib/vllm in which root works.

Units of earlier versions had systemd give all of /var/lib/vllm to the user of the service (StateDirectory=vllm), who
could put links in place of what root writes. Now the service has ``work`` in it and nothing else. What runs keeps
running: it has read its model, and its caches lie elsewhere.

From the top to the bottom, and by descriptors that refuse links: in a folder that is root's nobody replaces anything.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of, write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError

STATE = Path("/var/lib/vllm")
UNIT = Path("/etc/systemd/system/vllm@.service")
# Where the roles write by default; what else lies in STATE, root has no business with.
FOLDERS = ("checks", "hub", "models", "receipts")
# The one folder that is the service's.
WORK = "work"
DEEPEST = 64
SHOWN = 5
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")

# Runs a program; returns its status, output and errors.
Run = Callable[[Sequence[str]], tuple[int, str, str]]


class Foreign(GpufleetError):
    """Something lies there that root does not take."""


def claim(folders: Iterable[Path], run: Run) -> list[str]:
    """Make root the owner of folders, as far as they lie in STATE, and of all beside them in the same folder of STATE.

    Makes that folder where it is missing. Returns what has changed. Raises :class:`Foreign` when the rest is done,
    GpufleetError, OSError.
    """
    wanted = [Path(os.path.normpath(folder)) for folder in folders]
    names = {folder.relative_to(STATE).parts[0] for folder in wanted if STATE in folder.parents}
    if WORK in names:
        raise Foreign(
            f"{STATE / WORK} is the folder of the service, and root does not work in it. Name another one for models "
            "(model_hub_cache, layout_model_root)."
        )
    if not names and STATE not in wanted:
        return []
    changed = _unit(run)
    if not STATE.exists():
        STATE.mkdir(parents=True)
        STATE.chmod(0o755)
    walk = _Walk()
    top = os.open(STATE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _is_roots(os.fstat(top)):
            _own(top, 0o755)
            changed.append(str(STATE))
        walk.check_work(top)
        if STATE in wanted:
            names.update(_inside(top))
        changed += [str(STATE / name) for name in sorted(names - {WORK}) if walk.entry(top, name)]
    finally:
        os.close(top)
    if walk.refused:
        more = f"\nThere are {len(walk.refused) - SHOWN} more of them." if len(walk.refused) > SHOWN else ""
        raise Foreign("\n".join(walk.refused[:SHOWN]) + more)
    return changed


def existing() -> list[Path]:
    """Return the folders of the roles that are there."""
    return [STATE / name for name in FOLDERS if os.path.lexists(STATE / name)]


def _is_roots(found: os.stat_result) -> bool:
    return (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def _unit(run: Run) -> list[str]:
    """Let the next start of an instance leave STATE to root."""
    old = text_of(UNIT)
    if old is None:
        return []
    new = good_states.with_own_folder(old)
    if new != old:
        write_atomically(UNIT, new)
    # Also where an earlier run was killed in between: what systemd knows would give STATE away.
    if new != old or (STATE.exists() and not _is_roots(STATE.stat())):
        code, out, err = run(["systemctl", "daemon-reload"])
        if code:
            raise GpufleetError(f"systemctl daemon-reload failed: {(err or out).strip()}.")
    return [str(UNIT)] if new != old else []


def _inside(descriptor: int) -> list[str]:
    with os.scandir(descriptor) as found:
        return [entry.name for entry in found]


def _own(descriptor: int, mode: int, group: int | None = None) -> None:
    os.fchown(descriptor, os.geteuid(), os.getegid() if group is None else group)
    for name in ACCESS_LISTS:
        try:
            os.removexattr(descriptor, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    os.fchmod(descriptor, mode)


class _Walk:
    """Takes folders; says in ``refused`` what it does not take."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def check_work(self, top: int) -> None:
        """Refuse what systemd would meet in place of the service's own folder."""
        try:
            found = os.stat(WORK, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            self.refuse((WORK,), _kind(found))

    def entry(self, top: int, name: str) -> bool:
        """Take a folder of STATE with all that is in it; tell whether it was not root's, or not there."""
        try:
            os.mkdir(name, 0o755, dir_fd=top)
            made = True
        except FileExistsError:
            made = False
        found = os.stat(name, dir_fd=top, follow_symlinks=False)
        if not made and stat.S_ISDIR(found.st_mode) and _is_roots(found):
            return False
        # Its group tells of an interruption: that of root when all below is taken.
        known = len(self.refused)
        group = next((one for one in (found.st_gid, found.st_uid) if one != os.getegid()), None)
        if self.folder(top, (name,), group):
            handle = os.open(name, FOLDER, dir_fd=top)
            try:
                if len(self.refused) == known:
                    os.fchown(handle, os.geteuid(), os.getegid())
            finally:
                os.close(handle)
        return True

    def folder(self, parent: int, parts: tuple[str, ...], group: int | None = None) -> bool:
        """Take a folder, by its name in one that is root's; tell whether it could be had."""
        if len(parts) > DEEPEST:
            self.refuse(parts[:DEEPEST], f"a folder that holds more than {DEEPEST} folders in one another")
            return False
        try:
            handle = os.open(parts[-1], FOLDER, dir_fd=parent)
        except OSError:
            self.refuse(parts, _kind(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)))
            return False
        try:
            if self.tried(parts, handle, 0o755, group):
                for name in sorted(_inside(handle)):
                    self.one(handle, (*parts, name))
        finally:
            os.close(handle)
        return True

    def one(self, parent: int, parts: tuple[str, ...]) -> None:
        """Take what lies in a folder that is root's."""
        found = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            self.folder(parent, parts)
        elif stat.S_ISLNK(found.st_mode):
            if not _leads_to_a_blob(parts, os.readlink(parts[-1], dir_fd=parent)):
                self.refuse(parts, _kind(found))
        elif not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            self.refuse(parts, _kind(found))
        else:
            handle = os.open(parts[-1], FILE, dir_fd=parent)
            try:
                self.tried(parts, handle, 0o644, None)
            finally:
                os.close(handle)

    def tried(self, parts: tuple[str, ...], handle: int, mode: int, group: int | None) -> bool:
        """Take what is open; tell whether it is root's then."""
        found = os.fstat(handle)
        if _is_roots(found) and stat.S_IMODE(found.st_mode) == mode:
            return True
        try:
            _own(handle, mode, group)
        except OSError as error:
            # nobody writes to what is mounted read-only
            if error.errno != errno.EROFS:
                where = f"{str(STATE.joinpath(*parts))!r}"
                self.refused.append(f"{where} cannot be given to root: {error.strerror}; see how it is mounted.")
            return error.errno == errno.EROFS
        return True

    def refuse(self, parts: tuple[str, ...], kind: str) -> None:
        """Say what is not taken, and what to do."""
        # a name that anybody chose goes to a terminal
        self.refused.append(
            f"{str(STATE.joinpath(*parts))[:300]!r} is {kind}. The user of the service may have put it there, and root "
            f"works in {STATE}, so it is not followed. Look what it is; remove it, or put what it leads to in its "
            "place (other folders for models: model_hub_cache, layout_model_root), and run the play again."
        )


def _leads_to_a_blob(parts: tuple[str, ...], target: str) -> bool:
    """Tell whether a link is one of huggingface_hub's: from a snapshot of a model to a blob of the same model."""
    at = next((place for place, part in enumerate(parts) if part.startswith("models--")), None)
    if at is None or parts[at + 1 : at + 2] != ("snapshots",) or target.startswith("/"):
        return False
    led = PurePosixPath(os.path.normpath(PurePosixPath(*parts[:-1], target))).parts
    return led[:-1] == (*parts[: at + 1], "blobs")


def _kind(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if stat.S_ISREG(found.st_mode):
        return "a file with a second name elsewhere" if found.st_nlink > 1 else "a file"
    return "a folder" if stat.S_ISDIR(found.st_mode) else "no file and no folder"
