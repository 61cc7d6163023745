# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a snapshot lies in a cache of huggingface_hub, and whether it is what the hub said.

The layout of the cache is huggingface_hub's own (its documentation, "Understand caching"): ``models--<org>--<name>``
with ``blobs``, ``snapshots/<commit>`` of links to them, and ``refs``. The one file of ours beside them records which
files were compared with the hub's digests. Sizes are in bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import write_atomically

File = Mapping[str, Any]
CHUNK = 16 * 1024 * 1024


@dataclass
class State:
    """Of the asked files: ``missing`` are not there whole, ``unverified`` are there and were not compared since."""

    missing: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    missing_bytes: int = 0
    total_bytes: int = 0


class Snapshot:
    """The files of one commit of a model in a cache."""

    def __init__(self, cache: str, model: str, commit: str, files: Sequence[File]) -> None:
        """Take names only; nothing is read yet."""
        self.folder = Path(cache) / f"models--{model.replace('/', '--')}"
        self.path = self.folder / "snapshots" / commit
        self.record_path = self.folder / f"gpufleet-{commit}.json"
        self.files = {str(file["path"]): file for file in files}

    def state(self, trust: bool = True) -> State:
        """Look at every file; without ``trust`` none counts as verified."""
        record = self.record() if trust else {}
        found = State()
        for name, file in self.files.items():
            found.total_bytes += file["size"]
            seen = _seen(self.path / name)
            if seen is None or seen[0] != file["size"]:
                found.missing.append(name)
                found.missing_bytes += file["size"]
            elif record.get(name) != [*seen, digest_of(file)]:
                found.unverified.append(name)
        return found

    def present_bytes(self) -> int:
        """Bytes of the model that are in the cache, those of downloads that are going on among them."""
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self.folder / "blobs"))
        except OSError:
            return 0

    def activity(self) -> int:
        """Return a number that changes with every byte that is written, also into a file of full length with holes."""
        try:
            stats = [entry.stat() for entry in os.scandir(self.folder / "blobs")]
        except OSError:
            return 0
        return sum(stat.st_size + stat.st_blocks * 512 for stat in stats)

    def record(self) -> dict[str, list[Any]]:
        """By file, its size, the time of its last change in ns, and the digest that it was found to have."""
        try:
            found = json.loads(self.record_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def verify(self, names: Sequence[str], seconds: float) -> tuple[list[str], list[str]]:
        """Compare files with their digests until time is over, at least one; returns those done and those wrong.

        What is right is recorded, so that an interruption loses nothing.
        """
        record, done, wrong = self.record(), [], []
        end = time.monotonic() + seconds
        for name in names:
            seen = _seen(self.path / name)
            done.append(name)
            if seen is not None and matches(self.path / name, self.files[name]):
                record[name] = [*seen, digest_of(self.files[name])]
            else:
                record.pop(name, None)
                wrong.append(name)
            if time.monotonic() >= end:
                break
        write_atomically(self.record_path, json.dumps(record, indent=1, sort_keys=True) + "\n")
        return done, wrong

    def drop(self, names: Sequence[str]) -> None:
        """Take files away, with what the links lead to, so that they are fetched anew."""
        for name in names:
            path = self.path / name
            blob = path.resolve()
            # a link that leads out of the cache is not one of huggingface_hub's
            if blob.parent == (self.folder / "blobs").resolve():
                blob.unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what interrupted downloads left, which huggingface_hub does not take up again; returns the bytes."""
        freed = 0
        for path in self.folder.glob("blobs/*.incomplete"):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed


def digest_of(file: File) -> str | None:
    """The digest that a file is known by: sha256, else that of git."""
    found = file.get("sha256") or file.get("blob_id")
    return str(found) if found else None


def matches(path: Path, file: File) -> bool:
    """Whether a file is the one that the hub speaks of. Without any digest only its size is compared."""
    size = path.stat().st_size
    if size != file["size"]:
        return False
    if file.get("sha256"):
        hashed = hashlib.sha256()
    elif file.get("blob_id"):
        # git hashes a header before the content (git-hash-object); not a matter of security
        hashed = hashlib.sha1(f"blob {size}\0".encode())  # noqa: S324
    else:
        return True
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest() == digest_of(file)


def _seen(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
