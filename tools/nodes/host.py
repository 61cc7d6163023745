"""What the machine that carries the nodes must have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.nodes.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Command -> the Debian and Ubuntu package that has it.
TOOLS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
# Ubuntu does not install the keys that sign Debian's archive.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# An engine's venv is 3 GiB, the uv cache it is copied from as much again at worst.
GIB_PER_NODE = 6


def extend_path() -> None:
    """Make /usr/sbin findable: `su` without a hyphen leaves it out of root's PATH."""
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


def require_root(what: str) -> None:
    """Raise NodeError unless this is root on Linux. `what` names the command for the sentence."""
    if sys.platform != "linux":
        raise NodeError(f"{what} makes nodes with systemd-nspawn, which only Linux has; this is {sys.platform}.")
    if os.geteuid() != 0:
        raise NodeError(
            f"{what} makes nodes with systemd-nspawn, which needs root: run it with sudo, or as root in a "
            "virtual machine. (With hosts of your own, make quickstart INVENTORY=path needs no root.)"
        )


def missing_packages(tools: Mapping[str, str]) -> list[str]:
    """Packages of the tools that are not on PATH, sorted, plus the archive keyring where it is missing."""
    missing = {package for tool, package in tools.items() if shutil.which(tool) is None}
    if not KEYRING.exists():
        missing.add("debian-archive-keyring")
    return sorted(missing)


def require_packages(packages: Sequence[str], install: bool) -> None:
    """Install `packages` with apt-get where `install` is set, else raise NodeError naming them."""
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        raise NodeError(
            f"This machine lacks {', '.join(packages)} (Debian's names): install with your package manager."
        )
    if not install:
        raise NodeError(f"This machine lacks {', '.join(packages)}. Install with: {' '.join(command)}")
    print(f"Installing {', '.join(packages)} with apt-get", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update", "-q"], command):
        if subprocess.run(argv, env=environment, check=False).returncode != 0:
            raise NodeError(f"`{' '.join(argv)}` failed; its own words are above.")


def require_disk(folder: Path, new_nodes: int, gib_per_node: int = GIB_PER_NODE) -> None:
    """Raise NodeError when the file system of `folder` has less free space than `new_nodes` need."""
    free_gib = shutil.disk_usage(folder).free / 1024**3
    needed_gib = new_nodes * gib_per_node
    if free_gib < needed_gib:
        raise NodeError(
            f"{folder} has {free_gib:.1f} GiB free; {new_nodes} new node(s) with an engine need {needed_gib} "
            f"GiB, {gib_per_node} each. Free some space, or move the checkout to a larger disk."
        )


def booted_by_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()
