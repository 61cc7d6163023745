# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decides which source of NVIDIA's packages a host has: one that is there, or the role's own; never both. Pure.

apt refuses every command while two of its entries name one URI and suite with other values of Signed-By (apt 2.6.1,
apt-pkg/deb/debmetaindex.cc, "Conflicting values set for option"; seen on Debian 12 and 13).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver_sources

Facts = Mapping[str, Any]

OWN = {"apt": "/etc/apt/sources.list.d/gpufleet-nvidia.sources", "dnf": "/etc/yum.repos.d/gpufleet-nvidia.repo"}
OWN_REPO = "gpufleet-nvidia"
_DEBIAN_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_PORTS = {"http": 80, "https": 443}
# NVIDIA's server and its name in China.
_SERVERS = ("developer.download.nvidia.com", "developer.download.nvidia.cn")
# Installed by a package of NVIDIA's that carries a whole repository: cuda-repo-debian12-13-0-local,
# nvidia-driver-local-repo-ubuntu2404-580.95.05.
_LOCAL = re.compile(r"/(?:cuda-repo|nvidia-driver-local-repo)-")


@dataclass
class Choice:
    """What is done about the sources.

    ``existing`` is the entry that is used, None where the role writes its own. ``disable`` are entries to be taken out
    of use, ``remove`` files of the role's own.
    """

    existing: Facts | None = None
    disable: list[dict[str, Any]] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """What the source has to have.

    ``explicit`` is whether a person named the URL. ``offers`` says of the versions that a repository on a disk has
    whether what is to be installed is among them; ``what`` names that in a sentence.
    """

    manager: str
    path: str
    machine: str
    url: str
    explicit: bool
    fingerprints: Sequence[str]
    offers: Callable[[Sequence[str]], bool]
    what: str


def place(uri: str) -> tuple[str, str] | None:
    """Host and path of a URI, in which ways of writing one place are the same: http or https, ports, slashes."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https", "file", "copy"):
        return None
    host = (parts.hostname or "").rstrip(".")
    path = "/" + "/".join(one for one in parts.path.split("/") if one not in ("", "."))
    return (f"{host}:{port}" if port not in (None, _PORTS.get(scheme)) else host), path


def choose(wanted: Wanted, sources: Sequence[Facts], trusted_keys: Sequence[str]) -> Choice:
    """Choose for the entries that were observed, in their order."""
    choice = Choice(problems=_unreadable(wanted.manager, sources))
    if choice.problems:
        return choice
    candidates = [entry for entry in sources if _is_nvidia(entry, wanted)]
    own, others = [[e for e in candidates if (e["path"] == OWN[wanted.manager]) is is_own] for is_own in (True, False)]
    faults = [(entry, _fault(entry, wanted, trusted_keys)) for entry in others]
    wished = [entry for entry, fault in faults if not fault and _may_serve(entry, wanted)]
    choice.existing = min(wished, key=_rank) if wished else None
    for entry, fault in faults:
        if entry is not choice.existing:
            _others(choice, wanted, entry, fault)
    if choice.existing:
        choice.remove = sorted({entry["path"] for entry in own})
    return choice


def _unreadable(manager: str, sources: Sequence[Facts]) -> list[str]:
    """What the package manager itself refuses, and would after a change, too."""
    return [
        f"{_where(entry)} cannot be read by {manager}: {entry['problem']}. Correct it, or take it out."
        for entry in sources
        if entry["problem"]
        and entry["enabled"]
        and entry["path"] != OWN[manager]
        and entry["path"].endswith(".repo") == (manager == "dnf")
    ]


def _where(entry: Facts) -> str:
    of = entry["place"]
    return f"{entry['path']}, line {of}," if isinstance(of, int) else f"{entry['path']}, [{of}],"


def _is_nvidia(entry: Facts, wanted: Wanted) -> bool:
    """Whether an entry that is in use has NVIDIA's packages for this host."""
    kind = "deb" if wanted.manager == "apt" else "rpm"
    if not entry["enabled"] or kind not in entry["types"]:
        return False
    if entry["path"] == OWN[wanted.manager] or _same(entry, wanted.url):
        return True
    found = place(entry["uri"])
    below = f"/{wanted.path}/{driver_sources.ARCHITECTURES.get(wanted.machine, wanted.machine)}"
    return found is not None and (found[1].endswith(below) or _is_local(entry))


def _same(entry: Facts, url: str) -> bool:
    return place(entry["uri"]) is not None and place(entry["uri"]) == place(url)


def _is_local(entry: Facts) -> bool:
    return entry["uri"].startswith(("file:", "copy:")) and bool(_LOCAL.search(entry["uri"]))


def _is_official(entry: Facts) -> bool:
    return (place(entry["uri"]) or ("", ""))[0] in _SERVERS


def _fault(entry: Facts, wanted: Wanted, trusted_keys: Sequence[str]) -> str:
    """Why an entry does not work, as the rest of a sentence; empty where nothing says so."""
    architecture = _DEBIAN_MACHINES.get(wanted.machine)
    if entry["architectures"] and architecture not in entry["architectures"]:
        return f"is for {', '.join(entry['architectures'])} alone"
    if entry["missing"]:
        return "names a key or a folder that is not on this host"
    if _is_local(entry) and not wanted.offers(entry["drivers"] or ()):
        return f"has {', '.join(entry['drivers'] or ()) or 'no driver'}, and {wanted.what} is wanted"
    if wanted.manager != "apt" or entry["trusted"] or not _is_official(entry):
        return ""
    keys = entry["keys"] if entry["signed_by"] else list(trusted_keys)
    if keys is not None and not set(keys) & set(wanted.fingerprints):
        return f"is not checked with the key {', '.join(wanted.fingerprints)} that it is signed with"
    return ""


def _may_serve(entry: Facts, wanted: Wanted) -> bool:
    return _same(entry, wanted.url) or not wanted.explicit


def _rank(entry: Facts) -> tuple[bool, bool]:
    """NVIDIA's server before a mirror, a network before a disk; the first in the files of those."""
    return _is_local(entry), not _is_official(entry)


def _others(choice: Choice, wanted: Wanted, entry: Facts, fault: str) -> None:
    """Decide about an entry that is not used: a double and a broken one go, one with another URL stays where it may."""
    used = choice.existing["uri"] if choice.existing else wanted.url
    if fault:
        why = f"it {fault}"
    elif _same(entry, used):
        why = "it has the same packages once more"
    elif wanted.explicit:
        why = f"cuda_repository_url is {wanted.url}"
    else:
        choice.notices.append(f"{_where(entry)} has NVIDIA's packages from {entry['uri']}, too; it is left as it is.")
        return
    if entry["shared"]:
        choice.problems.append(
            f"{_where(entry)} has {entry['uri']} beside other URIs, and has to go, since {why}. Give it an entry of "
            "its own, or take it out."
        )
        return
    choice.disable.append({"path": entry["path"], "place": entry["place"]})
    choice.notices.append(f"{_where(entry)} ({entry['uri']}) is taken out of use, since {why}.")
