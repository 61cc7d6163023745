#!/usr/bin/env python3
"""Make the lists that the role engine installs releases of vLLM from, or check those that are there.

Run: python tools/locks.py [--check] [cuda=0.33.0 ...]. By default the default version of each build, for each Python
that vLLM supports. PyPI is asked; a build whose packages lie elsewhere has no list.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import tomllib

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / ".collections")]

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import locks  # noqa: E402

from tools import lock_text, wheel_files  # noqa: E402
from tools.engine_venv import engine_variables  # noqa: E402
from tools.nodes.errors import NodeError  # noqa: E402
from tools.nodes.image import cache_folder  # noqa: E402
from tools.nodes.registries import PipSettings  # noqa: E402
from tools.nodes.root import read_pip_settings  # noqa: E402

FOLDER = CHECKOUT / "roles/engine/files/locks"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
MACHINE = "x86_64"
# glibc of RHEL 9, the oldest of the distributions; a newer host may have a wheel of its own, whose hash is there too.
GLIBC = 34
NEWEST_GLIBC = 39
# What PyPI's torch needs for CUDA, and a build for processors does not.
CUDA_ONLY = ("nvidia-", "cuda-", "triton")


def uv(version: str) -> Path:
    """The installer of the role, kept in the cache folder."""
    venv = cache_folder() / f"uv-{version}"
    if not (venv / "bin/uv").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "--quiet", f"uv=={version}"], check=True)
    return venv / "bin/uv"


class Maker:
    """Makes the list of one release."""

    def __init__(self, variables: dict[str, Any], variant: str, version: str) -> None:
        self.about = variables["__engine_variants"][variant]
        self.variant, self.version = variant, version
        self.program = uv(variables["__engine_uv_version"])
        self.uv_version = variables["__engine_uv_version"]
        self.settings: PipSettings = read_pip_settings()

    def resolved(self, python: tuple[int, int], overrides: list[str]) -> list[dict[str, Any]]:
        """What uv resolves the release to: the packages of a pylock.toml (PEP 751). Raises NodeError."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            wanted = {
                "requirements.txt": [f"{name}=={self.version}" for name in self.about["requirements"]],
                "constraints.txt": locks.constraints(self.version, self.variant),
                "overrides.txt": overrides,
            }
            for name, lines in wanted.items():
                (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            command = [
                *(str(self.program), "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-config"),
                *("--system-certs", "--only-binary=:all:", "--format=pylock.toml"),
                f"--python-version={python[0]}.{python[1]}",
                f"--python-platform={MACHINE}-manylinux_2_{GLIBC}",
                f"--constraint={folder / 'constraints.txt'}",
                f"--override={folder / 'overrides.txt'}",
                f"--output-file={folder / 'pylock.toml'}",
                str(folder / "requirements.txt"),
            ]
            if self.settings.index_url:
                command.append(f"--default-index={self.settings.index_url}")
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NodeError(f"{self.variant} {self.version} cannot be resolved:\n{done.stderr.strip()}")
            found: list[dict[str, Any]] = tomllib.loads((folder / "pylock.toml").read_text(encoding="utf-8"))[
                "packages"
            ]
            return found

    def packages(self, python: tuple[int, int]) -> list[dict[str, Any]]:
        """The packages of the release; a torch that PyPI has not got comes without wheels."""
        left_out = [*self.about.get("excluded", [])]
        if "torch" not in self.about:
            return self.resolved(python, [_left_out(name) for name in left_out])
        torch = f"torch=={self.about['torch'].partition('+')[0]}"
        first = self.resolved(python, [torch, *map(_left_out, left_out)])
        left_out += [one["name"] for one in first if one["name"].startswith(CUDA_ONLY)]
        found = self.resolved(python, [torch, *map(_left_out, left_out)])
        return [
            {"name": "torch", "version": self.about["torch"], "wheels": []} if one["name"] == "torch" else one
            for one in found
        ]

    def text(self, python: tuple[int, int]) -> str:
        """The list. Raises NodeError where two packages hold the same file."""
        entries, best = [], {}
        for one in self.packages(python):
            wheels = {unquote(Path(urlsplit(wheel["url"]).path).name): wheel for wheel in one["wheels"]}
            usable = wheel_files.ranked(wheels, python, MACHINE, NEWEST_GLIBC)
            entries.append(
                lock_text.Package(
                    one["name"], one["version"], tuple(wheels[name]["hashes"]["sha256"] for name in usable)
                )
            )
            for name in wheel_files.ranked(wheels, python, MACHINE, GLIBC)[:1]:
                best[one["name"]] = wheels[name]
        bare = {one.name for one in entries if not one.hashes} - ({"torch"} if "torch" in self.about else set())
        if bare:
            raise NodeError(f"PyPI has no wheel for Linux {MACHINE} of: {', '.join(sorted(bare))}.")
        digests = {wheel["hashes"]["sha256"]: (wheel["url"], wheel["size"]) for wheel in best.values()}
        contents = wheel_files.all_files(digests, cache_folder() / "wheel-files")
        owners = {name: contents[wheel["hashes"]["sha256"]] for name, wheel in best.items()}
        all_shared = wheel_files.shared(owners)
        twice = locks.harmful(all_shared)
        if twice:
            shown = "".join(f"  {file}: {', '.join(names)}\n" for file, names in list(twice.items())[:20])
            raise NodeError(
                f"{self.variant} {self.version}, Python {python[0]}.{python[1]}: {len(twice)} files are of two "
                f"packages, and whichever is written last wins:\n{shown}Pin one of them in decide/locks.py."
            )
        facts = {
            "resolved": datetime.now(timezone.utc).date().isoformat(),
            "installer": f"uv {self.uv_version}",
            "packages": len(entries),
            lock_text.NO_HASH: ", ".join(sorted(one.name for one in entries if not one.hashes)) or "none",
            "download_mib": sum(wheel["size"] for wheel in best.values()) // 1024**2,
            "unpacked_mib": sum(sum(found.values()) for found in owners.values()) // 1024**2,
            "files": sum(len(found) for found in owners.values()),
            "files_of_two_packages": len(twice),
            "of_two_but_never_imported": ", ".join(sorted(set(all_shared) - set(twice))) or "none",
        }
        title = f"vLLM {self.version}, {self.variant}, Python {python[0]}.{python[1]}, Linux {MACHINE}."
        return lock_text.text(entries, title, facts)


def _left_out(name: str) -> str:
    # A condition that never holds is how uv leaves a dependency out.
    return f'{name}; python_version < "3"'


def wanted_releases(variables: dict[str, Any], asked: list[str]) -> list[tuple[str, str]]:
    """Variant and version of the releases that get lists."""
    if asked:
        return [(variant, version) for variant, _equals, version in (one.partition("=") for one in asked)]
    # Wheels for ROCm lie on an index of their own for each release.
    return [
        (name, about["version"]) for name, about in variables["__engine_variants"].items() if not about.get("suffix")
    ]


def file_of(variant: str, version: str, python: tuple[int, int]) -> Path:
    """Where a list lies."""
    return FOLDER / f"{version}-{variant}-py{python[0]}.{python[1]}-{MACHINE}.txt"


def check(releases: list[tuple[str, str]]) -> list[str]:
    """What is wrong with the lists that are there, and which are missing."""
    wanted = [file_of(*one, python) for one in releases for python in PYTHONS]
    found = [f"{path.name}: it is missing; make it with `make locks`" for path in wanted if not path.exists()]
    for path in sorted(FOLDER.glob("*.txt")):
        found.extend(f"{path.name}: {problem}" for problem in lock_text.problems(path.read_text(encoding="utf-8")))
    return found


def main() -> int:
    """Make or check; the exit status is 1 for a fault told in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say what is wrong; asks nobody")
    parser.add_argument("releases", nargs="*", metavar="VARIANT=VERSION", help="such as cuda=0.33.0")
    given = parser.parse_args()
    variables = engine_variables()
    releases = wanted_releases(variables, given.releases)
    if given.check:
        found = check(releases)
        print("\n".join(found) or f"{len(list(FOLDER.glob('*.txt')))} lists, nothing wrong.")
        return 1 if found else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        for variant, version in releases:
            maker = Maker(variables, variant, version)
            for python in PYTHONS:
                path = file_of(variant, version, python)
                text = maker.text(python)
                scratch = path.with_suffix(".new")
                scratch.write_text(text, encoding="utf-8")
                shutil.move(scratch, path)
                said = lock_text.facts(text)
                print(f"{path.name}: {said['packages']} packages, {said['download_mib']} MiB", flush=True)
    except NodeError as error:
        print(f"locks.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
