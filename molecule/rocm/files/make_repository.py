"""Make AMD's two repositories of stand-ins: `make_repository.py FILE.tar KERNEL`. See README.md beside this file.

The tar file holds what https://repo.radeon.com has below amdgpu and rocm, for the versions named here, signed with a
key whose fingerprint is printed. Needs dpkg-deb and gpg.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

FILES = Path(__file__).resolve().parent
sys.path.insert(0, str(FILES.parents[1] / "shared"))
from debian_repository import Package, build, key, service, suites  # noqa: E402

RECORDING = FILES.parents[2] / "tests/unit/fixtures/hosts/mi300x"
SUITES = ("jammy", "noble")
# Releases of the driver and of ROCm, with what AMD writes into the versions of their packages.
DRIVERS = {"30.30.2": ("6.16.12", "30300200"), "30.30.3": ("6.16.13", "30300300")}
ROCM = {"7.2.1": "70201", "7.2.3": "70203"}
DATA = "usr/share/amd-stand-in"
MODULE = "amd-stand-in-module.service"
EMPTY = ("rocm-libs", "hip-runtime-amd", "rocminfo", "rocprofiler-sdk", "hsa-amd-aqlprofile")


def driver(module: str, code: str, kernel: str) -> list[Package]:
    """The driver of one release."""
    units = "usr/lib/systemd/system"
    run = "/run/amd-stand-in"
    load = f"/bin/sh -c 'mkdir -p {run}; cp /{DATA}/module {run}/loaded; ln -sf /dev/null /dev/kfd'"
    return [
        Package(f"linux-headers-{kernel}", "1"),
        Package(
            "amdgpu-dkms",
            f"1:{module}.{code}-1.22.04",
            files={f"{DATA}/module": f"{module}\n", f"{units}/{MODULE}": service(load, "oneshot")},
            # Enabled by the package, and started by nothing but the next boot.
            links={f"{units}/multi-user.target.wants/{MODULE}": f"../{MODULE}"},
        ),
    ]


def rocm(release: str, code: str) -> list[Package]:
    """What of ROCm the role installs, in one release, and OpenMPI, which is the distribution's."""
    recording = {f"{DATA}/recording/{file.name}": file for file in RECORDING.glob("amd-smi-*")}
    core = f"rocm-core (= {release}.{code}-1~22.04)"
    return [
        *(Package(name, f"1.0.{code}-1~22.04", depends=core) for name in EMPTY),
        Package("rocm-core", f"{release}.{code}-1~22.04", files={"opt/rocm/.info/version": f"{release}-1\n"}),
        Package(
            "amd-smi-lib",
            f"26.2.{code}-1~22.04",
            depends=f"python3, {core}",
            files={"opt/rocm/bin/amd-smi": FILES / "amd-smi", **recording},
            programs=("opt/rocm/bin/amd-smi",),
        ),
        Package("libopenmpi3", "4"),
        Package("libopenmpi40", "5"),
    ]


def main() -> None:
    archive, kernel = Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as scratch, key() as signing:
        root = Path(scratch)
        folders = {root / "amdgpu" / release / "ubuntu": driver(*of, kernel) for release, of in DRIVERS.items()}
        folders.update({root / "rocm/apt" / release: rocm(release, code) for release, code in ROCM.items()})
        for folder, packages in folders.items():
            for package in packages:
                build(package, folder / "pool")
            suites(folder, SUITES, signing)
        signing.export(root / "rocm/rocm.gpg.key")
        root.chmod(0o755)
        with tarfile.open(archive, "w") as tar:
            tar.add(root, ".")
        print(signing.fingerprint)


if __name__ == "__main__":
    main()
