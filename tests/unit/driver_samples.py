"""Hosts with and without NVIDIA software, as cuda_info and gpu_info describe them, and the plan for one."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver

WISHES: dict[str, Any] = {
    "driver": "nvidia",
    "driver_branch": "580",
    "driver_version": "",
    "driver_modules": "auto",
    "repository_url": "",
    "repository_key_url": "",
    "repository_fingerprints": [],
    "persistenced": True,
    "fabric_manager": "auto",
    "imex_nodes": [],
    "toolkit": "",
    "dcgm": False,
    "hold": True,
    "secure_boot": "refuse",
    "reboot": "auto",
}
DEBIAN = {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"}
UBUNTU = {"id": "ubuntu", "version": "24.04", "name": "Ubuntu 24.04.3 LTS"}
ROCKY = {"id": "rocky", "version": "9.6", "name": "Rocky Linux 9.6"}
H100, V100, B200, GB200, H200 = "2330", "1db1", "2901", "2941", "2335"
STARTED = 1000


def host(version: str | None = None, installed_at: int = 500, **more: Any) -> dict[str, Any]:
    """What cuda_info says of a host with a driver of a version, or without one."""
    names = ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced", "libcuda1") if version else ()
    packages = {name: {"version": f"{version}-1", "held": True, "installed_at": installed_at} for name in names}
    return {
        "distribution": DEBIAN,
        "machine": "x86_64",
        "kernel": "6.1.0-40-amd64",
        "packages": packages,
        "installed_driver": version,
        "driver_installed_at": installed_at if version else None,
        "started_at": STARTED,
        "secure_boot": False,
        "nouveau": False,
        "free_mib": 50_000,
        **more,
    }


def gpus(*ids: str, loaded: str | None = None, state: str = "", switches: int = 0, **more: Any) -> dict[str, Any]:
    """What gpu_info says of a host with GPUs of these PCI device IDs."""
    return {
        "accelerator": "cuda",
        "state": state or ("ready" if loaded else "no_driver"),
        "message": "As gpu_info says it.",
        "driver_version": loaded,
        "pci_gpus": [{"vendor": "nvidia", "device_id": device} for device in ids or (H100,)],
        "nvswitch": {"count": switches, "fabric_ready": None},
        "cpu": {"hypervisor": None},
        "readiness": [],
        **more,
    }


def plan(cuda: dict[str, Any], gpu: dict[str, Any], **wishes: Any) -> dict[str, Any]:
    found = driver.plan({**WISHES, **wishes}, cuda, gpu)
    # only what Ansible can store
    assert json.loads(json.dumps(found)) == found
    return found


def with_fabric(version: str, driver_version: str = "580.105.08", **more: Any) -> dict[str, Any]:
    found = host(driver_version, **more)
    for name in ("nvidia-fabricmanager", "libnvidia-nscq"):
        found["packages"][name] = {"version": f"{version}-1", "held": False, "installed_at": 500}
    return {**found, "fabric_manager": version}
