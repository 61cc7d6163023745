"""Make a signed package repository of stand-ins: `make_repository.py FILE.tar KERNEL`. See README.md beside this file.

The tar file holds the packages, Packages, Release, InRelease, and key.pub, whose fingerprint is printed. Needs dpkg-deb
and gpg.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

FILES = Path(__file__).resolve().parent
RECORDING = FILES.parents[2] / "tests/unit/fixtures/hosts/h100-nvswitch"
VERSIONS = ("580.95.05", "580.105.08", "590.48.01")
HELPER = "usr/lib/nvidia-stand-in"
DATA = "usr/share/nvidia-stand-in"


@dataclass
class Package:
    """One package: files by their path (a text, or a file of this machine) and links by theirs."""

    name: str
    version: str
    depends: str = ""
    files: dict[str, str | Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def service(command: str, kind: str = "exec") -> str:
    return f"[Service]\nType={kind}\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n"


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
                    "/bin/sh -c 'test -e /run/nvidia-stand-in/loaded && exec sleep infinity'"
                ).replace("[Service]", "[Unit]\nAfter=nvidia-stand-in-module.service\n[Service]")
            },
        ),
        Package(
            "nvidia-fabricmanager",
            full,
            files={
                f"{DATA}/fabric-manager": f"{version}\n",
                "usr/bin/nv-fabricmanager": FILES / "nv-fabricmanager",
                f"{units}/nvidia-fabricmanager.service": service("/usr/bin/nv-fabricmanager").replace(
                    "[Service]", "[Unit]\nAfter=nvidia-stand-in-module.service\n[Service]"
                ),
            },
        ),
    ]


def build(package: Package, folder: Path) -> None:
    """Build one package with dpkg-deb."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        for path, content in package.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_text(content)
            target.chmod(0o755 if path.startswith("usr/bin/") else 0o644)
        for path, goal in package.links.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(goal)
        (root / "DEBIAN").mkdir(parents=True)
        depends = f"Depends: {package.depends}\n" if package.depends else ""
        (root / "DEBIAN/control").write_text(
            f"Package: {package.name}\nVersion: {package.version}\nArchitecture: all\n{depends}"
            "Maintainer: nobody <nobody@example.com>\nDescription: stand-in, not NVIDIA's\n"
        )
        root.chmod(0o755)
        deb = folder / f"{package.name}_{package.version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", "-Znone", root, deb], check=True, stdout=subprocess.DEVNULL
        )


def index(folder: Path) -> None:
    """Write Packages and Release of a flat repository."""
    entries = []
    for deb in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
        data = deb.read_bytes()
        entries.append(
            f"{control}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
    text = "\n".join(entries).encode()
    files = {"Packages": text, "Packages.gz": gzip.compress(text)}
    lines = [f"Origin: stand-in\nLabel: stand-in\nDate: {formatdate(usegmt=True)}\nSHA256:"]
    for name, data in files.items():
        (folder / name).write_bytes(data)
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    (folder / "Release").write_text("\n".join(lines) + "\n")


def sign(folder: Path) -> str:
    """Sign with a key made here and thrown away; returns its fingerprint."""
    with tempfile.TemporaryDirectory() as home:
        gpg = [
            "gpg",
            "--homedir",
            home,
            "--batch",
            "--yes",
            "--quiet",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ]
        subprocess.run([*gpg, "--quick-generate-key", "stand-in", "rsa2048", "sign", "1w"], check=True)
        listed = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True)
        subprocess.run([*gpg, "--armor", "--output", folder / "key.pub", "--export"], check=True)
        subprocess.run([*gpg, "--clearsign", "--output", folder / "InRelease", folder / "Release"], check=True)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    return next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:"))


def main() -> None:
    archive, kernel = Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        build(Package(f"linux-headers-{kernel}", "1"), folder)
        for version in VERSIONS:
            for package in packages_of(version):
                build(package, folder)
        index(folder)
        fingerprint = sign(folder)
        folder.chmod(0o755)
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, ".")
    print(fingerprint)


if __name__ == "__main__":
    main()
