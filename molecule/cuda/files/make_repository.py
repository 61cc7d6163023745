"""Make a signed package repository of stand-ins: `make_repository.py FILE.tar KERNEL`. See README.md beside this file.

The tar file holds the packages, Packages, Release, InRelease, and key.pub, whose fingerprint is printed. Needs dpkg-deb
and gpg.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

FILES = Path(__file__).resolve().parent
sys.path.insert(0, str(FILES.parents[1] / "shared"))
from debian_repository import Package, build, flat, key, service  # noqa: E402

RECORDING = FILES.parents[2] / "tests/unit/fixtures/hosts/h100-nvswitch"
VERSIONS = ("580.95.05", "580.105.08", "590.48.01")
HELPER = "usr/lib/nvidia-stand-in"
DATA = "usr/share/nvidia-stand-in"
MODULE = "nvidia-stand-in-module.service"


def packages_of(version: str) -> list[Package]:
    """The driver of one version and what must be of that version."""
    full, units = f"{version}-1", "usr/lib/systemd/system"
    load = f"/bin/sh -c 'mkdir -p /run/nvidia-stand-in; cp /{DATA}/module /run/nvidia-stand-in/loaded'"
    recording = {f"{DATA}/recording/{file.name}": file for file in RECORDING.glob("nvidia-smi-*")}
    return [
        Package("libcuda1", full),
        Package("libnvidia-nscq", full),
        Package(
            "nvidia-kernel-open-dkms",
            full,
            files={
                f"{DATA}/module": f"{version}\n",
                f"{units}/nvidia-stand-in-module.service": service(load, "oneshot"),
            },
            # Enabled by the package, and started by nothing but the next boot.
            links={
                f"{units}/multi-user.target.wants/nvidia-stand-in-module.service": "../nvidia-stand-in-module.service"
            },
        ),
        Package(
            "nvidia-driver-cuda",
            full,
            depends=f"python3, libcuda1 (= {full}), nvidia-kernel-open-dkms (= {full})",
            files={
                f"{DATA}/library": f"{version}\n",
                f"{HELPER}/loaded.py": FILES / "loaded.py",
                "usr/bin/nvidia-smi": FILES / "nvidia-smi",
                **recording,
            },
        ),
        Package(
            "nvidia-persistenced",
            full,
            depends="nvidia-driver-cuda",
            files={
                f"{units}/nvidia-persistenced.service": service(
                    "/bin/sh -c 'test -e /run/nvidia-stand-in/loaded && exec sleep infinity'", after=MODULE
                )
            },
        ),
        Package(
            "nvidia-fabricmanager",
            full,
            files={
                f"{DATA}/fabric-manager": f"{version}\n",
                "usr/bin/nv-fabricmanager": FILES / "nv-fabricmanager",
                f"{units}/nvidia-fabricmanager.service": service("/usr/bin/nv-fabricmanager", after=MODULE),
            },
        ),
        Package(
            "nvidia-imex",
            full,
            files={
                "etc/nvidia-imex/config.cfg": "",
                f"{units}/nvidia-imex.service": service(
                    "/bin/sh -c 'test -s /etc/nvidia-imex/nodes_config.cfg && exec sleep infinity'", after=MODULE
                ),
            },
        ),
    ]


def main() -> None:
    archive, kernel = Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as scratch, key() as signing:
        folder = Path(scratch)
        build(Package(f"linux-headers-{kernel}", "1"), folder)
        for version in VERSIONS:
            for package in packages_of(version):
                build(package, folder)
        flat(folder, signing)
        signing.export(folder / "key.pub")
        folder.chmod(0o755)
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, ".")
        print(signing.fingerprint)


if __name__ == "__main__":
    main()
