"""record.yml against a host whose answers are a stranger's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.samples import CHECKOUT


@pytest.mark.parametrize("files", [{"../../.bashrc": "own"}, {"nvidia-smi.xml": "fine", "../x": "own"}])
def test_nothing_is_written_for_a_name_that_no_recording_has(tmp_path: Path, files: dict[str, str]) -> None:
    """The host's "python" says what it likes."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps({'changed': False, 'files': files})}\nEND\n")
    python.chmod(0o755)
    folder = tmp_path / "operator" / "recordings"
    (tmp_path / "operator").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", CHECKOUT / "playbooks/record.yml", "-i", "host,"),
            *("-c", "local", "-e", f"record_folder={folder}", "-e", "record_become=false"),
            *("-e", json.dumps({"ansible_python_interpreter": str(python)})),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".collections"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "which no recording has. Nothing was written." in " ".join(done.stdout.split())
    assert list((tmp_path / "operator").rglob("*")) == []
