# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of hardware that is described instead of observed (``gpu_profile``). Pure."""

from __future__ import annotations

import difflib
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
# The matrix of one host: 16 GPUs are the most that one PCIe or HGX host has had (DGX-2).
MOST_GPUS = 16
_CELLS = {"pcie_switch": "PIX", "pcie_host": "NODE", "pcie_cross_numa": "SYS", "xgmi": "XGMI"}
FIELDS = ("name", "count", "memory_mib", "link")


def described_devices(gpu_profile: Mapping[str, Any]) -> dict[str, Any]:
    """Devices and matrix of a described host: ``devices``, ``matrix``, ``accelerator``, ``warnings``.

    ``gpu_profile`` has ``name`` (product), ``count`` (default 1), ``memory_mib`` (default: the table's) and
    ``link`` (one of LINKS; default: what the product is sold with). Raises InputError for anything else.
    """
    unknown = sorted(set(gpu_profile) - set(FIELDS))
    if unknown:
        raise InputError(f"gpu_profile has no field {unknown[0]!r}. It has: {', '.join(FIELDS)}.")
    name, memory = gpu_profile.get("name"), gpu_profile.get("memory_mib")
    if not isinstance(name, str) or not name.strip():
        raise InputError("gpu_profile.name is missing. Write a product, for example: name: H100 SXM.")
    count = _count(gpu_profile.get("count"))
    profile = profiles.profile_by_word(name)
    if profile is None and memory is None:
        raise InputError(_unknown_name(name))
    total = _memory(memory, profile)
    warnings: list[str] = []
    link = _link(gpu_profile.get("link"), profile, count, warnings)
    return {
        "devices": [_device(place, name, profile, total) for place in range(count)],
        "matrix": _matrix(count, link, profile),
        "accelerator": "rocm" if profile and profile.vendor == "amd" else "cuda",
        "warnings": warnings,
    }


def _count(value: Any) -> int:
    number = 1 if value is None else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_GPUS:
        raise InputError(f"gpu_profile.count is {value!r}: write a number of GPUs of one host, 1 to {MOST_GPUS}.")
    return number


def _memory(value: Any, profile: GpuProfile | None) -> int | None:
    if value is None:
        return profile.memory_mib if profile else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"gpu_profile.memory_mib is {value!r}: write the memory of one GPU in MiB, e.g. 81559.")
    return value


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
        if value not in LINKS:
            raise InputError(f"gpu_profile.link is {value!r}: write one of {', '.join(LINKS)}.")
        return str(value)
    if count == 1:
        return "pcie_host"
    if profile and profile.link == profiles.XGMI:
        return "xgmi"
    if profile and profile.link == profiles.NVSWITCH:
        assumed = "nvlink_full" if count <= 4 else "nvswitch"
    else:
        assumed = "pcie_host"
    warnings.append(f"gpu_profile.link is not set: {assumed} was assumed.")
    return assumed


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


def _device(place: int, name: str, profile: GpuProfile | None, total: int | None) -> dict[str, Any]:
    nvidia = profile is not None and profile.vendor == "nvidia"
    return {
        "index": place,
        "name": profile.name if profile else name,
        "memory_total_mib": total,
        "memory_free_mib": total,
        "compute_capability": profile.arch if profile and nvidia else None,
        "gfx": profile.arch if profile and not nvidia else None,
    }
