"""The text of a list of packages that a release of vLLM is installed from. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_ENTRY = re.compile(r"([a-z0-9][a-z0-9._-]*)==(\S+)( \\)?")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
_HEADER = re.compile(r"# ([a-z0-9_]+): (.+)")
DIGEST = "sha256"
NO_HASH = "without_hash"


@dataclass(frozen=True)
class Package:
    """One entry: the hashes of the wheels that fit, the best first; none for a wheel that PyPI has not got."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()


def body(packages: Iterable[Package]) -> str:
    """The entries, sorted by name."""
    lines = []
    for package in sorted(packages, key=lambda one: one.name):
        parts = [f"{package.name}=={package.version}", *(f"    --hash=sha256:{one}" for one in package.hashes)]
        lines.append(" \\\n".join(parts) + "\n")
    return "".join(lines)


def text(packages: Sequence[Package], title: str, facts: Mapping[str, object]) -> str:
    """The whole file. ``facts`` are written into its head, with a digest of what follows."""
    entries = body(packages)
    found = {**facts, DIGEST: hashlib.sha256(entries.encode()).hexdigest()}
    head = [f"# {title}", "# Made by `make locks`; a change by hand is refused by `make locks-check`."]
    return "".join(f"{line}\n" for line in [*head, *(f"# {key}: {value}" for key, value in found.items())]) + entries


def facts(written: str) -> dict[str, str]:
    """What the head of a file says."""
    return {match[1]: match[2] for line in written.splitlines() if (match := _HEADER.fullmatch(line))}


def packages(written: str) -> dict[str, Package]:
    """The entries of a file by name. Raises ValueError for a line that is none, and for a name that comes twice."""
    found: dict[str, Package] = {}
    name = ""
    for number, line in enumerate(written.splitlines(), start=1):
        if line.startswith("#"):
            continue
        entry = _ENTRY.fullmatch(line)
        if entry:
            name = entry[1]
            if name in found:
                raise ValueError(f"line {number}: {name} is there twice")
            found[name] = Package(name, entry[2])
        elif _HASH.fullmatch(line) and name:
            one = found[name]
            found[name] = Package(one.name, one.version, (*one.hashes, line.split(":", 1)[1].split()[0]))
        else:
            raise ValueError(f"line {number}: {line!r} is neither a package with a version nor a hash")
    return found


def problems(written: str) -> list[str]:
    """What is wrong with a file, by what it says itself; empty where nothing is."""
    try:
        entries = packages(written)
    except ValueError as error:
        return [str(error)]
    said = facts(written)
    found = []
    if said.get(DIGEST) != hashlib.sha256(body(entries.values()).encode()).hexdigest():
        found.append("it was changed by hand: its digest is another; make it again with `make locks`")
    bare = sorted(name for name, package in entries.items() if not package.hashes)
    allowed = said.get(NO_HASH, "none").split(", ")
    if bare != (allowed if allowed != ["none"] else []):
        found.append(f"without a hash are: {', '.join(bare) or 'none'}; its head says: {', '.join(allowed)}")
    if said.get("files_of_two_packages") != "0":
        found.append("its head does not say that no file is of two packages")
    if "://" in written:
        found.append("it names the address of an index")
    return found
