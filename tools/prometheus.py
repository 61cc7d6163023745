#!/usr/bin/env python3
"""Make sure that there are a Prometheus and a promtool for the tests: Debian's, unpacked and not installed.

They lie in the cache folder, so no service is started, and serve every checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"prometheus.py: needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.nodes.errors import NodeError
from tools.nodes.image import cache_folder

PROGRAMS = ("prometheus", "promtool")


def find() -> Path | None:
    """The folder of the programs: that on PATH, or that of the cache; None where there is neither."""
    on_path = [shutil.which(name) for name in PROGRAMS]
    if all(on_path):
        return Path(str(on_path[0])).parent
    kept = cache_folder() / "prometheus/usr/bin"
    return kept if all((kept / name).exists() for name in PROGRAMS) else None


def ensure() -> Path:
    """Fetch the programs where they are missing, and return their folder. Raises NodeError when that fails."""
    found = find()
    if found:
        return found
    if shutil.which("apt-get") is None:
        raise NodeError("This machine lacks prometheus and promtool; put those of a Prometheus 2.42 or newer on PATH.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # apt's own user cannot write to a folder of root's.
        download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", "prometheus"]
        if subprocess.run(download, cwd=folder, check=False, capture_output=True).returncode != 0:
            if os.geteuid() != 0:
                raise NodeError(f"`{' '.join(download)}` failed. Run apt-get update as root, then this again.")
            for argv in (["apt-get", "update", "-q"], download):
                if subprocess.run(argv, cwd=folder, check=False).returncode != 0:
                    raise NodeError(f"`{' '.join(argv)}` failed; its own words are above.")
        (package,) = folder.glob("prometheus_*.deb")
        unpacked = Path(tempfile.mkdtemp(dir=_made(cache_folder())))
        subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
        unpacked.chmod(0o755)
        kept = cache_folder() / "prometheus"
        shutil.rmtree(kept, ignore_errors=True)
        unpacked.rename(kept)
    return kept / "usr/bin"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> int:
    """Print the folder of the programs; the exit status is 1 for a fault told in a sentence."""
    try:
        print(ensure())
    except NodeError as error:
        print(f"prometheus.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
