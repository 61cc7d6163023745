"""What systemd and the kernel say of units."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from hypothesis import given
from hypothesis import strategies as st

SHOW = """\
MainPID=4711
Result=success
NRestarts=2
ExecMainStatus=0
Id=vllm@chat.service
LoadState=loaded
ActiveState=active
SubState=running
InvocationID=d9f2b1

MainPID=0
Result=exit-code
NRestarts=5
ExecMainStatus=1
Id=vllm@code=x.service
LoadState=loaded
ActiveState=failed
SubState=failed
Description=a=b
"""


def test_show_of_two_units() -> None:
    found = systemd.parse_show(SHOW)
    assert list(found) == ["vllm@chat.service", "vllm@code=x.service"]
    assert found["vllm@chat.service"]["MainPID"] == "4711"
    assert found["vllm@code=x.service"]["Description"] == "a=b"


@pytest.mark.parametrize("text", ["", "\n\n", "Id=\nLoadState=loaded\n", "LoadState=loaded", "nonsense"])
def test_show_without_units(text: str) -> None:
    assert systemd.parse_show(text) == {}


@given(st.text())
def test_show_of_any_text(text: str) -> None:
    assert all(found["Id"] == unit for unit, found in systemd.parse_show(text).items())


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "NRestarts": "5", "MainPID": "0"},
            {"active_state": "failed", "sub_state": "failed", "result": "exit-code", "restarts": 5},
        ),
        ({}, {"active_state": "inactive", "sub_state": "dead", "result": "success", "restarts": 0}),
    ],
)
def test_state_of_an_instance_that_does_not_run(properties: dict[str, str], state: dict[str, object]) -> None:
    assert systemd.instance_state(properties) == {**state, "main_pid": 0, "digest": None, "status": None}


@pytest.mark.parametrize(
    ("environment", "digest"), [({systemd.DIGEST: "1f0c=4ad5", "OTHER": "a\nb"}, "1f0c=4ad5"), ({"OTHER": "x"}, None)]
)
def test_the_digest_is_read_from_the_running_process(environment: dict[str, str], digest: str | None) -> None:
    # it ends when its input is closed
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        state = systemd.instance_state({"ActiveState": "active", "SubState": "running", "MainPID": str(process.pid)})
        found = systemd.environment_of(process.pid)
        process.communicate()
    assert state["digest"] == digest
    assert environment.items() <= found.items()
    assert systemd.environment_of(process.pid) == {}


def test_the_unit_of_a_process() -> None:
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    last = [line.rsplit("/", 1)[-1] for line in lines]
    units = [name for name in last if name.endswith((".service", ".socket"))]
    assert systemd.unit_of(os.getpid()) == (units[0] if units else None)
    assert systemd.unit_of(2**22 + 1) is None


def test_a_host_without_systemd_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpufleetError) as raised:
        systemd.show(["vllm@chat.service"])
    assert str(raised.value) == (
        "systemctl did not answer ([Errno 2] No such file or directory: 'systemctl'); "
        "this collection needs a host run by systemd."
    )


def test_a_systemctl_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho 'System has not been booted with systemd as init system' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpufleetError) as raised:
        systemd.show(["vllm@chat.service"])
    assert str(raised.value) == (
        "systemctl failed (System has not been booted with systemd as init system); "
        "this collection needs a host run by systemd."
    )


def test_the_family_of_a_process() -> None:
    """A child, and its child."""
    inner = "import subprocess,sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = systemd.family(process.pid)
        assert found[0] == process.pid
        assert len(found) == 2
        assert found[1] in systemd.family(os.getpid())
        process.communicate(b"\n")
    assert systemd.family(process.pid) == [process.pid]


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        ({"active_state": "active", "status": "waiting for gpu02 (10.0.0.2)"}, True),
        ({"active_state": "active", "status": "runs as rank 0 of gpu01, gpu02"}, False),
        ({"active_state": "active", "status": None}, False),
        ({"active_state": "inactive", "status": "waiting for gpu02 (10.0.0.2)"}, False),
        ({}, False),
    ],
)
def test_who_waits_for_other_hosts(state: dict[str, object], waits: bool) -> None:
    assert systemd.waits(state) is waits
