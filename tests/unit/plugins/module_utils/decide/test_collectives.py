"""Time of messages between GPUs."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collectives import Link, Wire, link_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.gpu_speed import speeds_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import Group, link_class
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed_constants import CONSTANTS

KIB = 1024
H100 = "NVIDIA H100 80GB HBM3"


def wire(gpu: str, link: Link | str) -> Wire:
    found = speeds_of(gpu)
    assert found is not None
    return Wire(link_of(link), *found)


@pytest.mark.parametrize(
    ("gpu", "link", "ranks", "size", "nccl", "measured_us"),
    [
        # vllm-project/vllm pull 24532 (two GPUs: pull 24111), H100
        (H100, "nvlink", 2, 512 * KIB, False, 7),
        (H100, "nvlink", 4, 512 * KIB, False, 10),
        (H100, "nvlink", 4, 2048 * KIB, False, 23),
        (H100, "nvlink", 4, 512 * KIB, True, 21),
        (H100, "nvlink", 4, 4096 * KIB, True, 39),
        # haohervchb/sglang-V100 pull 2: four V100 behind a PCIe switch
        ("Tesla V100-PCIE-32GB", "pcie_switch", 4, 4 * KIB, True, 19.4),
        ("Tesla V100-PCIE-32GB", "pcie_switch", 4, 16 * KIB, True, 22.3),
        ("Tesla V100-PCIE-32GB", "pcie_switch", 4, 128 * KIB, True, 51.8),
        ("Tesla V100-PCIE-32GB", "pcie_switch", 4, 384 * KIB, True, 83.5),
        # local-inference-lab/vllm pull 580
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "pcie_switch", 4, 512 * KIB, True, 41.7),
        # NVIDIA/nccl issue 1530
        ("NVIDIA GeForce RTX 4090", "pcie_cross_numa", 8, 8, True, 42),
        # local-inference-lab/b12x pull 295
        ("NVIDIA GB10", "network", 4, 48 * KIB, True, 59),
    ],
)
def test_an_all_reduce_takes_what_was_measured_within_half(
    gpu: str, link: str, ranks: int, size: int, nccl: bool, measured_us: float
) -> None:
    found = wire(gpu, link).all_reduce_ms(size, ranks, nccl) * 1000
    print(f"{found:.1f} us, measured {measured_us} us")
    assert measured_us / 1.5 < found < measured_us * 1.5


@pytest.mark.parametrize(
    ("gpu", "link", "expected"),
    [
        (H100, "nvlink", "nvlink"),
        (H100, "pcie", "pcie_host"),
        (H100, "none", "pcie_host"),
        (H100, Link("pcie_switch", p2p=False), "no_p2p"),
        ("NVIDIA GeForce RTX 4090", "pcie_switch", "no_p2p"),
        # no such link on this card: what the driver calls so goes through PCIe
        ("NVIDIA GeForce RTX 4090", Link("nvlink", p2p=True), "pcie_host"),
        ("NVIDIA GeForce RTX 3090", "nvlink", "nvlink"),
        ("AMD Instinct MI300X", "xgmi", "nvlink"),
        ("NVIDIA GB10", "network", "network"),
        ("NVIDIA GB10", Link("network", rdma=False), "socket"),
    ],
)
def test_the_kind_of_a_wire(gpu: str, link: Link | str, expected: str) -> None:
    assert wire(gpu, link).kind == expected


@pytest.mark.parametrize(
    ("gpu", "link", "ranks", "size", "expected"),
    [
        (H100, "nvlink", 4, 16 * KIB, True),
        (H100, "nvlink", 3, 16 * KIB, False),
        (H100, "nvlink", 4, 9 * KIB * KIB, False),
        (H100, "pcie_switch", 2, 16 * KIB, True),
        (H100, "pcie_switch", 4, 16 * KIB, False),
        (H100, "network", 2, 16 * KIB, False),
        ("NVIDIA GeForce RTX 4090", "pcie_host", 2, 16 * KIB, False),
    ],
)
def test_where_vllm_uses_its_own_kernel(gpu: str, link: str, ranks: int, size: int, expected: bool) -> None:
    assert wire(gpu, link).custom(ranks, size) is expected


def test_bandwidth_follows_the_links_that_a_group_has() -> None:
    assert wire(H100, "nvlink").gb_s() == pytest.approx(360)
    assert wire(H100, Link("nvlink", nvlinks=6)).gb_s() == pytest.approx(120)
    assert wire(H100, Link("nvlink", nvlinks=36)).gb_s() == pytest.approx(360)


def test_one_gpu_sends_nothing() -> None:
    assert wire(H100, "pcie_host").all_reduce_ms(1000, 1) == 0


def test_a_link_is_taken_from_a_group_or_a_word() -> None:
    assert link_of(Group((0, 1), "NV4", "nvlink", 4, p2p=True)) == Link("nvlink", 4, True)
    assert link_of(Group((0, 1), "SYS", "pcie_cross_numa", 0, p2p=False)) == Link("pcie_cross_numa", None, False)
    assert link_of(None) == Link("pcie")


def test_every_class_of_link_has_its_numbers() -> None:
    for cell in ("NV2", "PIX", "PXB", "PHB", "NODE", "SYS", "PCIE", "XGMI", None):
        for gpu in (H100, "NVIDIA GeForce RTX 4090", "AMD Instinct MI300X"):
            assert wire(gpu, link_class(cell)).all_reduce_ms(8192, 8, nccl=True) > 0


def test_every_constant_has_a_unit_and_a_source() -> None:
    for name, constant in CONSTANTS.items():
        assert constant.value > 0, name
        assert constant.unit, name
        assert len(constant.source) > 7, name
