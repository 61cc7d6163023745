# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A bundle: a folder from which hosts without a way to an index or the hub are deployed.

``bundle.json`` is written last and says what is in it; ``SHA256SUMS`` is what ``sha256sum --check`` reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

DESCRIPTION = "bundle.json"
SUMS = "SHA256SUMS"
# Tools and notes of the making, which no host needs.
PARTS = "parts"
SCHEMA_VERSION = 1
CHUNK = 16 * 1024 * 1024


def described(folder: Path) -> dict[str, Any] | None:
    """What a bundle says of itself; None where there is none. Raises InputError for one that cannot be read."""
    try:
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / DESCRIPTION} cannot be read ({error}); make the bundle anew.") from error
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{folder / DESCRIPTION} is not of this collection's bundles; make the bundle anew.")
    return found


def files(folder: Path) -> Iterator[Path]:
    """The files that a bundle is made of, in order."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.is_file() and inner.parts[0] != PARTS and str(inner) not in (DESCRIPTION, SUMS):
            yield path


def digest(path: Path) -> str:
    """The sha256 of a file."""
    hashed = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()


def sums(folder: Path) -> str:
    """The text of ``SHA256SUMS`` for what is there."""
    return "".join(f"{digest(path)}  {path.relative_to(folder)}\n" for path in files(folder))


def damaged(folder: Path) -> list[str]:
    """Files that are missing or differ from their checksum. Raises InputError when there are no checksums."""
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder / SUMS} cannot be read ({error.strerror}); make the bundle anew.") from error
    found = []
    for line in text.splitlines():
        wanted, _space, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or digest(path) != wanted:
            found.append(name)
    return found


def description(releases: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """The text of ``bundle.json``."""
    found = {"schema_version": SCHEMA_VERSION, "releases": releases, "models": models}
    return json.dumps(found, indent=2, sort_keys=True) + "\n"
