"""What the scenarios of the drivers' roles share: a role, run on both nodes at once, and questions to a node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import testinfra
from testinfra.host import Host

from tests.deployments import FLEET, Run, run_playbook

NAMES = ("bookworm", "trixie")


def role(scenario: str, files: Sequence[str], *arguments: str, **variables: Any) -> Run:
    """Run the role of a scenario on both nodes with its variables, those of ``files`` of the fleet, and these."""
    given = [f"@molecule/{scenario}/vars/node.yml", *(f"@{FLEET / name}" for name in files)]
    extra = [part for one in given for part in ("-e", one)]
    return run_playbook(f"molecule/{scenario}/play.yml", *extra, *arguments, extra=variables)


def counts(run: Run, what: str) -> list[int]:
    """Return a number of the recap, such as changed or failed, for each node."""
    found = re.findall(rf"^(\w+) +: .*\b{what}=(\d+)", run.output, re.MULTILINE)
    assert sorted(name for name, _number in found) == sorted(NAMES), run.output
    return [int(number) for _name, number in found]


def both() -> list[Host]:
    """Both nodes; a test asks each, so that a run on both serves it."""
    return [testinfra.get_host(f"ssh://{name}", ssh_config=str(FLEET / "ssh_config")) for name in NAMES]


def boots(node: Host) -> int:
    """Return how often the node was started."""
    return len(node.check_output("journalctl --list-boots --quiet").splitlines())


def version(node: Host, package: str) -> str:
    """Return an installed package's version, and whether it is held."""
    said: str = node.check_output("dpkg-query -W -f '${Version} ${db:Status-Want}' %s", package)
    return said
