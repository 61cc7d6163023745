# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read and put back the files that an instance is started from, and keep its good states.

The states lie where only root reads and writes: what is put back becomes units of systemd.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of, write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import NAME

SETTINGS = Path("/etc/vllm")
UNITS = Path("/etc/systemd/system")
TEMPLATE = UNITS / "vllm@.service"
STATES = Path("/etc/vllm/good")
# That an instance is being changed, with what was measured before.
CHANGE = "change"


def names() -> list[str]:
    """Return the names of the instances that have settings on this host."""
    return sorted(file.stem for file in SETTINGS.glob("*.yaml") if NAME.fullmatch(file.stem))


def state_file(name: str, which: str) -> Path:
    """Return where a state of an instance is kept."""
    return STATES / name / f"{which}.json"


def read_state(name: str, which: str) -> dict[str, Any] | None:
    """Return a state of an instance, or the mark of a change."""
    return _read(which, text_of(state_file(name, which)))


def _read(which: str, text: str | None) -> dict[str, Any] | None:
    return good_states.read_mark(text) if which == CHANGE else good_states.read(text)


def damaged(name: str) -> list[Path]:
    """Return the states and marks of an instance that are there and cannot be read."""
    files = {which: state_file(name, which) for which in (good_states.GOOD, good_states.PREVIOUS, CHANGE)}
    texts = {which: text_of(file) for which, file in files.items()}
    return [files[which] for which, text in texts.items() if text is not None and _read(which, text) is None]


def write_state(name: str, which: str, state: dict[str, Any] | None) -> None:
    """Keep a state, or remove it; a damaged one is kept beside it. Raises OSError."""
    file = state_file(name, which)
    if file in damaged(name):
        file.replace(file.with_suffix(".damaged"))
    if state is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(file, good_states.text(state), mode=0o600)


def all_states() -> Iterator[dict[str, Any]]:
    """Return every state that is kept on the host."""
    for which in (good_states.GOOD, good_states.PREVIOUS):
        for file in STATES.glob(f"*/{which}.json"):
            found = good_states.read(text_of(file))
            if found:
                yield found


def drop_ins(name: str) -> list[Path]:
    """Return the additions to an instance's unit that this collection wrote."""
    found = sorted((UNITS / f"vllm@{name}.service.d").glob("*.conf"))
    return [file for file in found if (text_of(file) or "").startswith(good_states.OURS)]


def files_of(name: str) -> dict[str, str]:
    """Return the texts that an instance is started from, by path."""
    files = [SETTINGS / f"{name}.yaml", SETTINGS / f"{name}.env", TEMPLATE, *drop_ins(name)]
    texts = {str(file): text_of(file) for file in files}
    return {path: text for path, text in texts.items() if text is not None}


def open_up(environment: Path, digest: str | None) -> None:
    """Take the digest out of an environment file that is to say another one, before any file of the instance changes.

    Cut off from here on, what lies there is nothing that an instance was started from: it is not kept as a good state,
    and the next run writes it to its end and restarts. Raises OSError.
    """
    old = text_of(environment)
    if old is not None and good_states.digest_of(old) not in (None, digest):
        write_atomically(environment, good_states.without_digest(old))


def put_back(name: str, files: dict[str, str]) -> list[str]:
    """Write what differs, remove the additions that were not there; return the paths. Raises OSError."""
    changed = []
    environment = SETTINGS / f"{name}.env"
    open_up(environment, good_states.digest_of(files.get(str(environment))))
    # the environment comes last, with the digest that says that the others are there
    for path, text in sorted(files.items(), key=lambda pair: (pair[0] == str(environment), pair)):
        if text_of(Path(path)) != text:
            write_atomically(Path(path), text)
            changed.append(path)
    for file in drop_ins(name):
        if str(file) not in files:
            file.unlink()
            changed.append(str(file))
    return changed


def link(root: Path, name: str) -> Path:
    """Return the link of an instance to its release."""
    return root / "instances" / name


def linked_release(root: Path, name: str) -> str | None:
    """Return the name of the release that an instance would be started with."""
    found = link(root, name)
    return found.resolve().name if found.is_symlink() else None


def point(root: Path, name: str, release: str) -> bool:
    """Bind an instance to a release, in one step; tell whether that changed anything. Raises OSError."""
    here, target = link(root, name), f"../releases/{release}"
    if here.is_symlink() and str(here.readlink()) == target:
        return False
    here.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = here.with_name(f".{name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(here)
    return True


def bind_others(root: Path, names: list[str]) -> list[str]:
    """Bind the instances that follow the current release, but for ``names``, to the one it is now. Raises OSError."""
    bound = []
    for found in sorted((root / "instances").glob("[!.]*")):
        if found.name not in names and found.is_symlink() and str(found.readlink()) == "../current":
            release = linked_release(root, found.name)
            if release and point(root, found.name, release):
                bound.append(found.name)
    return bound


def folder_digest(folder: Path) -> str | None:
    """Return a digest of the names, sizes in bytes and modification times of the files right in a folder."""
    try:
        files = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    except OSError:
        return None
    text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
