"""The base image a node is copied from, built once by mmdebstrap and kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.nodes import registries
from tools.nodes.errors import NodeError
from tools.nodes.shell import locked, run

SUITES = ("bookworm", "trixie")
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "python3",
    "systemd",
    "systemd-sysv",
)
# Characters of an output line that are shown: mmdebstrap names every package of a failed command.
_LINE = 200
# Run by mmdebstrap with the image's root as $1. Every node gets its own keys and machine-id.
_CUSTOMIZE = (
    'chroot "$1" systemctl enable systemd-networkd.service',
    'rm -f "$1"/etc/ssh/ssh_host_*',
    ': > "$1/etc/machine-id"',
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is in the image."""

    suite: str
    sources: tuple[str, ...]
    apt_settings: str
    builder: str
    packages: tuple[str, ...] = PACKAGES
    customize: tuple[str, ...] = _CUSTOMIZE

    @property
    def key(self) -> str:
        """Name of the image's folder: another recipe is another image."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.suite}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cache_folder() -> Path:
    """Where images and the uv cache are kept between fleets."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gpufleet.vllm"


def own_suite() -> str:
    """This machine's Debian code name, "" where it is another distribution."""
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    return release.get("VERSION_CODENAME", "").strip('"') if release.get("ID", "").strip('"') == "debian" else ""


def recipe(suite: str) -> Recipe:
    """The recipe of `suite` on this machine. Raises NodeError for a suite that was not tried."""
    if suite not in SUITES:
        raise NodeError(f"{suite!r} is not a suite that nodes are made of: write one of {', '.join(SUITES)}.")
    targets = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]
    return Recipe(
        suite=suite,
        sources=tuple(registries.apt_sources(suite, own_suite(), run(targets, check=False) if own_suite() else "")),
        apt_settings=registries.apt_settings(run(["apt-config", "dump"], check=False)),
        builder=run(["mmdebstrap", "--version"]).strip(),
    )


def ensure(suite: str) -> Path:
    """The image's folder, built first when the cache does not have it. Raises NodeError when that fails."""
    wanted = recipe(suite)
    images = cache_folder() / "images"
    images.mkdir(parents=True, exist_ok=True)
    image = images / wanted.key
    if image.exists():
        print(f"Base image {wanted.key}: in the cache, reused", flush=True)
        return image
    with locked(images, "Waiting for another run to build its base image"):
        if not image.exists():
            _build(wanted, image)
    return image


def _build(wanted: Recipe, image: Path) -> None:
    """Build into a temporary folder and rename it when whole."""
    part = image.with_name(f".{wanted.key}.part")
    options = image.with_name(f".{wanted.key}.apt")
    remove_tree(part)
    options.write_text(wanted.apt_settings)
    argv = [
        "mmdebstrap",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(wanted.packages)}",
        f"--aptopt={options}",
        *(f"--customize-hook={hook}" for hook in wanted.customize),
        wanted.suite,
        str(part),
        *wanted.sources,
    ]
    print(f"Base image {wanted.key}: building with mmdebstrap, half a minute or so", flush=True)
    try:
        _stream(argv)
        part.rename(image)
    finally:
        options.unlink(missing_ok=True)
        remove_tree(part)


def _stream(argv: list[str]) -> None:
    """Run mmdebstrap, showing its progress lines with the time that has passed."""
    begun = time.monotonic()
    tail: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-14:], line.rstrip()[:_LINE]]
            if line.startswith("I: ") and "hook" not in line:
                print(f"  {time.monotonic() - begun:5.1f} s  {line[3:].rstrip()}", flush=True)
    if process.returncode != 0:
        said = "\n  ".join(tail)
        raise NodeError(f"mmdebstrap failed with exit status {process.returncode}. Its last lines:\n  {said}")


def remove_tree(folder: Path) -> None:
    """Remove a folder that may hold a root file system, staying on its own file system.

    Raises NodeError when something is mounted inside: removing would reach through it.
    """
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [point for point in mounts if point == str(folder) or point.startswith(f"{folder}/")]
    if inside:
        raise NodeError(f"{', '.join(inside)} is mounted inside {folder}; unmount it first (umount {inside[-1]}).")
    if folder.exists():
        run(["rm", "-rf", "--one-file-system", str(folder)])
