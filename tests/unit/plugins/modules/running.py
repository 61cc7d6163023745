"""Runs a module in this process as Ansible does on a host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args


def run(module: Any, capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    """Call ``main`` of a module and return the JSON that it prints."""
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def script(folder: Path, name: str, output: str) -> None:
    """A program in a folder that prints what it was given, in the words of printf."""
    (folder / name).write_text(f"#!/bin/sh\nprintf '{output}'\n")
    (folder / name).chmod(0o755)
