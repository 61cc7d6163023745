from __future__ import annotations

from pathlib import Path

import pytest

from tools import gpu_node
from tools.nodes import own_root
from tools.nodes.errors import NodeError
from tools.nodes.machine import Machine, nspawn_argv
from tools.nodes.own_root import OwnRoot, device_files, driver_mounts, entered, init_of, is_overlay, missing_packages

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/vda rw
30 22 0:20 / /proc rw - proc proc rw
31 30 0:21 / /proc/driver/nvidia rw - tmpfs tmpfs rw
40 22 8:2 / /usr/local/nvidia ro - ext4 /dev/vdb ro
41 22 8:2 /a /usr/lib/x86_64-linux-gnu/libcuda.so.580 ro - ext4 /dev/vdb ro
42 22 8:3 / /srv/my\\040libnvme rw - ext4 /dev/vdc rw
43 22 8:3 / /home rw - ext4 /dev/vdc rw
"""


def test_device_files_are_those_of_gpus_and_the_driver() -> None:
    names = [
        "nvidia10",
        "nvidia0",
        "nvidiactl",
        "nvidia-uvm",
        "nvidia-uvm-tools",
        "nvidia-caps",
        "null",
        "nvram",
        "nvme0",
    ]
    assert device_files(names) == [
        *("/dev/nvidia-caps", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidia10"),
        "/dev/nvidiactl",
    ]


def test_driver_mounts_leave_out_what_the_node_has_of_itself() -> None:
    assert driver_mounts(MOUNTS) == [
        "/srv/my libnvme",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.580",
        "/usr/local/nvidia",
    ]


def test_the_last_mount_on_the_root_counts() -> None:
    assert not is_overlay(MOUNTS)
    assert is_overlay(MOUNTS + "90 1 0:50 / / rw - overlay overlay rw,lowerdir=/x\n")


def test_packages_are_known_by_their_names() -> None:
    files = [f"{name}_1:2-3_amd64.deb" for name in own_root.PACKAGES if name != "dbus"]
    assert missing_packages([*files, "dbus-x11_1_amd64.deb", "dbus"]) == ["dbus"]


def test_the_first_process_is_the_one_that_its_own_namespace_numbers_1() -> None:
    statuses = {7: "Name:\tsh\nNSpid:\t7\n", 9: "Name:\tsystemd\nNSpid:\t9\t1\n", 11: "NSpid:\t11\t40\n"}
    assert init_of(statuses) == 9
    assert init_of({7: statuses[7], 11: statuses[11]}) is None


def test_a_command_gets_only_the_environment_that_is_given() -> None:
    words = entered(9, ["echo", "a b"], {"PATH": "/x/bin", "HF_HOME": "/h"}, "/srv/a b")
    assert words[:3] == ["nsenter", "--target=9", "--all"]
    assert {"--setenv=PATH=/x/bin", "--setenv=HF_HOME=/h", "--setenv=HOME=/root"} <= set(words)
    assert "--working-directory=/srv/a b" in words
    assert words[-4:] == ["--", "env", "echo", "a b"]


def test_a_command_is_a_unit_of_the_node_that_is_waited_for() -> None:
    words = entered(9, ["true"], {}, "/")
    assert words[3] == "systemd-run" and {"--wait", "--pipe", "--collect"} <= set(words)


def test_nspawn_shares_the_network_without_a_bridge() -> None:
    machine = Machine("m", "gpu1", Path("/r"), Path("/l"), "", "own", (), program="/s/usr/bin/systemd-nspawn")
    argv = nspawn_argv(machine, systemd=False)
    assert argv[0] == "/s/usr/bin/systemd-nspawn"
    assert not [word for word in argv if word.startswith("--network-bridge")]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPUs, systemd and running nodes."""
    monkeypatch.setattr(own_root, "device_files", lambda _names: [])
    monkeypatch.setattr(
        "tools.nodes.own_root.shutil.which", lambda tool: "/usr/bin/dpkg-deb" if tool == "dpkg-deb" else None
    )
    monkeypatch.setattr("tools.nodes.own_root.machine.members", lambda _name: [])


@pytest.mark.usefixtures("bare")
def test_what_the_machine_lacks_is_said_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "gpu"
    with pytest.raises(NodeError, match="no device files of NVIDIA GPUs"):
        OwnRoot("gpu1", folder).up()
    with pytest.raises(NodeError, match="no systemd-nspawn"):
        OwnRoot("gpu1", folder, without_gpu=True).up()
    with pytest.raises(NodeError, match=r"lacks systemd, .*gpu_node\.py packages"):
        OwnRoot("gpu1", folder, packages=tmp_path, without_gpu=True).up()
    assert not folder.exists()


@pytest.mark.usefixtures("bare")
def test_a_command_needs_a_node_that_runs(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="does not run"):
        OwnRoot("gpu1", tmp_path).command(["true"])


@pytest.mark.usefixtures("bare")
def test_status_of_a_node_that_does_not_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu_node.main(["status", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "gpu1: does not run\n"


@pytest.mark.usefixtures("bare")
def test_a_name_that_is_no_host_name_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu_node.main(["status", "--name", "GPU_1", "--folder", str(tmp_path)]) == 1
    assert "'GPU_1' cannot be the name" in capsys.readouterr().err
