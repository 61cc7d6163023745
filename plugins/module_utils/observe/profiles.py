# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The GPUs that a person would name, as data: memory as the driver reports it, bandwidth, links.

``memory_mib`` is what ``nvidia-smi`` (driver 510 or later, ECC in its default state) or ``rocm-smi`` print as
total; it is less than the number on the box. ``bandwidth_gb_s`` is memory bandwidth and ``link_gb_s`` what
all links of one GPU move in both directions together, in 10**9 bytes per second, from the named document.
``source`` says where memory and specification come from; "reported" is output of the vendor's tool on real
machines, in public logs read on 2026-11-23.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NVSWITCH = "nvswitch"
NVLINK_BRIDGE = "nvlink_bridge"
PCIE = "pcie"
XGMI = "xgmi"


@dataclass(frozen=True)
class GpuProfile:
    """One GPU. ``pattern`` matches the name that the driver prints; ``aliases`` are what people write.

    ``link`` is the best link that the product can have (a bridge has to be bought), ``nvlinks`` how many
    NVLinks one GPU has (0: none). ``unified`` marks GPUs that share the host's memory: no size of their own.
    """

    name: str
    pattern: str
    aliases: tuple[str, ...]
    memory_mib: int | None
    arch: str
    bandwidth_gb_s: int
    link: str
    link_gb_s: int
    nvlinks: int
    source: str
    unified: bool = False

    @property
    def vendor(self) -> str:
        """``nvidia`` or ``amd``."""
        return "amd" if self.arch.startswith("gfx") else "nvidia"


# Narrow patterns stand before wide ones: the first match counts.
PROFILES: tuple[GpuProfile, ...] = (
    GpuProfile(
        "NVIDIA GeForce RTX 3090", r"RTX 3090$",
        ("rtx3090", "3090"),
        24576, "8.6", 936, NVLINK_BRIDGE, 112, 4,
        "reported, driver 590.44.01; GA102 white paper",
    ),
    GpuProfile(
        "NVIDIA GeForce RTX 4090", r"RTX 4090$",
        ("rtx4090", "4090"),
        24564, "8.9", 1008, PCIE, 64, 0,
        "reported, driver 550.127.05; Ada GPU architecture white paper",
    ),
    GpuProfile(
        "NVIDIA GeForce RTX 5090", r"RTX 5090$",
        ("rtx5090", "5090"),
        32607, "12.0", 1792, PCIE, 128, 0,
        "reported, driver 580.159.03; RTX Blackwell architecture white paper",
    ),
    GpuProfile(
        "NVIDIA A100-SXM4-80GB", r"A(?:100|800)-SXM\d?-80GB",
        ("a100-80gb-sxm", "a100sxm80", "a100-80", "a100-80gb"),
        81920, "8.0", 2039, NVSWITCH, 600, 12,
        "reported, driver 555.42.02; A100 datasheet",
    ),
    GpuProfile(
        "NVIDIA A100-SXM4-40GB", r"A100-SXM\d?-40GB",
        ("a100-40gb-sxm", "a100sxm40", "a100-40", "a100-40gb"),
        40960, "8.0", 1555, NVSWITCH, 600, 12,
        "reported, driver 510.47.03; A100 datasheet",
    ),
    GpuProfile(
        "NVIDIA A100 80GB PCIe", r"A(?:100|800) 80GB PCIe",
        ("a100-80gb-pcie", "a100pcie80"),
        81920, "8.0", 1935, NVLINK_BRIDGE, 600, 12,
        "reported, driver 570.211.01; A100 80GB PCIe product brief",
    ),
    GpuProfile(
        "NVIDIA A100-PCIE-40GB", r"A100-PCIE-40GB",
        ("a100-40gb-pcie", "a100pcie40"),
        40960, "8.0", 1555, NVLINK_BRIDGE, 600, 12,
        "reported, driver 595.58.03; A100 PCIe product brief",
    ),
    GpuProfile(
        "NVIDIA RTX A6000", r"RTX A6000$",
        ("a6000", "rtxa6000"),
        49140, "8.6", 768, NVLINK_BRIDGE, 112, 4,
        "reported, driver 590.44.01; RTX A6000 datasheet",
    ),
    GpuProfile(
        "NVIDIA RTX 6000 Ada Generation", r"RTX 6000 Ada",
        ("rtx6000ada", "6000ada"),
        49140, "8.9", 960, PCIE, 64, 0,
        "reported, driver 550.127.05, ECC off; RTX 6000 Ada datasheet",
    ),
    GpuProfile(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition", r"RTX PRO 6000 Blackwell Server",
        ("rtxpro6000server", "pro6000server"),
        97887, "12.0", 1597, PCIE, 128, 0,
        "reported, driver 595.58.03; RTX PRO 6000 Blackwell Server Edition datasheet",
    ),
    GpuProfile(
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", r"RTX PRO 6000 Blackwell",
        ("rtxpro6000", "pro6000", "rtxpro6000blackwell"),
        97887, "12.0", 1792, PCIE, 128, 0,
        "reported, driver 590.44.01; RTX PRO 6000 Blackwell Workstation Edition datasheet",
    ),
    GpuProfile(
        "NVIDIA L40S", r"L40S$",
        ("l40s",),
        46068, "8.9", 864, PCIE, 64, 0,
        "reported, driver 550.127.05; L40S datasheet",
    ),
    GpuProfile(
        "NVIDIA L4", r"\bL4$",
        ("l4",),
        23034, "8.9", 300, PCIE, 64, 0,
        "reported, driver 550.90.07; L4 datasheet",
    ),
    GpuProfile(
        "Tesla T4", r"\bT4$",
        ("t4", "teslat4"),
        15360, "7.5", 320, PCIE, 32, 0,
        "reported, driver 515.105.01; T4 product brief",
    ),
    GpuProfile(
        "NVIDIA A10", r"\bA10$",
        ("a10",),
        23028, "8.6", 600, PCIE, 64, 0,
        "reported, driver 535.129.03; A10 datasheet",
    ),
    GpuProfile(
        "NVIDIA A10G", r"\bA10G$",
        ("a10g",),
        23028, "8.6", 600, PCIE, 64, 0,
        "reported, driver 515.105.01; A10 datasheet (A10G is the model that AWS has)",
    ),
    GpuProfile(
        "NVIDIA A40", r"\bA40$",
        ("a40",),
        46068, "8.6", 696, NVLINK_BRIDGE, 112, 4,
        "reported, driver 550.127.05; A40 datasheet",
    ),
    GpuProfile(
        "Tesla V100-SXM2-32GB", r"V100-SXM\d-32GB",
        ("v100-32gb", "v100sxm32"),
        32768, "7.0", 900, NVSWITCH, 300, 6,
        "reported, drivers since 510 (32510 before); V100 datasheet",
    ),
    GpuProfile(
        "Tesla V100-SXM2-16GB", r"V100-SXM\d-16GB",
        ("v100-16gb", "v100sxm16", "v100"),
        16384, "7.0", 900, NVSWITCH, 300, 6,
        "reported, driver 580.178.04; V100 datasheet",
    ),
    GpuProfile(
        "Tesla V100-PCIE-32GB", r"V100S?-PCIE-32GB",
        ("v100-32gb-pcie",),
        32768, "7.0", 900, PCIE, 32, 0,
        "reported, drivers since 510 (32510 before); V100 datasheet",
    ),
    GpuProfile(
        "Tesla V100-PCIE-16GB", r"V100-PCIE-16GB",
        ("v100-16gb-pcie", "v100-pcie"),
        16384, "7.0", 900, PCIE, 32, 0,
        "as V100-SXM2-16GB; V100 datasheet",
    ),
    GpuProfile(
        "NVIDIA H100 NVL", r"H100 NVL$",
        ("h100nvl",),
        95830, "9.0", 3900, NVLINK_BRIDGE, 600, 12,
        "reported, driver 550.54.14; H100 NVL product brief",
    ),
    GpuProfile(
        "NVIDIA H100 PCIe", r"H100 PCIe$",
        ("h100pcie",),
        81559, "9.0", 2000, NVLINK_BRIDGE, 600, 12,
        "reported, driver 580.82.09; H100 PCIe product brief",
    ),
    GpuProfile(
        "NVIDIA H100 80GB HBM3", r"H(?:100|800) 80GB HBM3|\bH100$|\bH800$",
        ("h100", "h100sxm", "h100-80gb"),
        81559, "9.0", 3350, NVSWITCH, 900, 18,
        "reported, driver 565.57.01; H100 datasheet",
    ),
    GpuProfile(
        "NVIDIA H200", r"\bH200$",
        ("h200", "h200sxm"),
        143771, "9.0", 4800, NVSWITCH, 900, 18,
        "reported, driver 590.48.01; H200 datasheet",
    ),
    GpuProfile(
        "NVIDIA GH200 144G HBM3e", r"GH200 144G",
        ("gh200-144gb",),
        146831, "9.0", 4900, NVSWITCH, 900, 18,
        "reported, driver 580.1; GH200 datasheet",
    ),
    GpuProfile(
        "NVIDIA GH200 480GB", r"GH200",
        ("gh200", "gh200-96gb"),
        97871, "9.0", 4000, NVSWITCH, 900, 18,
        "reported, driver 580.95.05; GH200 datasheet",
    ),
    GpuProfile(
        "NVIDIA GB200", r"\bGB200$",
        ("gb200",),
        189471, "10.0", 8000, NVSWITCH, 1800, 18,
        "reported, driver 580.105.08; GB200 NVL72 datasheet",
    ),
    GpuProfile(
        "NVIDIA B200", r"\bB200$",
        ("b200",),
        183359, "10.0", 8000, NVSWITCH, 1800, 18,
        "reported, driver 580.126.09; DGX B200 datasheet",
    ),
    GpuProfile(
        "NVIDIA B300 SXM6 AC", r"\bB300\b",
        ("b300",),
        275040, "10.3", 8000, NVSWITCH, 1800, 18,
        "reported, driver 580.95.05; DGX B300 datasheet",
    ),
    GpuProfile(
        "NVIDIA GB10", r"\bGB10$",
        ("gb10", "dgxspark", "gb10dgxspark"),
        None, "12.1", 273, PCIE, 0, 0,
        "reported, driver 580.126.09 (memory N/A); DGX Spark datasheet", unified=True,
    ),
    GpuProfile(
        "AMD Instinct MI300X", r"MI300X",
        ("mi300x",),
        196592, "gfx942", 5300, XGMI, 896, 0,
        "reported; MI300X datasheet",
    ),
    GpuProfile(
        "AMD Instinct MI325X", r"MI325X",
        ("mi325x",),
        262128, "gfx942", 6000, XGMI, 896, 0,
        "256 GiB less the 16 MiB that amdgpu keeps of MI300X and MI355X; MI325X datasheet",
    ),
    GpuProfile(
        "AMD Instinct MI355X", r"MI355X",
        ("mi355x",),
        294896, "gfx950", 8000, XGMI, 1075, 0,
        "reported; MI355X datasheet",
    ),
)  # fmt: skip

# Compute capability of families that are not in the table above. Source: NVIDIA's list "CUDA GPU Compute
# Capability" (developer.nvidia.com/cuda-gpus and /cuda-legacy-gpus), read on 2026-11-23.
_FAMILIES: tuple[tuple[str, str], ...] = (
    (r"\bB40\b|RTX PRO [2-6]\d{3} Blackwell|RTX 50[5-9]0", "12.0"),
    (r"\bGB300\b", "10.3"),
    (r"\bH(?:100|200|800|20)\b|\bGH200\b", "9.0"),
    (r"\bL(?:4|20|40S?|2)\b|\bRTX 40[5-9]0|RTX [2-6]\d{3} (?:SFF )?Ada", "8.9"),
    (r"\bA(?:2|10|10G|16|40)\b|RTX A[2-6]\d{3}|RTX 30[5-9]0", "8.6"),
    (r"\bA(?:30|100|800)\b", "8.0"),
    (r"\bT4G?\b|RTX 20[6-8]0|GTX 16[5-6]0|TITAN RTX|Quadro RTX [3-8]000|\bT(?:400|600|1000)\b", "7.5"),
    (r"\bV100S?\b|TITAN V\b|Quadro GV100", "7.0"),
    (r"\bP(?:4|40|6)\b|GTX 10[5-8]0|GT 1030|TITAN Xp|Quadro P[4-6]\d{2,3}\b|Quadro P2[0-9]00", "6.1"),
    (r"\bP100\b|Quadro GP100", "6.0"),
    (r"\bM(?:4|40|6|60)\b|GTX 9[5-8]0|TITAN X\b", "5.2"),
    (r"\bK80\b", "3.7"),
)


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
    return next((value for pattern, value in _FAMILIES if re.search(pattern, name or "")), None)


def profile_by_word(word: str) -> GpuProfile | None:
    """The profile that a person means: the product's name or an alias, whatever the case and punctuation."""
    wanted = _bare(word)
    for profile in PROFILES:
        if wanted in {_bare(profile.name), *(_bare(alias) for alias in profile.aliases)}:
            return profile
    return profile_of(word)


def profiles_by_words(text: str) -> list[GpuProfile]:
    """The profiles that have every word of a text in their name or in one alias: "A100 80GB" is two products."""
    words = [_bare(word) for word in re.split(r"[\s_,/()-]+", text)]
    words = [re.sub(r"^sxm\d$", "sxm", word) for word in words if word]
    return [
        profile
        for profile in PROFILES
        if words and any(all(word in _bare(name) for word in words) for name in (profile.name, *profile.aliases))
    ]


def _bare(word: str) -> str:
    text = re.sub(r"\b(nvidia|geforce|tesla|amd|instinct|generation|edition)\b", "", word.lower())
    return re.sub(r"[^a-z0-9]", "", text)
