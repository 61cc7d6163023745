"""What package managers and the kernel say of NVIDIA software."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import host_software

DPKG = (
    "nvidia-driver-cuda\t580.105.08-1\thold\tinstalled\t1763942400\n"
    "libcuda1\t580.105.08-1\tinstall\tinstalled\t1763942401\n"
    "nvidia-fabricmanager\t580.95.05-1\tinstall\tinstalled\t\n"
    "nvidia-smi\t550.163.01-2\tdeinstall\tconfig-files\t1\n"
    "bash\t5.2\tinstall\tinstalled\t1\n"
    "linux-headers-6.1.0-40-amd64\t6.1.153-1\tinstall\tinstalled\t1\n"
    "\n"
)
RPM = "nvidia-driver-cuda\t3:580.105.08-1.el9\t1763942400\nkernel-devel-matched\t0:5.14.0\t1\nbash\t0:5\t1\n"


def test_dpkg() -> None:
    found = host_software.parse_dpkg(DPKG)
    assert list(found) == [
        "nvidia-driver-cuda",
        "libcuda1",
        "nvidia-fabricmanager",
        "linux-headers-6.1.0-40-amd64",
    ]
    assert found["nvidia-driver-cuda"] == {"version": "580.105.08-1", "held": True, "installed_at": 1763942400}
    assert found["nvidia-fabricmanager"]["installed_at"] is None
    assert host_software.fabric_manager_package(found) == "nvidia-fabricmanager"


def test_rpm() -> None:
    found = host_software.parse_rpm(RPM)
    assert found["nvidia-driver-cuda"] == {"version": "3:580.105.08-1.el9", "held": None, "installed_at": 1763942400}
    assert "kernel-devel-matched" in found
    assert "bash" not in found


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("580.95.05-1", "580.95.05"),
        ("580.159.03-0ubuntu0.24.04.1", "580.159.03"),
        ("3:580.95.05-1.el9", "580.95.05"),
        ("0:550.163.01+dfsg-2", "550.163.01"),
        ("590.48.01~rc1", "590.48.01"),
    ],
)
def test_upstream(version: str, upstream: str) -> None:
    assert host_software.upstream(version) == upstream


@pytest.mark.parametrize(
    ("names", "driver"),
    [
        (["nvidia-open", "nvidia-driver-cuda"], "nvidia-driver-cuda"),
        (["nvidia-utils-580-server", "nvidia-driver-assistant"], "nvidia-utils-580-server"),
        (["nvidia-smi", "nvidia-driver"], "nvidia-smi"),
        (["cuda-drivers", "nvidia-open"], "nvidia-open"),
        (["nvidia-container-toolkit", "cuda-toolkit-13-0", "nvidia-driver-pinning-580"], None),
        ([], None),
    ],
)
def test_driver_package(names: list[str], driver: str | None) -> None:
    packages: dict[str, dict[str, Any]] = {name: {"version": "1"} for name in names}
    assert host_software.driver_package(packages) == driver


@pytest.mark.parametrize(
    ("versions", "name"),
    [
        ({"nvidia-fabricmanager-580": "580.1"}, "nvidia-fabricmanager-580"),
        ({"nvidia-fabric-manager": "570.1"}, "nvidia-fabric-manager"),
        ({"nvidia-fabricmanager-dev-580": "580.1"}, None),
        ({"nvidia-fabricmanager-535": "1", "nvidia-fabricmanager-580": "2"}, "nvidia-fabricmanager-580"),
    ],
)
def test_fabric_manager_package(versions: dict[str, str], name: str | None) -> None:
    packages: dict[str, dict[str, Any]] = {key: {"version": value} for key, value in versions.items()}
    assert host_software.fabric_manager_package(packages) == name


def test_os_release() -> None:
    text = 'PRETTY_NAME="Rocky Linux 9.6"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\n# x=y\n'
    assert host_software.os_release(text) == {
        "id": "rocky",
        "version": "9.6",
        "like": ["rhel", "centos", "fedora"],
        "name": "Rocky Linux 9.6",
    }
    assert host_software.os_release("")["id"] == "linux"


@pytest.mark.parametrize(
    ("stat", "init", "started"),
    [
        ("cpu 1\nbtime 1000\n", "1 (systemd) S " + " ".join(["0"] * 18) + " 250 0", 1002),
        # a name with spaces and brackets, as proc(5) warns of
        ("btime 1000\n", "1 (a) b (c)) S " + " ".join(["0"] * 18) + " 100 0", 1001),
        ("cpu 1\n", "1 (systemd) S " + " ".join(["0"] * 18) + " 250 0", None),
        ("btime 1000\n", "", None),
    ],
)
def test_started_at(stat: str, init: str, started: int | None) -> None:
    assert host_software.started_at(stat, init, 100) == started


@pytest.mark.parametrize(
    ("text", "on"), [(None, None), ("\x06\x00\x00\x00\x01", True), ("\x06\x00\x00\x00\x00", False)]
)
def test_secure_boot(text: str | None, on: bool | None) -> None:
    assert host_software.secure_boot(text) is on
