# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a GPU's PCI device ID says of its generation, and which kernel modules that generation needs. Pure.

Device IDs: pci.ids, and the table "Compatible GPUs" in the README of NVIDIA/open-gpu-kernel-modules, read on
2026-11-24.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The first Turing is 1E02; Volta ends with 1DF6.
_TURING = 0x1E00
# The first Blackwell is 2901 (B200); Ada ends with 28F8.
_BLACKWELL = 0x2900
_GRACE_HOPPER = ("2342", "2348")
# Boards of eight GPUs whose NVSwitches are reached over the network adapters: B200, B300.
_HGX_BLACKWELL = ("2901", "2909", "3182")
_HGX_BLACKWELL_NAMES = re.compile(r"^(?:NVIDIA )?B[23]00\b")
# Racks whose NVSwitches are machines of their own: GB200, GB300.
_NVL72 = ("2941", "31c2")
# 580 is the last branch for Maxwell, Pascal and Volta; 620 the first without proprietary modules (NVIDIA Driver
# Installation Guide 580, "Kernel Modules", and 620, "Recent Updates").
LAST_BRANCH_BEFORE_TURING = 580
FIRST_BRANCH_OPEN_ONLY = 620


@dataclass(frozen=True)
class Modules:
    """Which kernel modules are taken, open or proprietary, and what the GPUs allow."""

    kind: str
    needs_open: bool
    needs_proprietary: bool

    def problems(self, branch: int) -> list[str]:
        """Say why these modules of this branch do not drive the GPUs."""
        found = []
        if self.needs_open and self.needs_proprietary:
            found.append(
                "The host has GPUs that need the open kernel modules (Blackwell, Grace Hopper) and GPUs that need the "
                "proprietary ones (before Turing): no driver drives both. Take one kind out."
            )
        elif self.needs_open and self.kind == "proprietary":
            found.append(
                "cuda_driver_modules is 'proprietary', and the GPUs of this host (Blackwell, Grace Hopper) have only "
                "open kernel modules. Write 'auto' or 'open'."
            )
        elif self.needs_proprietary and self.kind == "open":
            found.append(
                "cuda_driver_modules is 'open', and this host has GPUs from before Turing, which the open kernel "
                "modules do not drive. Write 'auto' or 'proprietary'; vLLM does not run on these GPUs."
            )
        if self.needs_proprietary and branch > LAST_BRANCH_BEFORE_TURING:
            found.append(
                f"cuda_driver_branch is {branch}, and this host has GPUs from before Turing, for which "
                f"{LAST_BRANCH_BEFORE_TURING} is the last branch. Write {LAST_BRANCH_BEFORE_TURING}."
            )
        elif self.kind == "proprietary" and branch >= FIRST_BRANCH_OPEN_ONLY:
            found.append(
                f"cuda_driver_modules is 'proprietary', and branch {branch} has only open kernel modules. Write "
                f"'open', or a cuda_driver_branch below {FIRST_BRANCH_OPEN_ONLY}."
            )
        return found


def modules(device_ids: Sequence[str | None], wanted: str) -> Modules:
    """Choose for GPUs by PCI device ID (four hexadecimal digits, None: not known); ``wanted`` is auto or a kind."""
    known = [device.lower() for device in device_ids if device]
    needs_open = any(int(device, 16) >= _BLACKWELL or device in _GRACE_HOPPER for device in known)
    needs_proprietary = any(int(device, 16) < _TURING for device in known)
    chosen = wanted if wanted != "auto" else "proprietary" if needs_proprietary else "open"
    return Modules(chosen, needs_open, needs_proprietary)


def is_hgx_blackwell(device_id: str | None) -> bool:
    """Whether a GPU sits on a board whose fabric manager also needs the NVLink subnet manager."""
    return (device_id or "").lower() in _HGX_BLACKWELL


def is_nvl72(device_id: str | None) -> bool:
    """Whether a GPU belongs to a rack-wide NVLink domain."""
    return (device_id or "").lower() in _NVL72


def on_hgx_blackwell(gpu_facts: Mapping[str, Any]) -> bool:
    """Whether the GPUs are on such a board, by what gpu_info says; by their names where the PCI bus was not read."""
    pci = [gpu.get("device_id") for gpu in gpu_facts.get("pci_gpus") or () if gpu.get("vendor") == "nvidia"]
    if any(pci):
        return any(is_hgx_blackwell(device) for device in pci)
    names = [str(device.get("name") or "") for device in gpu_facts.get("devices") or ()]
    return any(_HGX_BLACKWELL_NAMES.match(name) for name in names)


def has_switches(gpu_facts: Mapping[str, Any]) -> bool:
    """Whether a fabric manager has to run on this host."""
    if (gpu_facts.get("nvswitch") or {}).get("count"):
        return True
    # The switches of the fifth NVLink are not on the PCI bus; a virtual machine is given GPUs without them.
    return on_hgx_blackwell(gpu_facts) and not (gpu_facts.get("cpu") or {}).get("hypervisor")
