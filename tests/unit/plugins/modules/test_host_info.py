"""The module host_info."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.modules import host_info

from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]
NOTHING = {"changed": False, "paths": {}, "python": None, "listeners": [], "instances": {}, "unit_installed": None}


def answers(found: dict[str, Any]) -> dict[str, Any]:
    """What the module itself returned."""
    return {key: found[key] for key in NOTHING}


@pytest.mark.parametrize("check_mode", [False, True])
def test_nothing_asked_nothing_said(capsys: Capture, check_mode: bool) -> None:
    assert answers(run(host_info, capsys, _ansible_check_mode=check_mode)) == NOTHING


@pytest.mark.parametrize("check_mode", [False, True])
def test_paths(tmp_path: Path, capsys: Capture, check_mode: bool) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "current").symlink_to("there")
    (tmp_path / "dangling").symlink_to("releases/none")
    names = [f"{tmp_path}/{name}" for name in ("there", "current", "dangling", "not/yet/there")]
    found = run(host_info, capsys, paths=names, _ansible_check_mode=check_mode)["paths"]
    assert list(found) == names
    assert [(found[name]["exists"], found[name]["target"]) for name in names] == [
        (True, None),
        (True, "there"),
        (False, "releases/none"),
        (False, None),
    ]
    assert all(found[name]["free_mib"] > 0 for name in names)
    assert not (tmp_path / "not").exists()


def test_python(tmp_path: Path, capsys: Capture) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho 'no libpython' >&2\nexit 127\n")
    broken.chmod(0o755)
    none: dict[str, Any] = {"version": None, "machine": None, "lacking": []}
    own: dict[str, Any] = {
        "version": platform.python_version(),
        "machine": platform.machine(),
        "lacking": [],
        "problem": None,
    }
    wanted = {
        sys.executable: own,
        f"{tmp_path}/none": {**none, "problem": f"{tmp_path}/none does not exist"},
        str(broken): {**none, "problem": f"{broken} does not run: no libpython"},
    }
    assert {name: run(host_info, capsys, python=name)["python"] for name in wanted} == wanted


def test_ports(capsys: Capture) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        (found,) = run(host_info, capsys, ports=[port])["listeners"]
    assert (found["port"], found["pid"]) == (port, os.getpid())
    assert run(host_info, capsys, ports=[port])["listeners"] == []


def test_a_host_without_systemd(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = run(host_info, capsys, instances=["chat"])
    assert found["failed"] is True
    assert found["msg"].startswith("systemctl did not answer")
    assert found["msg"].endswith("this collection needs a host run by systemd.")


def test_instances_are_asked_of_systemctl(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    # plays back what systemctl prints of one unit that runs and one that nobody has installed
    program = tmp_path / "systemctl"
    program.write_text(
        "#!/bin/sh\n"
        f"printf '%s\\n' \"$@\" > {tmp_path}/asked\n"
        "printf 'Id=vllm@chat.service\\nLoadState=loaded\\nActiveState=failed\\nSubState=failed\\nResult=exit-code\\n"
        "MainPID=0\\nNRestarts=5\\n\\nId=vllm@other.service\\nLoadState=not-found\\nActiveState=inactive\\n"
        "SubState=dead\\nResult=success\\nMainPID=0\\nNRestarts=0\\n'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = run(host_info, capsys, instances=["chat", "other"])
    idle = {"main_pid": 0, "digest": None, "status": None}
    assert found["instances"] == {
        "chat": {"active_state": "failed", "sub_state": "failed", "result": "exit-code", "restarts": 5, **idle},
        "other": {"active_state": "inactive", "sub_state": "dead", "result": "success", "restarts": 0, **idle},
    }
    assert found["unit_installed"] is False
    asked = (tmp_path / "asked").read_text().split()
    assert (asked[0], asked[-3:]) == ("show", ["--", "vllm@chat.service", "vllm@other.service"])


def test_the_digest_of_a_folder_changes_with_its_files(tmp_path: Path, capsys: Capture) -> None:
    def digest() -> Any:
        return run(host_info, capsys, paths=[str(tmp_path)])["paths"][str(tmp_path)]["digest"]

    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = digest()
    assert digest() == first
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert digest() != first


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (
            "dpkg-query",
            "gcc\\t4:12.2.0\\tinstall\\tinstalled\\t1700000000\\ncowsay\\t3.03\\tdeinstall\\tconfig-files\\t1700000000\\n",
        ),
        ("rpm", "gcc\\t0:11.5.0-2.el9\\t1700000000\\n"),
    ],
)
def test_packages_that_are_missing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, program: str, lines: str
) -> None:
    path = tmp_path / program
    path.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda _self, name: shutil.which(name))
    names = ["gcc", "cowsay", "python3-venv"]
    assert run(host_info, capsys, packages=names)["missing_packages"] == ["cowsay", "python3-venv"]
    path.unlink()
    assert run(host_info, capsys, packages=names)["missing_packages"] == []
    assert run(host_info, capsys)["missing_packages"] == []
