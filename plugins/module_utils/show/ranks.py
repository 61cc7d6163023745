# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which rank of which instance runs on which GPU. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """One rank on one GPU. ``number`` is the instance's place in its section."""

    number: int
    name: str
    rank: str


def places(instances: Sequence[Mapping[str, Any]], host: str) -> dict[int, list[Place]]:
    """The ranks on the GPUs of a host, by device index; an index without ranks is free."""
    found: dict[int, list[Place]] = {}
    for number, one in enumerate(instances):
        if not one.get("rejected"):
            for node, device, rank in _ranks(one):
                if node == host:
                    found.setdefault(device, []).append(Place(number, str(one["name"]), rank))
    return found


def _ranks(one: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Host, device and name of each rank: tensor parallel ranks lie beside each other, then stages, then replicas.

    That order is vLLM's (distributed/parallel_state.py, initialize_model_parallel, 0.33.0).
    """
    tensor, stages = one.get("tensor_parallel_size") or 1, one.get("pipeline_parallel_size") or 1
    replicas = one.get("data_parallel_size") or 1
    devices = [(node["host"], device) for node in one.get("nodes") or () for device in node["devices"]]
    for number, (host, device) in enumerate(devices):
        parts = [f"TP{number % tensor}"] if tensor > 1 else []
        if stages > 1:
            parts.append(f"PP{number // tensor % stages}")
        if replicas > 1:
            parts.append(f"DP{number // (tensor * stages)}")
        yield host, device, " ".join(parts)
