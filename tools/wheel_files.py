"""Which files wheels hold, read from the end of each over HTTP: the archive's own list, not the archive."""

from __future__ import annotations

import functools
import io
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging import tags
from packaging.utils import parse_wheel_filename

from tools.nodes.errors import NodeError

SECONDS = 120
# The list of a wheel's files is mostly in its last 64 KiB; each further request costs a round trip.
CHUNK = 256 * 1024
AT_ONCE = 8


class RemoteFile(io.RawIOBase):
    """A file on a server that answers ranges, read in chunks, for zipfile."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self.url, self.size, self.at = url, size, 0
        self.chunks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence] + offset
        if place < 0:
            raise OSError(f"there is no place {place} in a file")
        self.at = place
        return place

    def read(self, size: int = -1) -> bytes:
        end = self.size if size < 0 else min(self.size, self.at + size)
        parts = []
        while self.at < end:
            # counted from the end, where the list lies
            number = (self.size - 1 - self.at) // CHUNK
            begin = max(0, self.size - (number + 1) * CHUNK)
            chunk = self._chunk(number, begin)
            part = chunk[self.at - begin : end - begin]
            parts.append(part)
            self.at += len(part)
        return b"".join(parts)

    def _chunk(self, number: int, begin: int) -> bytes:
        if number not in self.chunks:
            end = self.size - number * CHUNK
            request = urllib.request.Request(self.url, headers={"Range": f"bytes={begin}-{end - 1}"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                found: bytes = answer.read()
            if len(found) != end - begin:
                raise NodeError(f"{self.url}: the server does not answer ranges.")
            self.chunks[number] = found
        return self.chunks[number]


def platforms(machine: str, glibc: int) -> list[str]:
    """Tags of the platforms whose wheels run with a glibc 2.``glibc``, the newest first."""
    old = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
    found = []
    for minor in range(glibc, 4 if machine == "x86_64" else 16, -1):
        found.append(f"manylinux_2_{minor}_{machine}")
        if minor in old:
            found.append(f"{old[minor]}_{machine}")
    return [*found, f"linux_{machine}"]


@functools.cache
def order_of_tags(python: tuple[int, int], machine: str, glibc: int) -> dict[tags.Tag, int]:
    """The tags of wheels that an interpreter can use, each with its place: 0 is the best."""
    there = platforms(machine, glibc)
    known = [
        *tags.cpython_tags(python_version=python, platforms=there),
        *tags.compatible_tags(python_version=python, interpreter=f"cp{python[0]}{python[1]}", platforms=there),
    ]
    return {tag: place for place, tag in enumerate(known)}


def ranked(names: Iterable[str], python: tuple[int, int], machine: str, glibc: int) -> list[str]:
    """The file names of wheels that an interpreter can use, the best first."""
    order = order_of_tags(python, machine, glibc)
    places = {name: [order[tag] for tag in parse_wheel_filename(name)[3] if tag in order] for name in names}
    return sorted((name for name, found in places.items() if found), key=lambda name: min(places[name]))


def installed(name: str) -> str | None:
    """Where a file of a wheel goes, by its path in the archive; None for what differs from wheel to wheel."""
    first, _slash, rest = name.partition("/")
    if first.endswith(".dist-info") or name.endswith("/"):
        return None
    if first.endswith(".data"):
        kind, _slash, inner = rest.partition("/")
        return inner if kind in ("purelib", "platlib") else f"{kind}/{inner}"
    return name


def files(url: str, size: int) -> dict[str, int]:
    """The files that a wheel installs, each with its size in bytes. Raises NodeError."""
    try:
        with zipfile.ZipFile(RemoteFile(url, size)) as archive:
            entries = {installed(one.filename): one.file_size for one in archive.infolist()}
    except (OSError, urllib.error.URLError, zipfile.BadZipFile) as error:
        raise NodeError(f"{url}: the list of its files cannot be read: {error}") from error
    return {name: entries[name] for name in entries if name is not None}


def all_files(wheels: Mapping[str, tuple[str, int]], cache: Path) -> dict[str, dict[str, int]]:
    """By sha256, the files of each wheel, given its address and size. What was read once is kept in ``cache``."""
    cache.mkdir(parents=True, exist_ok=True)

    def one(digest: str) -> dict[str, int]:
        kept = cache / f"{digest}.json"
        if not kept.exists():
            kept.write_text(json.dumps(files(*wheels[digest])), encoding="utf-8")
        found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(wheels, pool.map(one, wheels), strict=True))


def shared(owners: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The files that more than one package installs, each with these packages. ``owners`` maps them to their files."""
    found: dict[str, list[str]] = {}
    for package in sorted(owners):
        for file in owners[package]:
            found.setdefault(file, []).append(package)
    return {file: names for file, names in sorted(found.items()) if len(names) > 1}
