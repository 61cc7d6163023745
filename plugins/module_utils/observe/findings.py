# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What checks of readiness look at, and what they give. Pure.

A finding has ``check`` (its name), ``state`` (ok, warn, fail, unknown), ``message`` and ``remedy`` (None
where nothing is to be done).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.pci import PciDevice

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"
Finding = dict[str, Any]


@dataclass(frozen=True)
class Host:
    """What the checks look at."""

    accelerator: str
    devices: Sequence[Mapping[str, Any]]
    pci: Sequence[PciDevice]
    files: Mapping[str, str]
    services: Mapping[str, Mapping[str, str]]
    interconnect: str | None = None
    p2p_matrix: Sequence[Sequence[str | None]] | None = None
    shm_mib: int | None = None
    limits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    rdma: bool = False
    modinfo: str = ""
    tool_ready: bool = True
    numa_nodes: int = 0
    own_pids: frozenset[int] = frozenset()


def finding(check: str, state: str, message: str, remedy: str | None = None) -> Finding:
    """One finding."""
    return {"check": check, "state": state, "message": message, "remedy": remedy}


def gpus_named(numbers: Iterable[Any]) -> str:
    """``GPU 3`` or ``GPUs 1, 3``."""
    found = [str(number) for number in numbers]
    return f"GPU {found[0]}" if len(found) == 1 else f"GPUs {', '.join(found)}"
