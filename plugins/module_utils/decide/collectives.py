# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long GPUs take to tell one another what they computed: an estimate. Pure.

Sizes are in bytes, times in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import speed_constants
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.gpu_speed import GpuSpeed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import (
    CUSTOM_ALL_REDUCE_SIZES,
    Group,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import PCIE, GpuProfile

NETWORK = "network"
DIRECT = ("nvlink", "xgmi")
# distributed/device_communicators/custom_all_reduce.py:136 of vLLM 0.33.0; larger messages go to NCCL
CUSTOM_ALL_REDUCE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Link:
    """What joins the GPUs of a group; the worst link counts.

    ``link_class`` is one of ``placement.link_class`` or network. ``nvlinks`` is how many NVLinks a GPU has into the
    group (None: all that the product has), ``p2p`` whether they reach one another's memory (None: what the product
    can), ``rdma`` whether hosts talk over RDMA.
    """

    link_class: str = "pcie"
    nvlinks: int | None = None
    p2p: bool | None = None
    rdma: bool = True


def link_of(known: Link | Group | str | None) -> Link:
    """A link from what is known of it: a group, a class, or nothing, which is taken for PCIe."""
    if isinstance(known, Link):
        return known
    if isinstance(known, Group):
        return Link(known.link_class, known.nvlinks or None, known.p2p)
    return Link(known or "pcie")


@dataclass(frozen=True)
class Wire:
    """The link of a group of known GPUs."""

    link: Link
    profile: GpuProfile
    speed: GpuSpeed

    @property
    def direct(self) -> bool:
        """Whether GPUs reach one another without the host's PCIe."""
        return self.link.link_class in DIRECT and self.profile.link != PCIE

    @property
    def kind(self) -> str:
        """The name under which the constants have it."""
        found = self.link.link_class
        if self.direct:
            return "nvlink"
        if found == NETWORK:
            return NETWORK if self.link.rdma else "socket"
        if not self.p2p:
            return "no_p2p"
        return found if found in ("pcie_switch", "pcie_cross_numa") else "pcie_host"

    @property
    def p2p(self) -> bool:
        """Whether GPUs reach one another's memory."""
        return self.direct or (self.speed.p2p_over_pcie if self.link.p2p is None else self.link.p2p)

    def gb_s(self) -> float:
        """What one GPU sends in one direction, as collectives reach it, in 10**9 bytes per second."""
        if self.kind == NETWORK:
            return speed_constants.value("rdma_gb_s")
        if self.kind == "socket":
            return speed_constants.value("socket_gb_s")
        if not self.direct:
            return self.speed.pcie_gb_s * speed_constants.value(self.kind)
        one_way = self.profile.link_gb_s / 2
        if self.link.nvlinks and self.profile.nvlinks:
            one_way *= min(1.0, self.link.nvlinks / self.profile.nvlinks)
        return one_way * speed_constants.value("nvlink")

    def custom(self, ranks: int, size: float) -> bool:
        """Whether vLLM's own kernel does an all-reduce of ``size`` bytes (custom_all_reduce.py:163-290)."""
        if ranks not in CUSTOM_ALL_REDUCE_SIZES or size > CUSTOM_ALL_REDUCE_BYTES or self.link.link_class == NETWORK:
            return False
        return self.direct or (ranks == 2 and self.p2p)

    def all_reduce_ms(self, size: float, ranks: int, nccl: bool = False) -> float:
        """One all-reduce of ``size`` bytes over ``ranks``; ``nccl`` where vLLM's own kernel does not serve."""
        if ranks < 2:
            return 0.0
        ring = 2 * (ranks - 1) / ranks * size
        if not nccl and self.custom(ranks, size):
            base = speed_constants.value("custom_base_us") + speed_constants.value("custom_rank_us") * ranks
            if not self.direct:
                # there and back through the slots
                base += 2 * speed_constants.value(f"{self.kind}_step_us")
            # one stage reads all that the others have, two stages cost another round
            one, two = base + self._us((ranks - 1) * size), 2 * base + self._us(ring)
            return min(one, two) / 1000
        return (self._latency_us(2 * (ranks - 1)) + self._us(ring)) / 1000

    def send_ms(self, size: float) -> float:
        """``size`` bytes from one GPU to another."""
        return (self._latency_us(1) + self._us(size)) / 1000

    def _latency_us(self, steps: int) -> float:
        return speed_constants.value(f"{self.kind}_base_us") + steps * speed_constants.value(f"{self.kind}_step_us")

    def _us(self, size: float) -> float:
        return size / self.gb_s() / 1000
