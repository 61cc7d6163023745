# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Narrow down why an all-reduce failed: what is tried next, and what the answers together say. Pure.

On one host's GPUs: P2P off, then shared memory off too, then neighbours two by two. Between hosts: without RDMA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import collective_report
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.collective_report import FAIL, Finding, Outcome

P2P_OFF = {"NCCL_P2P_DISABLE": "1"}
SOCKETS = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}
WITHOUT_RDMA = {"NCCL_IB_DISABLE": "1"}
# What did not come to its end, or came to a wrong one.
BROKEN = ("wrong_sum", "collective_hangs", "collective_failed", "rank_died")
# What another host's absence looks like.
ABSENT = ("host_not_reached", "ranks_did_not_meet", "rank_lost")
MOST_PAIRS = 8
# Least seconds of a probe: torch has to be imported, and NCCL to begin.
LEAST_SECONDS = 20
PAIR_SIZES = (8, 1024**2, 32 * 1024**2)


@dataclass(frozen=True)
class Probe:
    """One try: ``kind`` (p2p_off, sockets, without_rdma or pair), its words, and what is run."""

    kind: str
    words: str
    job: Mapping[str, Any]
    pair: tuple[int, int] | None = None


@dataclass(frozen=True)
class Tried:
    """A probe and what came of it: the first cause of its failure, or None, and 10**9 bytes per second."""

    probe: Probe
    failed: Finding | None
    gb_s: float | None = None

    @property
    def absent(self) -> bool:
        """Whether another host did not take part, which says nothing of what was tried."""
        return self.failed is not None and self.failed["id"] in ABSENT

    def sentence(self) -> str:
        """What it showed."""
        if self.absent:
            return f"{self.probe.words} it could not be tried: the other hosts did not take part."
        if self.failed:
            return f"{self.probe.words} it fails too: {self.failed['cause']}."
        return f"{self.probe.words} it works" + (f", with {self.gb_s:.3g} GB/s." if self.gb_s is not None else ".")


def tried(probe: Probe, after: Outcome) -> Tried:
    """Judge a probe; that it is slow is no failure of it."""
    fails = [one for one in collective_report.findings(after) if one["severity"] == FAIL and one["id"] != "slow_links"]
    result = collective_report.measured(after)
    if not fails and not result and after.place == 0:
        fails = [collective_report.finding("no_figures", FAIL, "it gave no figures", [], [])]
    return Tried(probe, fails[0] if fails else None, result["bus_gb_s"] if result else None)


@dataclass
class Search:
    """The way from a failure to its cause: ``outcome`` and ``found`` are of the first run."""

    outcome: Outcome
    found: Sequence[Finding]
    done: list[Tried] = field(default_factory=list)

    @property
    def subject(self) -> Finding | None:
        """The finding that is narrowed down; None where there is nothing to try."""
        if self.outcome.job["backend"] != "nccl":
            return None
        kinds = ("collective_hangs", "collective_failed") if self.outcome.several else (*BROKEN, "slow_links")
        return next((one for one in self.found if one["severity"] == FAIL and one["id"] in kinds), None)

    def of(self, kind: str) -> list[Tried]:
        """What was tried of a kind."""
        return [one for one in self.done if one.probe.kind == kind]

    def next(self) -> Probe | None:
        """What to try now; None when no more is to be learned."""
        subject = self.subject
        if subject is None:
            return None
        environment = self.outcome.job["environment"]
        if self.outcome.several:
            if self.done or "NCCL_IB_DISABLE" in environment:
                return None
            return self._probe("without_rdma", "without RDMA (NCCL_IB_DISABLE)", WITHOUT_RDMA)
        off, sockets = self.of("p2p_off"), self.of("sockets")
        if not off and "NCCL_P2P_DISABLE" not in environment:
            return self._probe("p2p_off", "with P2P off", P2P_OFF)
        if subject["id"] == "slow_links":
            # its pairs were measured in the first run
            return None
        if not (off and not off[0].failed) and not sockets and "NCCL_SHM_DISABLE" not in environment:
            return self._probe("sockets", "with P2P and shared memory off", SOCKETS)
        if sockets and not sockets[0].failed:
            return None
        return self._next_pair()

    def _probe(self, kind: str, words: str, environment: Mapping[str, str]) -> Probe:
        job = self.outcome.job
        return Probe(kind, words, _limited(job, job["seconds"] // 2, environment={**job["environment"], **environment}))

    def _next_pair(self) -> Probe | None:
        job = self.outcome.job
        (node,) = job["nodes"]
        devices = node["devices"]
        if len(devices) < 3:
            return None
        pairs = [(devices[place], devices[(place + 1) % len(devices)]) for place in range(len(devices))][:MOST_PAIRS]
        place = len(self.of("pair"))
        if place >= len(pairs):
            return None
        first, second = pairs[place]
        nodes = [{**node, "devices": [first, second], "ranks": 2}]
        limited = _limited(job, job["seconds"] // 4, nodes=nodes, sizes=list(PAIR_SIZES), narrow_below_gb_s=None)
        return Probe("pair", f"GPU {first} and GPU {second} alone:", limited, (first, second))

    def concluded(self) -> list[Finding]:
        """The findings, with what was tried as evidence, and the cause and the remedies as it shows them."""
        subject = self.subject
        if subject is None or not self.done:
            return list(self.found)
        told, remedies = self._conclusion()
        better = {
            **subject,
            "cause": f"{subject['cause']}; {told}" if told else subject["cause"],
            "evidence": [*subject["evidence"], *(one.sentence() for one in self.done)],
            "remedies": list(dict.fromkeys([*remedies, *subject["remedies"]])),
        }
        return [better if one is subject else one for one in self.found]

    def _conclusion(self) -> tuple[str, list[str]]:
        works = {one.probe.kind for one in self.done if not one.failed}
        if self.subject is not None and self.subject["id"] == "slow_links":
            return "", []
        if "without_rdma" in works:
            return "RDMA between the hosts is what is broken", [
                "look at the adapters (ibstat; rdma link), and name those that serve in NCCL_IB_HCA in 'environment'",
                "set NCCL_IB_DISABLE: 1 in 'environment' until that is done",
            ]
        if "p2p_off" in works:
            where = self._where()
            told = f"direct access between the GPUs (P2P) is what is broken{f': {where}' if where else ''}"
            return told, collective_report.p2p_advice(self.outcome)
        if "sockets" in works:
            return "shared memory is what is broken", collective_report.shm_advice(self.outcome)
        where = self._where()
        return (f"whatever the transport; {where}", []) if where else ("", [])

    def _where(self) -> str:
        """Between which GPUs it fails."""
        pairs = self.of("pair")
        broken = [one.probe.pair for one in pairs if one.failed and one.probe.pair]
        if not pairs:
            return ""
        if not broken:
            return "every two neighbours work alone, all together do not"
        if len(broken) == len(pairs):
            return "no two neighbours work"
        common = set.intersection(*map(set, broken))
        if len(broken) > 1 and len(common) == 1:
            return f"GPU {common.pop()} is in all that fails"
        return "it fails between " + ", ".join(f"GPU {first} and GPU {second}" for first, second in broken)


def _limited(job: Mapping[str, Any], seconds: int, **more: Any) -> dict[str, Any]:
    limit = min(job["seconds"], max(LEAST_SECONDS, seconds))
    step = max(5, limit // 2)
    return {**job, "seconds": limit, "meeting_seconds": step, "step_seconds": step, **more}
