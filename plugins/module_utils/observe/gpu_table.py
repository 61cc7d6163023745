# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The GPUs that a person would name, as data: memory as the driver reports it, bandwidth, links.

``memory_mib`` is what ``nvidia-smi`` (driver 510 or later, ECC in its default state) or ``rocm-smi`` print as
total; it is less than the number on the box. ``bandwidth_gb_s`` is memory bandwidth and ``link_gb_s`` what
all links of one GPU move in both directions together, in 10**9 bytes per second, from the named document.
``source`` says where memory and specification come from; "reported" is output of the vendor's tool on real
machines, in public logs read on 2026-11-23.
"""

from __future__ import annotations

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
        "NVIDIA GeForce RTX 2080 Ti", r"RTX 2080 Ti$",
        ("rtx2080ti", "2080ti"),
        11264, "7.5", 616, NVLINK_BRIDGE, 100, 2,
        "reported; Turing architecture white paper",
    ),
    GpuProfile(
        "NVIDIA GeForce RTX 3080", r"RTX 3080$",
        ("rtx3080", "3080"),
        10240, "8.6", 760, PCIE, 64, 0,
        "reported; GA102 white paper (10 GB; boards with 20 GB are not NVIDIA's own)",
    ),
    GpuProfile(
        "NVIDIA GeForce RTX 4080", r"RTX 4080$",
        ("rtx4080", "4080"),
        16376, "8.9", 717, PCIE, 64, 0,
        "reported; Ada GPU architecture white paper",
    ),
    GpuProfile(
        "NVIDIA GeForce RTX 5070 Ti", r"RTX 5070 Ti$",
        ("rtx5070ti", "5070ti"),
        16303, "12.0", 896, PCIE, 128, 0,
        "reported; RTX Blackwell architecture white paper",
    ),
    GpuProfile(
        "NVIDIA GeForce RTX 5080", r"RTX 5080$",
        ("rtx5080", "5080"),
        16303, "12.0", 960, PCIE, 128, 0,
        "reported; RTX Blackwell architecture white paper",
    ),
    GpuProfile(
        "NVIDIA A100-SXM4-80GB", r"A(?:100|800)-SXM\d?-80GB",
        ("a100-80gb-sxm", "a100sxm80", "a100-80", "a100-80gb", "a800-80gb-sxm", "a800-80gb"),
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
        ("a100-80gb-pcie", "a100pcie80", "a800-80gb-pcie"),
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
        ("rtx-pro-6000-server", "pro-6000-server", "rtx-6000-pro-server"),
        97887, "12.0", 1597, PCIE, 128, 0,
        "reported, driver 595.58.03; RTX PRO 6000 Blackwell Server Edition datasheet",
    ),
    GpuProfile(
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", r"RTX PRO 6000 Blackwell",
        ("rtx-pro-6000", "pro-6000", "rtx-pro-6000-blackwell", "rtx-pro-6000-max-q", "rtx-6000-pro"),
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
        "NVIDIA L40", r"\bL40$",
        ("l40",),
        46068, "8.9", 864, PCIE, 64, 0,
        "as L40S; L40 datasheet",
    ),
    GpuProfile(
        "NVIDIA L20", r"\bL20$",
        ("l20",),
        46068, "8.9", 864, PCIE, 64, 0,
        "as L40S; L20 datasheet",
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
        "NVIDIA A30", r"\bA30$",
        ("a30",),
        24576, "8.0", 933, NVLINK_BRIDGE, 200, 4,
        "reported; A30 datasheet",
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
        "NVIDIA H100 PCIe", r"H(?:100|800) PCIe$",
        ("h100pcie", "h800pcie"),
        81559, "9.0", 2000, NVLINK_BRIDGE, 600, 12,
        "reported, driver 580.82.09; H100 PCIe product brief",
    ),
    GpuProfile(
        "NVIDIA H100 80GB HBM3", r"H(?:100|800) 80GB HBM3|\bH100$|\bH800$",
        ("h100", "h100-sxm", "h100-80gb"),
        81559, "9.0", 3350, NVSWITCH, 900, 18,
        "reported, driver 565.57.01; H100 datasheet",
    ),
    GpuProfile(
        "NVIDIA H20-3e", r"\bH20-3e\b|\bH20 141GB",
        ("h20-141gb", "h20-3e-141gb"),
        143771, "9.0", 4800, NVSWITCH, 900, 18,
        "memory and bandwidth as H200; H20-3e product brief",
    ),
    GpuProfile(
        "NVIDIA H20", r"\bH20$",
        ("h20-96gb",),
        97871, "9.0", 4000, NVSWITCH, 900, 18,
        "reported; H20 product brief",
    ),
    GpuProfile(
        "NVIDIA H200 NVL", r"\bH200 NVL$",
        ("h200nvl",),
        143771, "9.0", 4800, NVLINK_BRIDGE, 900, 18,
        "reported; H200 NVL product brief",
    ),
    GpuProfile(
        "NVIDIA H200", r"\bH200$",
        ("h200", "h200-sxm"),
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
        ("gh200", "gh200-96gb", "grace-hopper"),
        97871, "9.0", 4000, NVSWITCH, 900, 18,
        "reported, driver 580.95.05; GH200 datasheet",
    ),
    GpuProfile(
        "NVIDIA GB300", r"\bGB300\b",
        ("gb300", "gb300nvl72"),
        284208, "10.3", 8000, NVSWITCH, 1800, 18,
        "reported; GB300 NVL72 datasheet",
    ),
    GpuProfile(
        "NVIDIA GB200", r"\bGB200$",
        ("gb200", "gb200nvl72"),
        189471, "10.0", 8000, NVSWITCH, 1800, 18,
        "reported, driver 580.105.08; GB200 NVL72 datasheet",
    ),
    GpuProfile(
        "NVIDIA B200", r"\bB200$",
        ("b200", "b200-sxm", "hgx-b200"),
        183359, "10.0", 8000, NVSWITCH, 1800, 18,
        "reported, driver 580.126.09; DGX B200 datasheet",
    ),
    GpuProfile(
        "NVIDIA B300 SXM6 AC", r"\bB300\b",
        ("b300", "b300-sxm", "hgx-b300"),
        275040, "10.3", 8000, NVSWITCH, 1800, 18,
        "reported, driver 580.95.05; DGX B300 datasheet",
    ),
    GpuProfile(
        "NVIDIA GB10", r"\bGB10$",
        ("gb10", "dgx-spark", "gb10-dgx-spark", "spark"),
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
    GpuProfile(
        "AMD Instinct MI350X", r"MI350X",
        ("mi350x",),
        294896, "gfx950", 8000, XGMI, 1075, 0,
        "as MI355X; MI350X datasheet",
    ),
    GpuProfile(
        "AMD Radeon AI PRO R9700", r"R9700$",
        ("r9700", "ai-pro-r9700"),
        32624, "gfx1201", 640, PCIE, 128, 0,
        "reported; Radeon AI PRO R9700 datasheet",
    ),
)  # fmt: skip
