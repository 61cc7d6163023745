"""What the tests of this scenario share: a reboot, and what is seen of the instance afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.deployments import FLEET, Run, run_playbook

VARIABLES = Path(__file__).resolve().parents[1] / "vars" / "instance.yml"
SECONDS_TO_BOOT = 120

Deploy = Callable[..., Run]


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    """Run playbooks/deploy.yml with the instance of the scenario."""

    def run(*arguments: str, **extra: Any) -> Run:
        given = {"deploy_model": str(FLEET / "model"), **extra}
        return run_playbook("playbooks/deploy.yml", *arguments, "-e", f"@{VARIABLES}", extra=given)

    return run


def boot_id(host: Host) -> str:
    """The kernel's name of this boot of a node; a node shares its kernel, so it is systemd's start."""
    found = host.run("systemctl show --property UserspaceTimestampMonotonic --value")
    return str(found.stdout.strip()) if found.rc == 0 else ""


def reboot(host: Host) -> None:
    """Reboot a node and wait until it can be asked again."""
    before = boot_id(host)
    assert before
    host.run("systemctl reboot")
    deadline = time.monotonic() + SECONDS_TO_BOOT
    while boot_id(host) in ("", before):
        assert time.monotonic() < deadline, "the node did not come back"
        time.sleep(1)


def since_boot(host: Host) -> float:
    """Seconds since the node booted."""
    now = float(host.check_output("cat /proc/uptime").split()[0])
    return now - int(boot_id(host)) / 1e6


def journal(host: Host, unit: str) -> str:
    """What a unit wrote since the node booted."""
    return str(host.check_output("journalctl --boot --no-pager --output cat --unit %s", unit))
