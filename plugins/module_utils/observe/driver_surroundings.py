# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Looks at what a change of a driver touches: sources of packages, instances, the fabric manager. I/O only."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import openpgp, package_sources, systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.installed import text_of

Run = Callable[[list[str]], str]

# Written by the role cuda; gone with the next start of the system.
RESET_DUE = "/run/gpufleet-nvidia-reset"
# Written by the role drivers while it works on the host.
WORK = "/etc/vllm/drivers.json"
FABRIC_MANAGER = "nvidia-fabricmanager.service"
# What the subnet manager of the fifth NVLink reaches the switches by.
NVLINK_MODULES = ("ib_umad", "mlx5_ib")
_LOCAL_FOLDER = re.compile(r"^(?:file|copy):(?://)?(/.*)$")
_DRIVER_VERSION = re.compile(
    r"^Package: (?:nvidia-driver-cuda|nvidia-open|cuda-drivers|nvidia-driver)\n(?:.+\n){0,80}?Version: ([^\n]+)",
    re.MULTILINE,
)


def sources(machine: str, root: Path = Path("/"), release: str = "") -> list[package_sources.Entry]:
    """All entries of apt and dnf in the order in which they are read, with ``keys`` of apt's.

    ``keys`` are the fingerprints of the files that an entry is signed by; None where they are not known. ``missing``
    says whether a file or folder that it names is not there, ``drivers`` which versions a local folder has.
    """
    found: list[package_sources.Entry] = []
    apt, dnf = root / "etc/apt", root / "etc/yum.repos.d"
    parts = sorted(path for path in _listed(apt / "sources.list.d") if package_sources.FILE_NAME.match(path.name))
    for path in [apt / "sources.list", *parts]:
        text, shown = text_of(str(path)), f"/{path.relative_to(root)}"
        parse = package_sources.parse_deb822 if path.name.endswith(".sources") else package_sources.parse_list
        found += parse(shown, text)
    for path in sorted(path for path in _listed(dnf) if path.name.endswith(".repo")):
        found += package_sources.parse_repo(f"/{path.relative_to(root)}", text_of(str(path)), machine, release)
    for entry in found:
        entry["keys"], missing_key = _keys(entry, root)
        folder = _LOCAL_FOLDER.match(entry["uri"])
        entry["missing"] = missing_key or bool(folder and not (root / folder[1].strip("/")).is_dir())
        entry["drivers"] = _drivers(root / folder[1].strip("/")) if folder else None
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _keys(entry: package_sources.Entry, root: Path) -> tuple[list[str] | None, bool]:
    """Fingerprints of an entry's keys, and whether none of the files that it names is there."""
    text = entry.pop("embedded_key")
    if text:
        return _fingerprints(text.encode()), False
    paths = [root / one.lstrip("/") for one in entry["signed_by"].split(",") if one.startswith("/")]
    present = [path for path in paths if path.is_file()]
    if not present:
        return None, bool(paths)
    read = [_fingerprints(path.read_bytes()) for path in present]
    return [one for keys in read if keys for one in keys] or None, False


def _fingerprints(data: bytes) -> list[str] | None:
    try:
        return openpgp.fingerprints_of(data)
    except ParseError:
        return None


def trusted_keys(root: Path = Path("/")) -> list[str]:
    """Fingerprints that apt trusts for every source that names no key."""
    apt = root / "etc/apt"
    files = [apt / "trusted.gpg", *sorted(_listed(apt / "trusted.gpg.d"))]
    read = [_fingerprints(path.read_bytes()) for path in files if path.is_file()]
    return [one for keys in read if keys for one in keys]


def _drivers(folder: Path) -> list[str]:
    """Versions of the driver in a flat repository on a disk."""
    for name, opened in (("Packages", open), ("Packages.gz", gzip.open)):
        path = folder / name
        if path.is_file():
            with opened(path, "rb") as file:
                text = file.read().decode(errors="replace")
            return sorted({version.split("-", 1)[0] for version in _DRIVER_VERSION.findall(text)})
    return []


def serving(run: Run) -> list[str]:
    """Names of the instances of vLLM that run, begin to, or are started again by systemd, whoever set them up."""
    states = "--state=active,activating,reloading,deactivating"
    listed = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service"]
    text = run([*listed, states, "vllm@*.service"])
    return sorted(set(re.findall(r"^vllm@(\S+)\.service\s", text, re.MULTILINE)))


def work() -> list[dict[str, Any]]:
    """The instances that the role drivers has taken out of service and not brought back."""
    text = text_of(WORK)
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = {}
    return list(found.get("instances") or ()) if isinstance(found, dict) else []


def fabric(run: Run) -> dict[str, bool]:
    """How far the fabric manager has come since the system was started.

    ``runs`` now, ``ran`` at any time before, and whether the GPUs wait to be reset after it was exchanged.
    """
    names = "Id,ActiveState,ActiveEnterTimestampMonotonic"
    unit = systemd.parse_show(run(["systemctl", "show", f"--property={names}", "--", FABRIC_MANAGER]))
    said = unit.get(FABRIC_MANAGER) or {}
    return {
        "runs": said.get("ActiveState") in ("active", "reloading"),
        "ran": (said.get("ActiveEnterTimestampMonotonic") or "0") != "0",
        "reset_due": Path(RESET_DUE).exists(),
    }


def modules(kernel: str) -> dict[str, str]:
    """Of each of NVLINK_MODULES, whether it is loaded, available or missing."""
    there = text_of(f"/lib/modules/{kernel}/modules.dep") + text_of(f"/lib/modules/{kernel}/modules.builtin")
    found = {}
    for name in NVLINK_MODULES:
        available = re.search(rf"(?:^|/){name}\.ko\b", there, re.MULTILINE)
        found[name] = "loaded" if Path(f"/sys/module/{name}").is_dir() else "available" if available else "missing"
    return found


def imex_nodes() -> list[str]:
    """Addresses of the NVLink domain, as IMEX is told them."""
    lines = text_of("/etc/nvidia-imex/nodes_config.cfg").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
