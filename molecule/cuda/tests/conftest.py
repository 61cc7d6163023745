"""What the tests of this scenario share: the role, run on both nodes at once, and questions to each node."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
FLEET = ROOT / ".nodes" / "molecule"
NAMES = ("bookworm", "trixie")
INSTALLED = "580.95.05"


@dataclass(frozen=True)
class Run:
    """One run of the role; ``text`` is its output with the white space folded."""

    code: int
    output: str

    @property
    def text(self) -> str:
        return " ".join(self.output.split())

    def counts(self, what: str) -> list[int]:
        """Return a number of the recap, such as changed or failed, for each node."""
        found = re.findall(rf"^(\w+) +: .*\b{what}=(\d+)", self.output, re.MULTILINE)
        assert sorted(name for name, _number in found) == sorted(NAMES), self.output
        return [int(number) for _name, number in found]


def role(*arguments: str, **variables: Any) -> Run:
    """Run the role on both nodes with the scenario's variables and those of a test."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}
    files = [ROOT / "molecule/cuda/vars/node.yml", FLEET / "nvidia.json"]
    command = ["ansible-playbook", "molecule/cuda/play.yml", "-i", str(FLEET / "hosts.yml")]
    command += [part for file in files for part in ("-e", f"@{file}")]
    command += ["-e", json.dumps({"cuda_driver_version": INSTALLED, **variables}), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300, check=False)
    return Run(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def nodes() -> list[Host]:
    """Both nodes; a test asks each, so that a run on both serves it."""
    return [testinfra.get_host(f"ssh://{name}", ssh_config=str(FLEET / "ssh_config")) for name in NAMES]


def boots(node: Host) -> int:
    """Return how often the node was started."""
    return len(node.check_output("journalctl --list-boots --quiet").splitlines())


def driver(node: Host) -> str:
    """Return the loaded driver as nvidia-smi tells it."""
    found = re.search(r"<driver_version>(.+)</driver_version>", node.run("nvidia-smi -q -x").stdout)
    return found[1] if found else ""


def version(node: Host, package: str) -> str:
    """Return an installed package's version, and whether it is held."""
    said: str = node.check_output("dpkg-query -W -f '${Version} ${db:Status-Want}' %s", package)
    return said
