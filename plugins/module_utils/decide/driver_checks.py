# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What stands in the way of a driver before it is installed, whether to reboot, and what is wrong after. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver_sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_sources import Distribution, Source
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_wishes import Wishes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers

Facts = Mapping[str, Any]
# The compute-only packages of 580 with their libraries and a module built by DKMS. An estimate: not measured.
DRIVER_DISK_MIB = 4096
# NVIDIA/nccl#1488: without it NVLink SHARP fails in every process that begins after the fabric manager was restarted.
_RESET = (
    "The fabric manager was started anew since the GPUs joined its fabric, and they keep what the one before told them "
    "until they are reset."
)
# States of gpu_info in which the driver is not, or not rightly, loaded.
_NOT_LOADED = ("no_driver", "no_tool", "driver_failed", "driver_mismatch")


def distribution_problems(
    wishes: Wishes, cuda: Facts, distribution: Distribution | None, source: Source | None
) -> list[str]:
    """Say why packages cannot be had for this distribution, machine and branch."""
    name = (cuda.get("distribution") or {}).get("name") or "this distribution"
    if distribution is None:
        known = ", ".join(row.name for row in driver_sources.DISTRIBUTIONS.values())
        return [
            f"The names of NVIDIA's packages are not known for {name}. They are for {known}. Install the driver "
            "yourself and write cuda_driver: keep (and cuda_fabric_manager: check)."
        ]
    if cuda.get("machine") not in driver_sources.ARCHITECTURES:
        return [
            f"NVIDIA's repositories are for {' and '.join(driver_sources.ARCHITECTURES)}, and this host is "
            f"{cuda.get('machine')}. Write cuda_driver: keep."
        ]
    if source is None:
        return [f"{distribution.name} has no NVIDIA driver of its own. Write cuda_driver: nvidia."]
    if wishes.driver == "keep":
        return []
    if source.branches is not None and wishes.branch not in source.branches:
        has = ", ".join(map(str, source.branches))
        return [
            f"{distribution.name} has the NVIDIA driver {has} of its own, and cuda_driver_branch is {wishes.branch}. "
            f"Write cuda_driver: nvidia, or cuda_driver_branch: {has}."
        ]
    if wishes.driver == "nvidia" and wishes.branch < driver_sources.OLDEST_BRANCH:
        return [
            f"cuda_driver_branch is {wishes.branch}: this role installs {driver_sources.OLDEST_BRANCH} and newer from "
            "NVIDIA's repository. Write a newer branch, or install the driver yourself and write cuda_driver: keep."
        ]
    return []


def driver_problems(wishes: Wishes, cuda: Facts, gpu: Facts, as_wished: bool) -> list[str]:
    """Say what stands in the way of installing the driver on this host; nothing where it is there."""
    if as_wished:
        return []
    found = []
    loaded = gpu.get("driver_version")
    if loaded and not cuda.get("installed_driver"):
        found.append(
            f"The NVIDIA driver {loaded} is loaded and did not come as packages: it was installed by NVIDIA's .run "
            "file, or comes from the machine's provider. Remove it first (nvidia-uninstall), or write "
            "cuda_driver: keep."
        )
    found += disk_problems("cuda", "The driver takes", DRIVER_DISK_MIB, cuda)
    if wishes.secure_boot == "refuse" and gpu.get("state") != "ready":
        found += secure_boot_problems("cuda", "NVIDIA", cuda)
    return found


def disk_problems(prefix: str, what: str, mib: int, host: Facts) -> list[str]:
    """Say whether ``what`` ("The driver takes") finds no room; ``prefix`` is the role's name."""
    free = host.get("free_mib")
    if free is None or free >= mib:
        return []
    return [
        f"{what} about {mib} MiB of disk space, and /usr or /var has {free} MiB free. Free some, or write "
        f"{prefix}_driver: keep."
    ]


def secure_boot_problems(prefix: str, maker: str, host: Facts) -> list[str]:
    """Say what secure boot makes of a module built here."""
    if not host.get("secure_boot"):
        return []
    return [
        f"Secure boot is on: the kernel loads the {maker} module only when the key that signs it is enrolled, which a "
        "person confirms at the console. Either enrol it (Debian, Ubuntu: mokutil --import /var/lib/dkms/mok.pub, and "
        f"reboot), then write {prefix}_secure_boot: accept; or switch secure boot off in the firmware."
    ]


def reboot(managed: bool, reset: bool, wish: str, cuda: Facts, gpu: Facts) -> dict[str, Any]:
    """Whether a reboot is needed (``needed``), why (``why``, a sentence), and whether it is done (``allowed``).

    ``wish`` is auto, never or always; always also reboots after a change that needs none. ``reset`` is whether the GPUs
    have to be reset.
    """
    why = _why_reboot(cuda, gpu) if managed else None
    if why is None and reset:
        why = _RESET
    if why is None and managed and wish == "always" and changed_since_start(cuda):
        why = "The driver's packages were changed, and cuda_reboot is 'always'."
    return {"needed": why is not None, "why": why, "allowed": wish != "never"}


def changed_since_start(host: Facts) -> bool:
    """Whether the driver's packages were installed or changed since the system was started."""
    changed, started = host.get("driver_installed_at"), host.get("started_at")
    return changed is not None and started is not None and changed >= started


def serving_problems(serving: Sequence[str], changes: Sequence[str], playbook: bool = True) -> list[str]:
    """Say that a host serves, and what would be done below its engines; nothing where it is out of service.

    ``playbook`` is whether the playbook drivers knows how to do it.
    """
    if not serving or not changes:
        return []
    units = ", ".join(f"vllm@{name}" for name in serving)
    one = len(serving) == 1
    them = "the instance" if one else "the instances"
    way = "Run playbooks/drivers.yml, which takes one host after the other out of service for it, or drain"
    way = way if playbook else "Drain"
    return [
        f"{units} {'runs' if one else 'run'} on this host, and {' and '.join(changes)} below "
        f"{'it' if one else 'them'}. Nothing was changed. {way} and stop {them} first (docs/operations.md)."
    ]


def module_problems(modules: Mapping[str, str], kernel: str) -> list[str]:
    """Say which kernel modules are missing that the subnet manager of NVLink needs."""
    missing = [name for name, state in modules.items() if state == "missing"]
    if not missing:
        return []
    return [
        f"The kernel {kernel} has no module {', '.join(missing)}, by which the NVLink subnet manager of this board "
        "reaches the switches. Install the distribution's package with the further modules of this kernel, or another "
        "kernel, or write cuda_fabric_manager: ignore and run the fabric manager yourself."
    ]


def _why_reboot(cuda: Facts, gpu: Facts) -> str | None:
    installed, loaded = cuda.get("installed_driver"), gpu.get("driver_version")
    if installed is None:
        return None
    if gpu.get("state") == "driver_mismatch":
        return f"The installed driver is {installed}, and another one is still loaded."
    if loaded and numbers(loaded) != numbers(installed):
        return f"The installed driver is {installed}, and {loaded} is still loaded."
    if loaded or not changed_since_start(cuda):
        return None
    if cuda.get("nouveau"):
        return f"The driver {installed} was installed, and the kernel module nouveau still holds the GPUs."
    return f"The driver {installed} was installed since the system was started, and is not loaded."


def fault_after(managed: bool, with_fabric: bool, cuda: Facts, gpu: Facts) -> str | None:
    """What is wrong with the driver, or the fabric, once everything was done; None where nothing is."""
    installed = cuda.get("installed_driver")
    if gpu.get("state") in _NOT_LOADED or (managed and not gpu.get("driver_version")):
        secure = (
            " Secure boot is on: dmesg says whether the kernel refused the module." if cuda.get("secure_boot") else ""
        )
        way = " To have one installed by this role: cuda_driver: nvidia." if not managed and not installed else ""
        return f"The NVIDIA driver does not work. {gpu.get('message')}{secure}{way}"
    loaded = gpu.get("driver_version")
    if managed and installed and loaded and numbers(loaded) != numbers(installed):
        return f"The driver's packages are of version {installed}, and {loaded} is loaded. Reboot the host."
    for check in gpu.get("readiness") or ():
        if with_fabric and check["check"] == "fabric_manager" and check["state"] == "fail":
            return f"{check['message']} {check['remedy']}"
    return None
