#!/usr/bin/env python3
"""Make .venv from a file of pinned requirements, or leave it alone when it has them already."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"venv.py: ansible-core 2.19 needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.nodes import host
from tools.nodes.errors import NodeError
from tools.steps import stream

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
# The second is the first and more.
RUNTIME = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"


def digest(text: bytes) -> str:
    """What stands for the content of a requirements file."""
    return hashlib.sha256(text).hexdigest()


def decide(wanted: str, installed: dict[str, str], current: dict[str, str]) -> str:
    """`keep`, `add` or `remake`, from the files installed into .venv and the files as they are now.

    Both map a file's name to its digest. A file that has changed since means to start afresh.
    """
    if any(current.get(name) != was for name, was in installed.items()):
        return "remake"
    return "keep" if wanted in installed or (wanted == RUNTIME and DEVELOPMENT in installed) else "add"


def ensure(wanted: str) -> None:
    """Bring .venv to what `wanted` says. Raises NodeError when that fails."""
    record = VENV / "installed.json"
    current = {name: digest((CHECKOUT / name).read_bytes()) for name in (RUNTIME, DEVELOPMENT)}
    installed = json.loads(record.read_text()) if record.exists() else {}
    action = decide(wanted, installed, current)
    if action == "keep" and (VENV / "bin/python").exists():
        print(f".venv: has {wanted} already, reused", flush=True)
        return
    if action == "remake" or not installed or not (VENV / "bin/python").exists():
        installed = {}
        shutil.rmtree(VENV, ignore_errors=True)
        missing = [] if importlib.util.find_spec("ensurepip") else ["python3-venv"]
        host.require_packages(missing, install=os.geteuid() == 0)
        print(".venv: making it", flush=True)
        stream([sys.executable, "-m", "venv", str(VENV)], show=False)
    print(f".venv: installing {wanted}", flush=True)
    stream([str(VENV / "bin/python"), "-m", "pip", "install", "--quiet", "-r", str(CHECKOUT / wanted)], show=False)
    record.write_text(json.dumps({**installed, wanted: current[wanted]}))


def main() -> int:
    """Parse the command line; the exit status is 1 for a fault told in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", choices=(RUNTIME, DEVELOPMENT))
    try:
        ensure(parser.parse_args().requirements)
    except NodeError as error:
        print(f"venv.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
