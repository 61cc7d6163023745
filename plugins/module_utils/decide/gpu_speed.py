# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How fast GPUs compute and how fast their slots are, as data beside ``observe.profiles``.

``tflops`` is dense matrix multiplication in BF16 or FP16 (FP16 before Ampere) with FP32 accumulation, ``tflops_8bit``
the same in FP8, or in INT8 on GPUs without FP8 (None: no such units), both in 10**12 operations per second.
``pcie_gb_s`` is what the slot moves in one direction in 10**9 bytes per second: 15.75, 31.5 and 63 for sixteen lanes of
generation 3, 4 and 5 (PCI Express base specifications). ``p2p_over_pcie`` is False for products whose driver lets GPUs
reach one another's memory through NVLink at most.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import GpuProfile, profile_of

GEN3, GEN4, GEN5 = 15.75, 31.5, 63.0


@dataclass(frozen=True)
class GpuSpeed:
    """Speeds of one GPU; ``source`` says where those of computing come from."""

    tflops: float
    tflops_8bit: float | None
    pcie_gb_s: float
    source: str
    p2p_over_pcie: bool = True


_HOPPER = "H100 datasheet, half of what it gives with sparsity"
_AMPERE = "A100 datasheet"
# By name of the profile. Datasheets and white papers of the vendors, read on 2026-11-23.
SPEEDS: dict[str, GpuSpeed] = {
    "NVIDIA GeForce RTX 3090": GpuSpeed(71, 284, GEN4, "GA102 white paper, table of the RTX 3090", False),
    "NVIDIA GeForce RTX 4090": GpuSpeed(165, 330, GEN4, "Ada GPU architecture white paper, appendix A", False),
    "NVIDIA GeForce RTX 5090": GpuSpeed(210, 419, GEN5, "RTX Blackwell white paper, appendix A", False),
    "NVIDIA GeForce RTX 2080 Ti": GpuSpeed(54, 215, GEN3, "Turing white paper, table of the RTX 2080 Ti", False),
    "NVIDIA GeForce RTX 3080": GpuSpeed(60, 238, GEN4, "GA102 white paper, table of the RTX 3080", False),
    "NVIDIA GeForce RTX 4080": GpuSpeed(97, 195, GEN4, "Ada GPU architecture white paper, appendix A", False),
    "NVIDIA GeForce RTX 5070 Ti": GpuSpeed(88, 176, GEN5, "RTX Blackwell white paper, appendix A", False),
    "NVIDIA GeForce RTX 5080": GpuSpeed(113, 225, GEN5, "RTX Blackwell white paper, appendix A", False),
    "NVIDIA A100-SXM4-80GB": GpuSpeed(312, 624, GEN4, _AMPERE),
    "NVIDIA A100-SXM4-40GB": GpuSpeed(312, 624, GEN4, _AMPERE),
    "NVIDIA A100 80GB PCIe": GpuSpeed(312, 624, GEN4, _AMPERE),
    "NVIDIA A100-PCIE-40GB": GpuSpeed(312, 624, GEN4, _AMPERE),
    "NVIDIA RTX A6000": GpuSpeed(155, 310, GEN4, "RTX A6000 datasheet, half of what it gives with sparsity"),
    "NVIDIA RTX 6000 Ada Generation": GpuSpeed(364, 728, GEN4, "RTX 6000 Ada datasheet, half of that with sparsity"),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": GpuSpeed(
        465, 930, GEN5, "datasheet: an eighth and a quarter of its FP4 with sparsity"
    ),
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": GpuSpeed(
        500, 1000, GEN5, "datasheet: an eighth and a quarter of its FP4 with sparsity"
    ),
    "NVIDIA L40S": GpuSpeed(362, 733, GEN4, "L40S datasheet"),
    "NVIDIA L40": GpuSpeed(181, 362, GEN4, "L40 datasheet"),
    "NVIDIA L20": GpuSpeed(119, 239, GEN4, "L20 datasheet"),
    "NVIDIA L4": GpuSpeed(121, 242, GEN4, "L4 datasheet, half of what it gives with sparsity"),
    "Tesla T4": GpuSpeed(65, 130, GEN3, "T4 datasheet"),
    "NVIDIA A10": GpuSpeed(125, 250, GEN4, "A10 datasheet"),
    "NVIDIA A10G": GpuSpeed(70, 140, GEN4, "A10G datasheet"),
    "NVIDIA A30": GpuSpeed(165, 330, GEN4, "A30 datasheet"),
    "NVIDIA A40": GpuSpeed(150, 299, GEN4, "A40 datasheet"),
    "Tesla V100-SXM2-32GB": GpuSpeed(125, None, GEN3, "V100 datasheet"),
    "Tesla V100-SXM2-16GB": GpuSpeed(125, None, GEN3, "V100 datasheet"),
    "Tesla V100-PCIE-32GB": GpuSpeed(112, None, GEN3, "V100 datasheet"),
    "Tesla V100-PCIE-16GB": GpuSpeed(112, None, GEN3, "V100 datasheet"),
    "NVIDIA H100 NVL": GpuSpeed(835, 1671, GEN5, "H100 NVL product brief, half of what it gives with sparsity"),
    "NVIDIA H100 PCIe": GpuSpeed(756, 1513, GEN5, _HOPPER),
    "NVIDIA H100 80GB HBM3": GpuSpeed(989, 1979, GEN5, _HOPPER),
    "NVIDIA H20-3e": GpuSpeed(148, 296, GEN5, "H20 product brief"),
    "NVIDIA H20": GpuSpeed(148, 296, GEN5, "H20 product brief"),
    "NVIDIA H200 NVL": GpuSpeed(835, 1671, GEN5, "H200 NVL product brief, half of what it gives with sparsity"),
    "NVIDIA H200": GpuSpeed(989, 1979, GEN5, "H200 datasheet, half of what it gives with sparsity"),
    "NVIDIA GH200 144G HBM3e": GpuSpeed(989, 1979, GEN5, "GH200 datasheet"),
    "NVIDIA GH200 480GB": GpuSpeed(989, 1979, GEN5, "GH200 datasheet"),
    "NVIDIA GB300": GpuSpeed(2500, 5000, GEN5, "GB300 NVL72 datasheet, half of that with sparsity, per GPU"),
    "NVIDIA GB200": GpuSpeed(2500, 5000, GEN5, "GB200 NVL72 datasheet, half of that with sparsity, per GPU"),
    "NVIDIA B200": GpuSpeed(2250, 4500, GEN5, "DGX B200 datasheet, an eighth of half of that with sparsity"),
    "NVIDIA B300 SXM6 AC": GpuSpeed(2250, 4500, GEN5, "DGX B300 datasheet, an eighth of half of that with sparsity"),
    "NVIDIA GB10": GpuSpeed(125, 250, GEN5, "DGX Spark datasheet: an eighth and a quarter of its FP4 with sparsity"),
    "AMD Instinct MI300X": GpuSpeed(1307, 2615, GEN5, "MI300X datasheet"),
    "AMD Instinct MI325X": GpuSpeed(1307, 2615, GEN5, "MI325X datasheet"),
    "AMD Instinct MI355X": GpuSpeed(2517, 5033, GEN5, "MI355X datasheet"),
    "AMD Instinct MI350X": GpuSpeed(2307, 4614, GEN5, "MI350X datasheet"),
    "AMD Radeon AI PRO R9700": GpuSpeed(191, 383, GEN5, "Radeon AI PRO R9700 datasheet"),
}


@functools.lru_cache(maxsize=256)
def speeds_of(name: str | None) -> tuple[GpuProfile, GpuSpeed] | None:
    """Profile and speeds of a GPU by the name that its driver prints; None where it is not in the tables."""
    profile = profile_of(name)
    speed = SPEEDS.get(profile.name) if profile else None
    return (profile, speed) if profile and speed else None
