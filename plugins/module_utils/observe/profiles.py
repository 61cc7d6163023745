# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the GPU that a driver or a person names."""

from __future__ import annotations

import functools
import re

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.gpu_table import (
    NVLINK_BRIDGE,
    NVSWITCH,
    PCIE,
    PROFILES,
    XGMI,
    GpuProfile,
)

__all__ = (
    "NVLINK_BRIDGE",
    "NVSWITCH",
    "PCIE",
    "PROFILES",
    "XGMI",
    "GpuProfile",
    "compute_capability_of",
    "gfx_of",
    "is_mig",
    "of_memory_word",
    "other_maker",
    "profile_by_word",
    "profile_of",
    "profiles_by_words",
    "several_memories",
    "vendor_of",
)

# Compute capability of families that are not in the table. Source: NVIDIA's list "CUDA GPU Compute Capability"
# (developer.nvidia.com/cuda-gpus and /cuda-legacy-gpus), read on 2026-11-23.
_FAMILIES: tuple[tuple[str, str], ...] = (
    (r"\bB40\b|RTX PRO [2-6]\d{3}D?\b|RTX 6000D\b|\b(?:RTX )?50[5-9]0D?\b", "12.0"),
    (r"\bThor\b", "11.0"),
    (r"\bG?B300\b", "10.3"),
    (r"\bG?B[12]00\b", "10.0"),
    (r"\bH(?:100|200|800|20)\b|\bGH200\b", "9.0"),
    (r"\bL(?:4|20|40S?|2)\b|\b(?:RTX )?40[5-9]0D?\b|RTX [2-6]\d{3} (?:SFF )?Ada", "8.9"),
    (r"\bOrin\b", "8.7"),
    (r"\bA(?:2|10|10G|16|40)\b|RTX A[2-6]\d{3}|\b(?:RTX )?30[5-9]0\b", "8.6"),
    (r"\bA(?:30|100|800)\b", "8.0"),
    (r"\bT4G?\b|\b(?:RTX )?20[6-8]0\b|GTX 16[5-6]0|TITAN RTX|Quadro RTX [3-8]000|\bT(?:400|600|1000)\b", "7.5"),
    (r"\bV100S?\b|TITAN V\b|Quadro GV100", "7.0"),
    (r"\bP(?:4|40|6)\b|GTX 10[5-8]0|GT 1030|TITAN Xp|Quadro P[4-6]\d{2,3}\b|Quadro P2[0-9]00", "6.1"),
    (r"\bP100\b|Quadro GP100", "6.0"),
    (r"\bM(?:4|40|6|60)\b|GTX 9[5-8]0|TITAN X\b", "5.2"),
    (r"\bK80\b", "3.7"),
)
# LLVM targets of AMD's cards. Source: AMD's list "GPU hardware specifications"
# (rocm.docs.amd.com/en/latest/reference/gpu-arch-specs.html).
_GFX: tuple[tuple[str, str], ...] = (
    (r"\bMI35\d[AX]?\b", "gfx950"),
    (r"\bMI3[02]\d[AX]?\b", "gfx942"),
    (r"\bMI2\d0X?\b", "gfx90a"),
    (r"\bMI100\b", "gfx908"),
    (r"\bR9[67]00\b|RX 9070", "gfx1201"),
    (r"RX 9060", "gfx1200"),
    (r"\bW7[89]00\b|RX 79\d0", "gfx1100"),
    (r"\bW7700\b|RX 7[78]00", "gfx1101"),
    (r"RX 7600|\bW7[56]00\b", "gfx1102"),
    (r"Strix Halo|Ryzen AI Max|8060S|8050S", "gfx1151"),
    (r"\bW6800\b|RX 6[89]\d0", "gfx1030"),
)
_AMD = re.compile(r"\b(?:AMD|Radeon|Instinct|FirePro|Ryzen|MI\d{2,3}[AX]?|RX \d{4})\b", re.IGNORECASE)
_NVIDIA = re.compile(
    r"\b(?:NVIDIA|GeForce|Tesla|Quadro|RTX ?\w*|GTX ?\d*|TITAN|Jetson|DGX|HGX|Grace|GRID)\b", re.IGNORECASE
)
# Makers of accelerators that vLLM has other builds or plugins for, and this collection none.
_OTHERS: tuple[tuple[str, str], ...] = (
    (r"\b(?:Intel|Arc|Gaudi ?\d?|Xe2?|Battlemage|Ponte Vecchio|Xeon|B(?:[5-7]0|5[78]0)|Max 1[15][05]0)\b", "Intel"),
    (r"\b(?:Huawei|Ascend|910[BC]\d?|Atlas)\b", "Huawei"),
    (r"\b(?:Google|TPU(?: ?v\d\w?)?|Trillium|Ironwood)\b", "Google"),
    (r"\b(?:AWS|Amazon|Trainium\d?|Inferentia\d?|trn\d|inf\d)\b", "Amazon"),
    (r"\b(?:Apple|M[1-5] (?:Pro|Max|Ultra))\b", "Apple"),
    (r"\b(?:Moore Threads|MTT ?\w*)\b", "Moore Threads"),
    (r"\b(?:Hygon|DCU|K100)\b", "Hygon"),
    (r"\b(?:Qualcomm|Cloud AI \d+)\b", "Qualcomm"),
    (r"\b(?:Tenstorrent|Wormhole|Blackhole)\b", "Tenstorrent"),
    (r"\b(?:Cambricon|MLU\d+)\b", "Cambricon"),
    (r"\b(?:MetaX|C5[05]0)\b", "MetaX"),
    (r"\b(?:Iluvatar|BI-V\d+)\b", "Iluvatar"),
    (r"\b(?:Biren|BR10\d)\b", "Biren"),
    (r"\b(?:Kunlun|Kunlunxin)\b", "Baidu"),
)
# A slice of a GPU as nvidia-smi names it: "MIG 2g.20gb", "1g.10gb+me".
_MIG = re.compile(r"\bMIG\b|\b\d+g\.\d+gb\b", re.IGNORECASE)
# Memory at the end of a name: "H200 141GB", "RTX 4090 (48 GB)"
_MEMORY = re.compile(r"^(.*?)[\s_-]*\(?\b(\d{1,3}) ?(?:GB|GiB|G)\b\)?$", re.IGNORECASE)
# Names that do not say which memory a card has; what it is sold with.
_SEVERAL_MEMORIES = {"h20": ("NVIDIA H20", "NVIDIA H20-3e")}


@functools.lru_cache(maxsize=256)
def profile_of(name: str | None) -> GpuProfile | None:
    """The profile of a GPU by the name that its driver prints; None where it is not in the table."""
    if not name:
        return None
    return next((profile for profile in PROFILES if re.search(profile.pattern, name)), None)


def compute_capability_of(name: str | None) -> str | None:
    """Compute capability ("8.9") by product name, for drivers that do not print it; None where not known."""
    profile = profile_of(name)
    if profile:
        return profile.arch if profile.vendor == "nvidia" else None
    if _AMD.search(name or ""):
        return None
    return next((value for pattern, value in _FAMILIES if re.search(pattern, name or "", re.IGNORECASE)), None)


def gfx_of(name: str) -> str | None:
    """The LLVM target of an AMD card ("gfx1201") by its name; None where not known."""
    return next((value for pattern, value in _GFX if re.search(pattern, name, re.IGNORECASE)), None)


def vendor_of(name: str) -> str | None:
    """``nvidia`` or ``amd`` by the words of a product's name; None where they do not say it."""
    if _AMD.search(name):
        return "amd"
    return "nvidia" if _NVIDIA.search(name) or compute_capability_of(name) else None


def other_maker(name: str) -> str | None:
    """The maker of an accelerator that is of neither NVIDIA nor AMD; None where no word says so."""
    if _NVIDIA.search(name) or _AMD.search(name):
        return None
    return next((maker for pattern, maker in _OTHERS if re.search(pattern, name, re.IGNORECASE)), None)


def is_mig(name: str) -> bool:
    """Tell whether a name is that of a slice of a GPU (MIG)."""
    return bool(_MIG.search(name))


def profile_by_word(word: str) -> GpuProfile | None:
    """The profile that a person means: the product's name or an alias, whatever the case and punctuation."""
    wanted = _bare(word)
    for profile in PROFILES:
        if wanted in {_bare(profile.name), *(_bare(alias) for alias in profile.aliases)}:
            return profile
    return profile_of(word)


def several_memories(word: str) -> list[GpuProfile]:
    """The products that one name stands for when they differ in memory alone; empty for other names."""
    names = _SEVERAL_MEMORIES.get(_bare(word), ())
    return [profile for profile in PROFILES if profile.name in names]


def profiles_by_words(text: str) -> list[GpuProfile]:
    """The profiles that have every word of a text in their name or in one alias: "A100 80GB" is two products.

    Words are whole: "H20" is not in "H200".
    """
    words = _words(text)
    return [
        profile
        for profile in PROFILES
        if words and any(words <= _joined(name) for name in (profile.name, *profile.aliases))
    ]


def of_memory_word(text: str) -> tuple[list[GpuProfile], int] | None:
    """The profiles that a name with its memory may mean ("H200 141GB"), and this memory in MiB; None without one."""
    match = _MEMORY.match(text.strip())
    if not match or not match.group(1):
        return None
    named = profile_by_word(match.group(1))
    found = profiles_by_words(match.group(1))
    return list(dict.fromkeys([*([named] if named else []), *found])), int(match.group(2)) * 1024


def _joined(name: str) -> set[str]:
    """The words of a name, and what neighbours make together ("RTX 4090" is "rtx4090" as well)."""
    parts = _parts(name)
    return {"".join(parts[start:end]) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)}


def _words(text: str) -> set[str]:
    return set(_parts(text))


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[^a-z0-9]+", _plain(text)) if part]


def _bare(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _plain(word))


def _plain(text: str) -> str:
    found = re.sub(
        r"\b(nvidia|geforce|tesla|amd|instinct|radeon|generation|edition|hgx|dgx|nvlink)\b", "", text.lower()
    )
    return re.sub(r"sxm\d\b", "sxm", found)
