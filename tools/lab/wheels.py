"""A folder of wheels as an index for a host without a network: its pinned list, the installer, wheels packed again."""

from __future__ import annotations

import hashlib
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.lab.machine import LabError

LIST = "requirements.txt"
# In the folder for the playbooks and the installer, not for the engine.
NOT_OF_THE_ENGINE = ("ansible-core", "resolvelib", "uv")
_READ = 1 << 22


def normal(name: str) -> str:
    """A package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(file_name: str) -> tuple[str, str]:
    """Name and version of a wheel, from its file name. Raises LabError for what is no wheel."""
    parts = file_name.removesuffix(".whl").split("-")
    if not file_name.endswith(".whl") or len(parts) not in (5, 6):
        raise LabError(f"{file_name} is not the name of a wheel (NAME-VERSION-PYTHON-ABI-PLATFORM.whl).")
    return normal(parts[0]), parts[1]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ):
            found.update(block)
    return found.hexdigest()


def requirements(digests: Iterable[tuple[str, str]]) -> str:
    """The pinned list with hashes, of (file name, SHA-256). Raises LabError where a package has two versions."""
    lines: dict[str, str] = {}
    for file_name, sha256 in sorted(digests):
        name, version = named(file_name)
        if name in lines:
            raise LabError(f"The folder has two wheels of {name}: keep one.")
        lines[name] = f"{name}=={version} --hash=sha256:{sha256}\n"
    return "".join(lines[name] for name in sorted(lines))


def write_list(folder: Path) -> Path:
    """Write the list of the engine's wheels of a folder into it. Raises LabError where there are none."""
    found = [path for path in sorted(folder.glob("*.whl")) if named(path.name)[0] not in NOT_OF_THE_ENGINE]
    if not found:
        raise LabError(f"{folder} has no wheels.")
    # hashlib lets other threads run while it works
    with ThreadPoolExecutor() as pool:
        digests = list(zip((path.name for path in found), pool.map(digest, found)))
    path = folder / LIST
    path.write_text(requirements(digests), encoding="utf-8")
    return path


def wheel_name(name: str, version: str, tags: Sequence[str]) -> str:
    """The file name of a wheel of a package that says these tags in its WHEEL file."""
    pythons, abis, platforms = (sorted({tag.split("-")[at] for tag in tags}) for at in range(3))
    return f"{re.sub('[-_.]+', '_', name)}-{version}-{'.'.join(pythons)}-{'.'.join(abis)}-{'.'.join(platforms)}.whl"


def recorded(text: str) -> list[str]:
    """The files of a package by its RECORD: what a wheel holds, without what an installer added."""
    places = [line.rsplit(",", 2)[0].strip('"') for line in text.splitlines() if line.strip()]
    added = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
    return [
        place
        for place in places
        if not place.startswith(("..", "/")) and "__pycache__" not in place and Path(place).name not in added
    ]


def repack(site: Path, name: str, into: Path) -> Path:
    """Make a wheel of a package that lies in a folder of installed ones. Raises LabError where it is not there."""
    infos = [path for path in site.glob("*.dist-info") if normal(path.name.split("-")[0]) == normal(name)]
    if len(infos) != 1:
        raise LabError(f"{site} has {len(infos)} installed packages called {name}; one is needed.")
    (info,) = infos
    tags = [line[4:].strip() for line in (info / "WHEEL").read_text().splitlines() if line.startswith("Tag:")]
    path = into / wheel_name(name, info.name.removesuffix(".dist-info").split("-")[1], tags)
    record = (info / "RECORD").read_text()
    pack(site, recorded(record), path, {f"{info.name}/RECORD": rewritten(record, recorded(record))})
    return path


def rewritten(record: str, places: Sequence[str]) -> str:
    """A RECORD with the lines of these files only."""
    kept = set(places)
    return "".join(f"{line}\n" for line in record.splitlines() if line.rsplit(",", 2)[0].strip('"') in kept)


def pack(folder: Path, places: Iterable[str], wheel: Path, texts: Mapping[str, str]) -> None:
    """Write a wheel, without compression, of files below a folder; some get another text."""
    part = wheel.with_name(f"{wheel.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for place in places:
            if place in texts:
                archive.writestr(place, texts[place])
            else:
                archive.write(folder / place, place)
    part.rename(wheel)


def site_packages(python: str) -> Path:
    """Where an interpreter has its packages. Raises LabError."""
    done = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    if done.returncode:
        raise LabError(f"{python} does not run: {done.stderr.strip()}")
    return Path(done.stdout.strip())


def installer(folder: Path, into: Path) -> Path:
    """Take the program uv out of its wheel. Raises LabError where the folder has none."""
    found = sorted(folder.glob("uv-*.whl"))
    if not found:
        raise LabError(f"{folder} has no wheel of uv, which installs the others.")
    with zipfile.ZipFile(found[-1]) as archive:
        place = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        into.write_bytes(archive.read(place))
    into.chmod(0o755)
    return into
