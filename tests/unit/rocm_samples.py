"""Hosts with and without AMD software, as rocm_info and gpu_info describe them, and the plan for one."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rocm, rocm_sources

WISHES: dict[str, Any] = {
    "driver": "amd",
    "version": "7.2.3",
    "driver_version": "30.30.3",
    "packages": [],
    "repository_url": "",
    "repository_key_url": "",
    "repository_fingerprints": [],
    "hold": True,
    "secure_boot": "refuse",
    "reboot": "auto",
}
UBUNTU = {"id": "ubuntu", "version": "24.04", "name": "Ubuntu 24.04.3 LTS"}
STARTED = 1000
DRIVER = "1:6.16.13.30300300-2325413.24.04"
PACKAGES = (*rocm_sources.DISTRIBUTIONS["ubuntu-24.04"].packages, "rocm-core")


def host(driver: str | None = None, rocm_version: str | None = None, installed_at: int = 500, **more: Any) -> Any:
    """What rocm_info says of a host with a driver whose module is 6.16.13 and with ROCm, or without."""
    held = {"held": True, "installed_at": installed_at}
    packages = {"amdgpu-dkms": {"version": DRIVER, **held}} if driver else {}
    if rocm_version:
        major, minor, patch = (int(part) for part in rocm_version.split("."))
        version = f"1.0.{major}{minor:02}{patch:02}-90~24.04"
        packages.update({name: {"version": version, **held} for name in PACKAGES})
        packages["libopenmpi3t64"] = {"version": "4.1.6-7ubuntu2", **held, "held": False}
    return {
        "distribution": UBUNTU,
        "machine": "x86_64",
        "kernel": "6.8.0-88-generic",
        "glibc": "2.39",
        "packages": packages,
        "installed_driver": driver,
        "installed_module": "6.16.13" if driver else None,
        "driver_installed_at": installed_at if driver else None,
        "loaded_module": None,
        "rocm": rocm_version,
        "kfd": True,
        "started_at": STARTED,
        "secure_boot": False,
        "free_mib": 50_000,
        **more,
    }


def gpus(*gfx: str, loaded: str | None = None, state: str = "ready", **more: Any) -> dict[str, Any]:
    """What gpu_info says of a host with GPUs of these architectures."""
    devices = [
        {"index": index, "name": f"AMD {one}", "gfx": one, "memory_total_mib": 196592} for index, one in enumerate(gfx)
    ]
    return {
        "accelerator": "rocm",
        "state": state,
        "message": "As gpu_info says it.",
        "driver_version": loaded,
        "devices": devices,
        "pci_gpus": [{"vendor": "amd", "device_id": "74a1"}],
        "shm_total_mib": 64_000,
        **more,
    }


def plan(facts: dict[str, Any], gpu: dict[str, Any], **wishes: Any) -> dict[str, Any]:
    found = rocm.plan({**WISHES, **wishes}, facts, gpu)
    # only what Ansible can store
    assert json.loads(json.dumps(found)) == found
    return found
