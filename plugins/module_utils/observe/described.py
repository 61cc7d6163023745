# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of hardware that is described instead of observed (``gpu_profile``). Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import profiles
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import GpuProfile

LINKS = (
    "nvswitch",
    "nvlink_full",
    "nvlink_pairs",
    "pcie_switch",
    "pcie_host",
    "pcie_cross_numa",
    "xgmi",
)
# What people say, in lower case with "_" between words. "nvlink" depends on the product and the count.
WORDS = {
    "nvlink": "nvlink",
    "nvlink_bridge": "nvlink_pairs",
    "pcie": "pcie_host",
    "pci_express": "pcie_host",
    "infinity_fabric": "xgmi",
    **{link: link for link in LINKS},
}
# The matrix of one host: 16 GPUs are the most that one PCIe or HGX host has had (DGX-2).
MOST_GPUS = 16
# The smallest GPU that vLLM can be run on has 4 GiB; a smaller number was meant as GB.
LEAST_MEMORY_MIB = 2048
_CELLS = {"pcie_switch": "PIX", "pcie_host": "NODE", "pcie_cross_numa": "SYS", "xgmi": "XGMI"}
FIELDS = ("name", "count", "memory_mib", "interconnect")


def described_devices(gpu_profile: Mapping[str, Any]) -> dict[str, Any]:
    """Devices and matrix of a described host: ``devices``, ``matrix``, ``accelerator``, ``warnings``.

    ``gpu_profile`` has ``name`` (product, as a person or the driver writes it), ``count`` (default 1), ``memory_mib``
    (default: the table's) and ``interconnect`` (a key of WORDS, any case; default: what the product is sold with).
    Raises InputError for anything else.
    """
    if not isinstance(gpu_profile, Mapping):
        raise InputError(f"gpu_profile is {gpu_profile!r}: write a mapping, for example: {{name: H100, count: 8}}.")
    unknown = sorted(str(key) for key in gpu_profile if key not in FIELDS)
    if unknown:
        raise InputError(f"gpu_profile has no field {unknown[0]!r}. It has: {', '.join(FIELDS)}.")
    name = gpu_profile.get("name")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)  # YAML reads 4090 as a number
    if not isinstance(name, str) or not name.strip():
        raise InputError("gpu_profile.name is missing. Write a product, for example: name: H100 SXM.")
    count = _count(gpu_profile.get("count"))
    memory = _memory(gpu_profile.get("memory_mib"))
    profile = _profile(name, memory)
    warnings: list[str] = []
    link = _link(gpu_profile.get("interconnect"), profile, count, warnings)
    return {
        "devices": [_device(place, name, profile, memory) for place in range(count)],
        "matrix": _matrix(count, link, profile),
        "accelerator": "rocm" if profile and profile.vendor == "amd" else "cuda",
        "warnings": warnings,
    }


def _count(value: Any) -> int:
    number = 1 if value is None else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_GPUS:
        raise InputError(f"gpu_profile.count is {value!r}: write a number of GPUs of one host, 1 to {MOST_GPUS}.")
    return number


def _memory(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < LEAST_MEMORY_MIB:
        raise InputError(f"gpu_profile.memory_mib is {value!r}: write the memory of one GPU in MiB, e.g. 81559.")
    return value


def _profile(name: str, memory_mib: int | None) -> GpuProfile | None:
    """The product that is meant; None for one that is not in the table and has its memory written."""
    profile = profiles.profile_by_word(name)
    if profile is not None:
        return profile
    near = profiles.profiles_by_words(name)
    if memory_mib is not None:
        return next((one for one in near if _same_memory(one.memory_mib, memory_mib)), None)
    sizes = {one.memory_mib for one in near}
    if len(sizes) == 1:
        return near[0]
    if near:
        names = ", ".join(one.name for one in near)
        raise InputError(f"gpu_profile.name is {name!r}, which may be one of several: write one of {names}.")
    raise InputError(_unknown_name(name))


def _same_memory(known: int | None, written: int) -> bool:
    # drivers and datasheets differ by the memory that ECC and firmware keep: 81559, 81920, 80000
    return known is not None and abs(known - written) <= known // 20


def _unknown_name(name: str) -> str:
    known = [profile.name for profile in profiles.PROFILES]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"gpu_profile.name is {name!r}, which is not in the table of GPUs.{hint} Write a name of the table, "
        "or add gpu_profile.memory_mib (what nvidia-smi prints as total) for a GPU that is not in it."
    )


def _link(value: Any, profile: GpuProfile | None, count: int, warnings: list[str]) -> str:
    if value is not None:
        word = WORDS.get(re.sub(r"[^a-z]+", "_", str(value).lower()).strip("_"))
        if word is None:
            raise InputError(f"gpu_profile.interconnect is {value!r}: write one of {', '.join(sorted(WORDS))}.")
        return _nvlink(profile, count) if word == "nvlink" else word
    if count == 1:
        return "pcie_host"
    if profile and profile.link == profiles.XGMI:
        return "xgmi"
    assumed = _nvlink(profile, count) if profile and profile.link == profiles.NVSWITCH else "pcie_host"
    warnings.append(f"gpu_profile.interconnect is not set: {assumed} was assumed.")
    return assumed


def _nvlink(profile: GpuProfile | None, count: int) -> str:
    """What "nvlink" means: bridges join pairs; without a switch no more than four GPUs are linked each to each."""
    if profile and profile.link == profiles.NVLINK_BRIDGE:
        return "nvlink_pairs"
    return "nvlink_full" if count <= 4 else "nvswitch"


def _matrix(count: int, link: str, profile: GpuProfile | None) -> list[list[str | None]]:
    return [[_cell(i, j, count, link, profile) for j in range(count)] for i in range(count)]


def _cell(i: int, j: int, count: int, link: str, profile: GpuProfile | None) -> str:
    if i == j:
        return "X"
    links = (profile.nvlinks if profile else 0) or 4
    if link == "nvswitch":
        return f"NV{links}"
    if link == "nvlink_full":
        return f"NV{max(1, links // (count - 1))}"
    if link == "nvlink_pairs":
        return f"NV{links}" if i // 2 == j // 2 else "NODE"
    return _CELLS[link]


def _device(place: int, name: str, profile: GpuProfile | None, memory_mib: int | None) -> dict[str, Any]:
    nvidia = profile is None or profile.vendor == "nvidia"
    total = memory_mib if memory_mib is not None else profile.memory_mib if profile else None
    return {
        "index": place,
        "name": profile.name if profile else name,
        "memory_total_mib": total,
        "memory_free_mib": total,
        "compute_capability": profiles.compute_capability_of(profile.name if profile else name) if nvidia else None,
        "gfx": profile.arch if profile and not nvidia else None,
    }
