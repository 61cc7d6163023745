# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What stands in the way of AMD's software before it is installed, whether to reboot, and what is wrong after. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rocm_sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_checks import (
    changed_since_start,
    disk_problems,
    secure_boot_problems,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rocm_sources import Distribution
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rocm_wishes import RocmWishes

Facts = Mapping[str, Any]
# 5356 MB of packages on Ubuntu 24.04, by apt's own account (the public installer that rocm_sources names, ROCm 7.2.1),
# the driver and its module on top. Not measured here.
DISK_MIB = 8192


def install_problems(
    wishes: RocmWishes, host: Facts, gpu: Facts, distribution: Distribution | None, as_wished: bool
) -> list[str]:
    """Say what stands in the way of installing driver and ROCm; nothing where they are there."""
    if distribution is None:
        name = (host.get("distribution") or {}).get("name") or "this distribution"
        known = ", ".join(row.name for row in rocm_sources.DISTRIBUTIONS.values())
        return [
            f"The names of AMD's packages are not known for {name}. They are for {known}. Install driver and ROCm "
            "yourself and write rocm_driver: keep."
        ]
    if host.get("machine") != "x86_64":
        return [f"AMD's repositories are for x86_64, and this host is {host.get('machine')}. Write rocm_driver: keep."]
    if as_wished:
        return []
    found = []
    if host.get("rocm") and "rocm-core" not in (host.get("packages") or {}):
        found.append(
            f"ROCm {host['rocm']} lies in /opt/rocm and did not come as AMD's packages. Remove it first, or write "
            "rocm_driver: keep."
        )
    found += disk_problems("rocm", "Driver and ROCm take", DISK_MIB, host)
    if wishes.secure_boot == "refuse" and not loaded(host, gpu):
        found += secure_boot_problems("rocm", "amdgpu", host)
    return found


def loaded(host: Facts, gpu: Facts) -> str | None:
    """Version of the loaded kernel module; None for the kernel's own one, which has none, and where none is loaded."""
    version = str(host.get("loaded_module") or gpu.get("driver_version") or "")
    # Of the kernel's own module the tools tell the kernel's version, such as 6.8.0-45-generic.
    return version if re.fullmatch(r"\d+(\.\d+){1,3}", version) and version != host.get("kernel") else None


def reboot(managed: bool, wish: str, host: Facts, gpu: Facts) -> dict[str, Any]:
    """Whether a reboot is needed (``needed``), why (``why``, a sentence), and whether it is done (``allowed``).

    ``wish`` is auto, never or always; always also reboots after a change that needs none.
    """
    why = None
    installed, module = host.get("installed_driver"), host.get("installed_module")
    if managed and installed and changed_since_start(host):
        has = loaded(host, gpu)
        if has is None:
            why = f"The driver {installed} was installed since the system was started, and is not loaded."
        elif numbers(has) != numbers(str(module)):
            why = f"The installed driver {installed} has the kernel module {module}, and {has} is still loaded."
        elif wish == "always":
            why = "The driver's packages were changed, and rocm_reboot is 'always'."
    return {"needed": why is not None, "why": why, "allowed": wish != "never"}


def fault_after(managed: bool, host: Facts, gpu: Facts) -> str | None:
    """What is wrong with the driver once everything was done; None where nothing is."""
    installed, module, has = host.get("installed_driver"), host.get("installed_module"), loaded(host, gpu)
    if managed and installed and has != module:
        return (
            f"The driver {installed} with the kernel module {module} is installed, and "
            f"{has or 'the module of the kernel, or none,'} is loaded. Either it was not built (dkms status, and "
            "/var/lib/dkms/amdgpu for its log), or the kernel refused it (dmesg)."
        )
    if gpu.get("state") != "ready":
        way = " To have driver and ROCm installed by this role: rocm_driver: amd." if not managed else ""
        return f"The AMD driver does not work. {gpu.get('message')}{way}"
    if host.get("kfd") is False:
        return (
            "There is no /dev/kfd, by which ROCm reaches the GPUs: the module amdgpu was built without compute. "
            "Pass the device into a container; elsewhere see dmesg for kfd."
        )
    return None
