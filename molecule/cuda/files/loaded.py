"""The stand-in driver's state, as all stand-ins read it: versions of the parts, and what was loaded at boot."""

from pathlib import Path

INSTALLED = Path("/usr/share/nvidia-stand-in")
RUNNING = Path("/run/nvidia-stand-in")


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def library() -> str:
    return read(INSTALLED / "library")


def loaded() -> str:
    return read(RUNNING / "loaded")


def fabric() -> str:
    return read(RUNNING / "fabric")
