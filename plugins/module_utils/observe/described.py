# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of hardware that is described instead of observed (``gpu_profile``). Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
FIELDS = ("name", "count", "memory_mib", "interconnect", "compute_capability")
_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_GFX = re.compile(r"gfx[0-9a-f]{3,4}")


@dataclass(frozen=True)
class _Kind:
    """GPUs of one kind of a described host."""

    name: str
    count: int
    memory_mib: int | None
    profile: GpuProfile | None
    vendor: str
    capability: str | None
    gfx: str | None
    link: str


def described_devices(gpu_profile: Any) -> dict[str, Any]:
    """Devices and matrix of a described host: ``devices``, ``matrix``, ``accelerator``, ``warnings``.

    ``gpu_profile`` has ``name`` (product, as a person or the driver writes it), ``count`` (default 1), ``memory_mib``
    (default: the table's), ``compute_capability`` (default: the product's; "gfx1201" for AMD's cards) and
    ``interconnect`` (a key of WORDS, any case; default: what the product is sold with). A list of such mappings is a
    host with GPUs of several kinds, which are numbered in this order and linked over PCIe.
    Raises InputError for anything else.
    """
    listed = gpu_profile if isinstance(gpu_profile, (list, tuple)) else [gpu_profile]
    if not listed or not all(isinstance(one, Mapping) for one in listed):
        raise InputError(
            f"gpu_profile is {gpu_profile!r}: write a mapping, for example: {{name: H100, count: 8}}, or a list of "
            "such mappings for a host with several kinds of GPUs."
        )
    warnings: list[str] = []
    kinds = [_kind(one, warnings) for one in listed]
    total = sum(kind.count for kind in kinds)
    if total > MOST_GPUS:
        raise InputError(f"gpu_profile has {total} GPUs: one host has {MOST_GPUS} at most.")
    vendors = sorted({kind.vendor for kind in kinds})
    if len(vendors) > 1:
        raise InputError(
            "gpu_profile has GPUs of NVIDIA and of AMD: one build of vLLM serves one of them; leave one out."
        )
    spread = [kind for kind in kinds for _ in range(kind.count)]
    return {
        "devices": [_device(place, kind) for place, kind in enumerate(spread)],
        "matrix": _matrix(kinds),
        "accelerator": "rocm" if vendors == ["amd"] else "cuda",
        "warnings": list(dict.fromkeys(warnings)),
    }


def _kind(written: Mapping[str, Any], warnings: list[str]) -> _Kind:
    unknown = sorted(str(key) for key in written if key not in FIELDS)
    if unknown:
        raise InputError(f"gpu_profile has no field {unknown[0]!r}. It has: {', '.join(FIELDS)}.")
    name = written.get("name")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)  # YAML reads 4090 as a number
    if not isinstance(name, str) or not name.strip():
        raise InputError("gpu_profile.name is missing. Write a product, for example: name: H100 SXM.")
    count = _count(written.get("count"))
    memory = _memory(written.get("memory_mib"))
    maker = profiles.other_maker(name)
    if maker:
        raise InputError(
            f"gpu_profile.name is {name!r}, of {maker}: this collection plans GPUs of NVIDIA and AMD alone."
        )
    profile = _profile(name, memory)
    capability, gfx = _capability(name, profile, written.get("compute_capability"))
    vendor = "amd" if gfx else "nvidia" if capability else _vendor(name, profile)
    link = _link(written.get("interconnect"), profile, count, warnings)
    return _Kind(name, count, memory, profile, vendor, capability, gfx, link)


def _vendor(name: str, profile: GpuProfile | None) -> str:
    vendor = profile.vendor if profile else profiles.vendor_of(name)
    if vendor is None:
        raise InputError(
            f"gpu_profile.name is {name!r}, which does not say whether it is of NVIDIA or AMD: write the maker in "
            f"front (NVIDIA {name}), or add gpu_profile.compute_capability, such as '9.0' (AMD: 'gfx942')."
        )
    return vendor


def _capability(name: str, profile: GpuProfile | None, written: Any) -> tuple[str | None, str | None]:
    """Compute capability and LLVM target; one of them at most is known. What is written holds for unknown products."""
    amd = (profile.vendor if profile else profiles.vendor_of(name)) == "amd"
    known = profile.arch if profile else profiles.gfx_of(name) if amd else profiles.compute_capability_of(name)
    if written is None:
        return (None, known) if amd else (known, None)
    text = str(written).lower() if isinstance(written, (str, float, int)) and not isinstance(written, bool) else ""
    text = f"{text}.0" if re.fullmatch(r"\d{1,2}", text) else text
    if not (_GFX.fullmatch(text) if amd else _CAPABILITY.fullmatch(text) or (not known and _GFX.fullmatch(text))):
        like = "an LLVM target such as 'gfx942'" if amd else "a number such as '9.0'"
        raise InputError(f"gpu_profile.compute_capability is {written!r}: write {like}.")
    if known and text != known:
        raise InputError(
            f"gpu_profile.compute_capability is {written!r}, and {profile.name if profile else name} has {known}: "
            "leave it out."
        )
    return (None, text) if text.startswith("gfx") else (text, None)


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
    if profiles.is_mig(name):
        _check_slice(name, memory_mib)
        return None
    several = profiles.several_memories(name)
    if several:
        return _of_memory(name, several, memory_mib)
    profile = profiles.profile_by_word(name)
    if profile is not None:
        return profile
    near = profiles.profiles_by_words(name)
    sized = None if near else profiles.of_memory_word(name)
    if sized and sized[0]:
        return _of_memory_word(name, *sized, memory_mib)
    if memory_mib is not None:
        return next((one for one in near if _same_memory(one.memory_mib, memory_mib)), None)
    sizes = {one.memory_mib for one in near}
    if len(sizes) == 1:
        return near[0]
    if near:
        names = ", ".join(one.name for one in near)
        raise InputError(f"gpu_profile.name is {name!r}, which may be one of several: write one of {names}.")
    raise InputError(_unknown_name(name))


def _of_memory_word(name: str, near: Sequence[GpuProfile], said: int, memory_mib: int | None) -> GpuProfile | None:
    """The product of a name with its memory; boards with other memory than the product's have it written as well."""
    fitting = [one for one in near if _same_memory(one.memory_mib, memory_mib or said)]
    if fitting:
        return fitting[0]
    if memory_mib is not None:
        return near[0] if len(near) == 1 else None
    known = " or ".join(f"{one.memory_mib} ({one.name})" for one in near)
    raise InputError(
        f"gpu_profile.name is {name!r}, and what is in the table has {known} MiB: write that name, or add "
        "gpu_profile.memory_mib (what nvidia-smi prints as total)."
    )


def _check_slice(name: str, memory_mib: int | None) -> None:
    """A slice is no product: it has the memory that is written, and is not planned (pools.py)."""
    if memory_mib is None:
        raise InputError(
            f"gpu_profile.name is {name!r}, a MIG slice: instances are planned on whole GPUs; write the GPU's own "
            "name, and switch MIG off on the host."
        )


def _of_memory(name: str, several: Sequence[GpuProfile], memory_mib: int | None) -> GpuProfile | None:
    if memory_mib is None:
        sizes = " or ".join(f"{one.memory_mib} ({one.name})" for one in several)
        raise InputError(
            f"gpu_profile.name is {name!r}, which is sold with different memory: add gpu_profile.memory_mib: {sizes}."
        )
    return next((one for one in several if _same_memory(one.memory_mib, memory_mib)), several[0])


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


def _matrix(kinds: Sequence[_Kind]) -> list[list[str | None]]:
    """What nvidia-smi topo -m would print: the links inside each kind, PCIe between kinds."""
    places = [(number, place) for number, kind in enumerate(kinds) for place in range(kind.count)]
    return [
        [_cell(here[1], there[1], kinds[here[0]]) if here[0] == there[0] else _CELLS["pcie_host"] for there in places]
        for here in places
    ]


def _cell(i: int, j: int, kind: _Kind) -> str:
    if i == j:
        return "X"
    count, link = kind.count, kind.link
    links = (kind.profile.nvlinks if kind.profile else 0) or 4
    if link == "nvswitch":
        return f"NV{links}"
    if link == "nvlink_full":
        return f"NV{max(1, links // (count - 1))}"
    if link == "nvlink_pairs":
        return f"NV{links}" if i // 2 == j // 2 else "NODE"
    return _CELLS[link]


def _device(place: int, kind: _Kind) -> dict[str, Any]:
    profile = kind.profile
    total = kind.memory_mib if kind.memory_mib is not None else profile.memory_mib if profile else None
    return {
        "index": place,
        "name": profile.name if profile else kind.name,
        "memory_total_mib": total,
        "memory_free_mib": total,
        "compute_capability": kind.capability,
        "gfx": kind.gfx,
        "mig_mode": True if profiles.is_mig(kind.name) else None,
    }
