"""The playbooks can be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.samples import CHECKOUT


def test_every_playbook_can_be_parsed(tmp_path: Path) -> None:
    playbooks = sorted(CHECKOUT.glob("playbooks/*.yml"))
    assert "deploy.yml" in [path.name for path in playbooks]
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--syntax-check", "-i", "localhost,", *playbooks],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path), "ANSIBLE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("playbook: ")] == [
        f"playbook: {path}" for path in playbooks
    ]
    assert "WARNING" not in done.stderr
