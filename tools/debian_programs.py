#!/usr/bin/env python3
"""Make sure that programs of a Debian package are there for the tests: unpacked and not installed.

Run: python tools/debian_programs.py prometheus haproxy. They lie in the cache folder, so no service is started, and
serve every checkout.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"debian_programs.py: needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.nodes.errors import NodeError
from tools.nodes.image import cache_folder


@dataclass(frozen=True)
class Package:
    """What a package has: its programs, their folder in it, and the oldest version that the tests know."""

    programs: tuple[str, ...]
    folder: str
    oldest: str
    needs_libraries: bool = False


PACKAGES = {
    "prometheus": Package(("prometheus", "promtool"), "usr/bin", "2.42"),
    "haproxy": Package(("haproxy",), "usr/sbin", "2.6", needs_libraries=True),
}


def find(name: str) -> Path | None:
    """The folder of a package's programs: that on PATH, or that of the cache; None where there is neither."""
    package = PACKAGES[name]
    on_path = [shutil.which(one, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") for one in package.programs]
    if all(on_path):
        return Path(str(on_path[0])).parent
    kept = cache_folder() / name / "bin"
    return kept if all((kept / one).exists() for one in package.programs) else None


def ensure(name: str) -> Path:
    """Fetch the programs where they are missing, and return their folder. Raises NodeError when that fails."""
    found = find(name)
    if found:
        return found
    package = PACKAGES[name]
    if shutil.which("apt-get") is None:
        wanted = " and ".join(package.programs)
        raise NodeError(f"This machine lacks {wanted}; put {wanted} of {name} {package.oldest} or newer on PATH.")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        _download(name, package.needs_libraries, Path(scratch))
        unpacked = Path(tempfile.mkdtemp(dir=cache_folder()))
        for archive in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(unpacked)], check=True)
    unpacked.chmod(0o755)
    kept = cache_folder() / name
    _starters(package, unpacked, kept)
    shutil.rmtree(kept, ignore_errors=True)
    unpacked.rename(kept)
    return kept / "bin"


def _download(name: str, with_libraries: bool, folder: Path) -> None:
    """Download a package, and those that it needs and this machine lacks where its programs need libraries."""
    if _downloaded(name, with_libraries, folder):
        return
    if os.geteuid() != 0:
        raise NodeError(f"`apt-get download {name}` failed. Run apt-get update as root, then this again.")
    if subprocess.run(["apt-get", "update", "-q"], check=False).returncode != 0:
        raise NodeError("`apt-get update -q` failed; its own words are above.")
    if not _downloaded(name, with_libraries, folder):
        raise NodeError(f"`apt-get download {name}` failed, also after apt-get update.")


def _downloaded(name: str, with_libraries: bool, folder: Path) -> bool:
    wanted = {name}
    if with_libraries:
        simulate = ["apt-get", "install", "--simulate", "--no-install-recommends", name]
        simulated = subprocess.run(simulate, check=False, capture_output=True, text=True)
        wanted.update(re.findall(r"^Inst (\S+)", simulated.stdout, re.MULTILINE))
    # apt's own user cannot write to a folder of root's.
    download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", *sorted(wanted)]
    return subprocess.run(download, cwd=folder, check=False, capture_output=True).returncode == 0


def _starters(package: Package, unpacked: Path, kept: Path) -> None:
    """Write a starter of each program that has it find the libraries which came with it."""
    (unpacked / "bin").mkdir()
    libraries = ":".join(str(kept / one.relative_to(unpacked)) for one in unpacked.glob("usr/lib/*-linux-gnu"))
    environment = f"LD_LIBRARY_PATH='{libraries}' " if libraries else ""
    for program in package.programs:
        starter = unpacked / "bin" / program
        command = f"{environment}exec '{kept / package.folder / program}' \"$@\""
        starter.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        starter.chmod(0o755)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the folders of the programs; the exit status is 1 for a fault told in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="+", choices=sorted(PACKAGES))
    for name in parser.parse_args(arguments).package:
        try:
            print(ensure(name))
        except NodeError as error:
            print(f"debian_programs.py: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
