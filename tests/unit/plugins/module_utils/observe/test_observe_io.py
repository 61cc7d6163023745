"""Running tools, reading /proc and /sys, reading and writing recordings."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    hostfiles,
    recorded,
    runner,
    sources,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import (
    FAILED,
    MISSING,
    OK,
    TIMEOUT,
    ToolOutput,
)


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}


def test_every_ending_of_a_tool_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    tool(tmp_path, "good", "echo answer; echo noise >&2; echo lang=$LC_ALL")
    tool(tmp_path, "bad", "echo half; exit 15")
    commands = {"good": ("good",), "bad": ("bad",), "none": ("no-such-tool-here",)}
    found = runner.run_all(commands, 10, environ)
    assert (found["good"].status, found["good"].text, found["good"].error) == (
        OK,
        "answer\nlang=C\n",
        "noise\n",
    )
    assert (found["bad"].status, found["bad"].returncode, found["bad"].text) == (FAILED, 15, "half\n")
    assert found["none"].status == MISSING
    assert list(found) == list(commands)


def test_tools_run_at_once_and_a_hanging_one_is_stopped(tmp_path: Path, environ: dict[str, str]) -> None:
    tool(tmp_path, "slow", "sleep 0.4; echo done")
    tool(tmp_path, "hang", "echo begun; trap '' TERM; sleep 60 & wait")
    start = time.monotonic()
    found = runner.run_all({"a": ("slow",), "b": ("slow",), "c": ("slow",), "h": ("hang",)}, 0.8, environ)
    assert time.monotonic() - start < 1.6
    assert [found[name].text for name in "abc"] == ["done\n"] * 3
    assert (found["h"].status, found["h"].text, found["h"].returncode) == (TIMEOUT, "begun\n", None)


def test_output_larger_than_a_pipe_does_not_block(tmp_path: Path, environ: dict[str, str]) -> None:
    tool(tmp_path, "long", "head -c 300000 /dev/zero | tr '\\0' x")
    assert len(runner.run_all({"long": ("long",)}, 10, environ)["long"].text) == 300000


def test_a_file_that_is_no_program_is_a_failure(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "broken"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    assert runner.run_all({"broken": ("broken",)}, 5, environ)["broken"].status == FAILED


def test_host_files_are_read_from_a_tree(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "class").write_text("0x030200\n")
    (device / "vendor").write_text("0x10de\n")
    (device / "driver").symlink_to("../../drivers/nvidia")
    disk = tmp_path / "sys/bus/pci/devices/0000:02:00.0"
    disk.mkdir()
    (disk / "class").write_text("0x010802\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("root=UUID=1234 iommu=pt ip=10.0.0.1 quiet\n")
    found = hostfiles.read_host(str(tmp_path))
    assert found["files"]["/sys/bus/pci/devices/0000:01:00.0/driver"] == "-> nvidia"
    assert found["files"]["/proc/cmdline"] == "iommu=pt"
    assert not any("0000:02:00.0" in path for path in found["files"])
    assert found["shm"] is None
    json.dumps(found)


def test_host_files_of_this_host_are_json() -> None:
    found = hostfiles.read_host()
    assert json.loads(json.dumps(found)) == found
    assert found["files"]["/proc/meminfo"].startswith("MemTotal")


UUID = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f"
OUTPUTS = {
    sources.NVIDIA_XML: ToolOutput(
        OK,
        f"<gpu><serial>1650522003820</serial><uuid>{UUID}</uuid><clusterUuid>ab12</clusterUuid></gpu>",
        returncode=0,
    ),
    sources.NVIDIA_LIST: ToolOutput(OK, f"GPU 0: NVIDIA H100 (UUID: {UUID})\n", returncode=0, seconds=0.5),
    sources.NVIDIA_TOPOLOGY: ToolOutput(TIMEOUT, "", f"half a word of {UUID}", seconds=30.0),
    sources.AMD_STATIC: ToolOutput(OK, '{"asic_serial": "0x6F1F", "uuid": "c2ff748f"}'),
    sources.LSPCI: ToolOutput(OK, "Capabilities: [128] Device Serial Number 48-b0-2d-ff-ff-b0-1c-6a\n"),
    sources.LSCPU: ToolOutput(MISSING),
}


def test_recordings_hold_no_identity_unless_asked() -> None:
    files = recorded.recording_files(OUTPUTS, keep_identity=False)
    everything = "".join(files.values())
    for secret in (UUID, "1650522003820", "ab12", "0x6F1F", "c2ff748f", "48-b0-2d"):
        assert secret not in everything
    number = "GPU-00000000-0000-0000-0000-000000000000"
    assert number in files[sources.NVIDIA_XML]
    assert number in files[sources.NVIDIA_LIST]
    kept = recorded.recording_files(OUTPUTS, keep_identity=True)
    assert UUID in kept[sources.NVIDIA_LIST]
    assert sources.LSCPU not in kept


def test_a_recording_is_read_back_as_it_was(tmp_path: Path) -> None:
    for name, text in recorded.recording_files(OUTPUTS, keep_identity=True).items():
        (tmp_path / name).write_text(text)
    (tmp_path / "notes.md").write_text("not ours")
    assert recorded.read_recording(str(tmp_path)) == OUTPUTS


@pytest.mark.parametrize(
    "index", ["[]", "{", '{"lscpu.txt": 3, "nvidia-smi-L.txt": {"status": "odd", "seconds": "x"}}']
)
def test_a_damaged_index_is_no_hindrance(tmp_path: Path, index: str) -> None:
    (tmp_path / "record.json").write_text(index)
    (tmp_path / "nvidia-smi-L.txt").write_text("GPU 0: NVIDIA L4 (UUID: GPU-1)\n")
    found = recorded.read_recording(str(tmp_path))
    assert found["nvidia-smi-L.txt"] == ToolOutput(OK, "GPU 0: NVIDIA L4 (UUID: GPU-1)\n")


def test_folders_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder on this host"):
        recorded.read_recording(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="holds no recording"):
        recorded.read_recording(str(tmp_path))
