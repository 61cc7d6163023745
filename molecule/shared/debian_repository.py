"""Makes signed repositories of small Debian packages, for scenarios that need one. Needs dpkg-deb and gpg."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path


@dataclass
class Package:
    """One package: files by their path (a text, or a file of this machine) and links by theirs."""

    name: str
    version: str
    depends: str = ""
    files: dict[str, str | Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    programs: tuple[str, ...] = ()


def service(command: str, kind: str = "exec", after: str = "") -> str:
    """The unit of a service."""
    unit = f"[Unit]\nAfter={after}\n" if after else ""
    return f"{unit}[Service]\nType={kind}\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n"


def build(package: Package, folder: Path) -> None:
    """Build one package with dpkg-deb."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        for path, content in package.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_text(content)
            target.chmod(0o755 if path.startswith("usr/bin/") or path in package.programs else 0o644)
        for path, goal in package.links.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(goal)
        (root / "DEBIAN").mkdir(parents=True)
        depends = f"Depends: {package.depends}\n" if package.depends else ""
        (root / "DEBIAN/control").write_text(
            f"Package: {package.name}\nVersion: {package.version}\nArchitecture: all\n{depends}"
            "Maintainer: nobody <nobody@example.com>\nDescription: stand-in for a test\n"
        )
        root.chmod(0o755)
        # Without the epoch, as archives do.
        deb = folder / f"{package.name}_{package.version.rpartition(':')[2]}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "--root-owner-group", "-Znone", root, deb], check=True, stdout=subprocess.DEVNULL
        )


class Key:
    """A key made here and thrown away."""

    def __init__(self, home: str) -> None:
        options = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]
        self._gpg = ["gpg", "--homedir", home, *options, "--passphrase", ""]
        subprocess.run([*self._gpg, "--quick-generate-key", "stand-in", "rsa2048", "sign", "1w"], check=True)

    @property
    def fingerprint(self) -> str:
        listed = subprocess.run(
            [*self._gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True
        )
        return next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:"))

    def export(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*self._gpg, "--armor", "--output", path, "--export"], check=True)

    def sign(self, folder: Path) -> None:
        """Write InRelease from Release."""
        subprocess.run([*self._gpg, "--clearsign", "--output", folder / "InRelease", folder / "Release"], check=True)


@contextmanager
def key() -> Iterator[Key]:
    """A key for as long as it is needed."""
    with tempfile.TemporaryDirectory() as home:
        yield Key(home)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def flat(folder: Path, signing: Key) -> None:
    """Write the index of a flat repository, whose packages lie in the folder itself."""
    _release(folder, _packages(folder, folder), "", {}, signing)


def suites(folder: Path, names: Sequence[str], signing: Key) -> None:
    """Write the index of a repository with suites that all hold the packages in the folder ``pool``."""
    text = _packages(folder / "pool", folder)
    for name in names:
        fields = {"Suite": name, "Codename": name, "Components": "main", "Architectures": "amd64"}
        _release(folder / "dists" / name, text, "main/binary-amd64/", fields, signing)


def _packages(pool: Path, root: Path) -> bytes:
    entries = []
    for deb in sorted(pool.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
        data = deb.read_bytes()
        name = deb.relative_to(root)
        entries.append(f"{control}Filename: ./{name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
    return "\n".join(entries).encode()


def _release(folder: Path, packages: bytes, below: str, fields: Mapping[str, str], signing: Key) -> None:
    (folder / below).mkdir(parents=True, exist_ok=True)
    more = "".join(f"{name}: {value}\n" for name, value in fields.items())
    lines = [f"Origin: stand-in\nLabel: stand-in\n{more}Date: {formatdate(usegmt=True)}\nSHA256:"]
    for name, data in (("Packages", packages), ("Packages.gz", gzip.compress(packages))):
        (folder / below / name).write_bytes(data)
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {below}{name}")
    (folder / "Release").write_text("\n".join(lines) + "\n")
    signing.sign(folder)
