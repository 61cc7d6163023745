# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge an all-reduce by what one host saw of it: what is wrong, by which evidence, and what to do. Pure.

A finding has ``id``, ``severity`` (fail or warn), ``cause``, ``evidence`` (lines) and ``remedies``, the best first.
Bandwidths are in 10**9 bytes per second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.collective_events import (
    Event,
    Told,
    size_words,
    sort,
)

FAIL, WARN = "fail", "warn"
Finding = dict[str, Any]
# Clocks that differ by more spoil what is read from several hosts' logs together; vLLM itself needs no clock.
CLOCK_SECONDS = 2.0
# A link is the weak one when it carries less than this share of what the others do.
WEAK_SHARE = 0.6
_PEER = re.compile(r"\[?((?:\d{1,3}\.){3}\d{1,3}|(?=[0-9a-f]{0,4}:)[0-9a-f:]{2,45})\]?:(\d{1,5})(?!\d)")
_LOST = (
    "closed by peer",
    "Connection reset",
    "Socket closed",
    "Broken pipe",
    "remote process exited",
    "Socket Timeout",
)
# NCCL's src/misc/shmutils.cc, and include/shm.h of older releases
_SHM_FULL = re.compile(r"failed to extend /dev/shm|posix_fallocate failed|shared memory segment.*No space left")
_TIMEOUT = re.compile(r"timed? ?out|timeout", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """What one host knows of a run: the job, its place in it, the events, standard error, and how the unit ended.

    ``surroundings`` is what is known of the host beside it: ``iommu_translates``, ``acs_redirects``, ``shm_mib``.
    """

    job: Mapping[str, Any]
    place: int
    events: Sequence[Event]
    errors: Sequence[str] = ()
    result: str = "success"
    expected_gb_s: float | None = None
    expected_reason: str = ""
    surroundings: Mapping[str, Any] = field(default_factory=dict)
    warn_below: float = 0.75
    fail_below: float = 0.4
    busy: bool = False
    told: Told = field(init=False)

    def __post_init__(self) -> None:
        """Sort the events once."""
        object.__setattr__(self, "told", sort(self.events))

    @property
    def host(self) -> str:
        """Name of this host."""
        return str(self.job["nodes"][self.place]["host"])

    @property
    def several(self) -> bool:
        """Whether the ranks are on several hosts."""
        return len(self.job["nodes"]) > 1

    def rank_name(self, rank: int) -> str:
        """A rank as a person finds it: its host, where there are several, and its GPU."""
        first = 0
        for node in self.job["nodes"]:
            local = rank - first
            if local < node["ranks"]:
                parts = [str(node["host"])] if self.several else []
                parts += [f"GPU {node['devices'][local]}"] if node["devices"] else []
                return f"rank {rank} ({', '.join(parts)})" if parts else f"rank {rank}"
            first += node["ranks"]
        return f"rank {rank}"


def finding(name: str, severity: str, cause: str, evidence: Sequence[str], remedies: Sequence[str]) -> Finding:
    """One finding."""
    return {
        "id": name,
        "severity": severity,
        "cause": cause,
        "evidence": list(evidence),
        "remedies": list(remedies),
    }


def findings(outcome: Outcome) -> list[Finding]:
    """Everything that is wrong, the first cause first; nothing when the links are as they should be."""
    unreached = _unreached(outcome)
    if unreached:
        return unreached
    broken = _broken(outcome)
    members = [*_members(outcome), *_name(outcome)]
    differing = [one for one in members if one["severity"] == FAIL]
    others = [one for one in members if one["severity"] != FAIL]
    return [*_wrong(outcome), *differing, *(broken or _slow(outcome)), *others]


def measured(outcome: Outcome) -> dict[str, Any] | None:
    """Latency in microseconds, best bus bandwidth and all sizes; None on a host that rank 0 is not on."""
    sizes = outcome.told.sizes
    if not sizes:
        return None
    best = max(sizes, key=lambda event: float(event["bus_gb_s"]))
    return {
        "latency_us": round(min(sizes[0]["seconds"]) * 1e6, 1),
        "bus_gb_s": round(best["bus_gb_s"], 3),
        "expected_gb_s": outcome.expected_gb_s,
        "expected_reason": outcome.expected_reason,
        "sizes": [
            {"bytes": one["bytes"], "us": round(min(one["seconds"]) * 1e6, 1), "bus_gb_s": round(one["bus_gb_s"], 4)}
            for one in sizes
        ],
        "pairs": [{"ranks": one["pair"], "bus_gb_s": round(one["bus_gb_s"], 3)} for one in outcome.told.pairs],
        "torch": outcome.told.members[0]["torch"] if outcome.told.members else None,
        "nccl": outcome.told.members[0]["nccl"] if outcome.told.members else None,
    }


def _unreached(outcome: Outcome) -> list[Finding]:
    """Hosts that this one cannot connect to."""
    found = []
    interface = outcome.job["nodes"][outcome.place]["interface"]
    for event in outcome.told.reached:
        problem = event["problem"]
        if not problem:
            continue
        where = f"{event['to']} ({event['address']}) on TCP port {event['port']} over {interface}"
        cause = f"{outcome.host} cannot reach {where}: {problem}"
        if "refused" in problem.lower():
            remedies = [
                f"see why {event['to']} did not start its part of the check (its own finding says it, or it is gone)",
                f"look whether another program of {event['to']} answers on that address",
            ]
        elif _TIMEOUT.search(problem):
            remedies = [
                f"open TCP between the hosts of this engine on {interface}: all ports, since vLLM chooses some of "
                f"them itself; a firewall drops what {outcome.host} sends",
                "correct network_interface, if this is not the network that the hosts share",
                f"see whether {event['to']} is up",
            ]
        else:
            remedies = [
                f"correct network_interface: {outcome.host} has no route over {interface} to {event['address']}",
                "see whether the link of that interface is up on both hosts",
            ]
        found.append(finding("host_not_reached", FAIL, cause, [], remedies))
    return found


def _last_words(outcome: Outcome) -> list[str]:
    """How far each rank of this host came."""
    lines = []
    for rank, event in sorted(outcome.told.last.items()):
        size = f" of {size_words(event['bytes'])}" if "bytes" in event else ""
        said = f": {event['said'][:300]}" if event["event"] == "failed" else ""
        lines.append(f"{outcome.rank_name(rank)}: {event['event']}{size}{said} ({event['at']:.1f} s)")
    return lines


def _broken(outcome: Outcome) -> list[Finding]:
    """A run that did not come to its end."""
    told = outcome.told
    if told.finished and outcome.result == "success":
        return []
    evidence = [*_last_words(outcome), *[f"stderr: {line}" for line in _telling(outcome.errors)]]
    if told.began is None:
        cause = f"the check did not start on {outcome.host} (its unit ended with {outcome.result})"
        return [finding("check_not_started", FAIL, cause, evidence, ["read the lines above, which its program wrote"])]
    died = [rank for rank, code in enumerate((told.ended or {}).get("codes") or []) if code < 0 and code != -9]
    for peer in _lost_peers(outcome):
        cause = f"{peer} stopped answering in the middle of the exchange ({_where(told)})"
        remedies = [f"see whether {peer} is up and what its own part of the check says", "run the check again"]
        return [finding("rank_lost", FAIL, cause, evidence, remedies)]
    if died:
        codes = (told.ended or {})["codes"]
        cause = f"a rank on {outcome.host} died of signal {-codes[died[0]]} ({_where(told)})"
        return [finding("rank_died", FAIL, cause, evidence, ["read the lines above, and the kernel's log"])]
    missing = [
        rank
        for rank, event in told.last.items()
        if event["event"] == "started"
        or (event["event"] == "failed" and rank not in told.joined and _TIMEOUT.search(event["said"]))
    ]
    if missing and outcome.several:
        others = sorted({node["host"] for node in outcome.job["nodes"]} - {outcome.host})
        cause = f"the ranks on {outcome.host} and those on {', '.join(others)} did not find one another"
        remedies = [
            "see what the check says on the other hosts: one that ended early leaves the rest waiting",
            f"open TCP between them on {outcome.job['nodes'][outcome.place]['interface']}",
        ]
        return [finding("ranks_did_not_meet", FAIL, cause, evidence, remedies)]
    return [_stuck_or_failed(outcome, evidence)]


def _stuck_or_failed(outcome: Outcome, evidence: Sequence[str]) -> Finding:
    told = outcome.told
    if any(_SHM_FULL.search(line) for line in outcome.errors):
        cause = f"the shared memory{_shm_size(outcome)} in /dev/shm has no room for what NCCL keeps there"
        return finding("shm_too_small", FAIL, cause, evidence, shm_advice(outcome))
    first = min(told.failed.values(), key=lambda event: float(event["at"]), default=None)
    hung = first is None or bool(_TIMEOUT.search(first["said"]))
    if not hung and first is not None:
        cause = f"{outcome.rank_name(first['rank'])} failed: {first['kind']}: {first['said'][:300]}"
        return finding("collective_failed", FAIL, cause, evidence, _advice(outcome))
    seconds = outcome.job["seconds"] if first is None else outcome.job["step_seconds"]
    cause = f"the all-reduce hangs: no progress within {seconds} s ({_where(told)})"
    return finding("collective_hangs", FAIL, cause, evidence, _advice(outcome))


def _advice(outcome: Outcome) -> list[str]:
    if outcome.several:
        interface = outcome.job["nodes"][outcome.place]["interface"]
        return [
            f"open all TCP ports between the hosts on {interface}, and for RDMA set NCCL_IB_HCA in 'environment'",
            "set NCCL_IB_DISABLE: 1 in 'environment', to see whether it is RDMA",
        ]
    return [
        *p2p_advice(outcome),
        *shm_advice(outcome)[:1],
        "look for Xid lines in the kernel's log (journalctl -k | grep -i xid)",
    ]


def p2p_advice(outcome: Outcome) -> list[str]:
    """What to do where direct access between GPUs is broken: first what this host is known to have."""
    iommu, acs = (outcome.surroundings.get(name) for name in ("iommu_translates", "acs_redirects"))
    found = []
    if iommu:
        found.append("this host's IOMMU translates what GPUs send one another: boot with iommu=pt, or switch it off")
    if acs:
        found.append("ACS sends P2P traffic through the processor on this host: turn it off in the BIOS or by setpci")
    if not found and not (iommu is False and acs is False):
        found.append("turn off ACS in the BIOS or by setpci, and the IOMMU's translation (iommu=pt)")
    return [*found, "set NCCL_P2P_DISABLE: 1 in 'environment' and live with the loss"]


def shm_advice(outcome: Outcome) -> list[str]:
    """What to do where shared memory is too small or broken."""
    return [
        f"make /dev/shm{_shm_size(outcome)} larger (mount -o remount,size=16G /dev/shm; --shm-size of a container)",
        "remove what dead processes left there (ls /dev/shm/nccl-*)",
    ]


def _shm_size(outcome: Outcome) -> str:
    size = outcome.surroundings.get("shm_mib")
    return f" ({size} MiB)" if size else ""


def _where(told: Told) -> str:
    """The last thing that any rank began."""
    begun = [event for event in told.last.values() if event["event"] != "failed"]
    sizes = [event["bytes"] for event in begun if event["event"] == "size_begin"]
    if not sizes and told.sizes:
        sizes = [told.sizes[-1]["bytes"]]
    if sizes:
        return f"at {size_words(max(sizes))}"
    return "while the ranks met"


def _lost_peers(outcome: Outcome) -> list[str]:
    """Hosts whose end this host's ranks saw, by the addresses in what they said."""
    by_address = {node["address"]: node["host"] for node in outcome.job["nodes"]}
    others = [node["host"] for node in outcome.job["nodes"] if node["host"] != outcome.host]
    found: list[str] = []
    for event in outcome.told.failed.values():
        if not any(words in event["said"] for words in _LOST):
            continue
        named = [by_address.get(match[1]) for match in _PEER.finditer(event["said"])]
        found.extend(host for host in named if host and host != outcome.host)
        if not found and len(others) == 1:
            found.extend(others)
    return list(dict.fromkeys(found))


def _wrong(outcome: Outcome) -> list[Finding]:
    if not outcome.told.wrong:
        return []
    ranks = sorted({event["rank"] for event in outcome.told.wrong})
    sizes = sorted({event["bytes"] for event in outcome.told.wrong})
    cause = (
        f"the sum is wrong on {', '.join(map(outcome.rank_name, ranks))} at {', '.join(map(size_words, sizes))}: "
        "data was damaged on its way between the GPUs"
    )
    remedies = [*p2p_advice(outcome), "let the GPUs be tested (dcgmi diag -r 3)"]
    return [finding("wrong_sum", FAIL, cause, [], remedies)]


def _members(outcome: Outcome) -> list[Finding]:
    """Hosts that do not run the same, or whose clocks differ."""
    members = outcome.told.members
    found = []
    for what, words in (("release", "release of vLLM"), ("torch", "torch"), ("nccl", "NCCL"), ("model", "model")):
        values = {str(member[what]): member["host"] for member in members if member.get(what)}
        if len(values) > 1:
            remedy = "write the same model and revision for" if what == "model" else "deploy the same engine_version to"
            listed = ", ".join(f"{value} on {host}" for value, host in sorted(values.items()))
            found.append(
                finding(
                    "not_the_same",
                    FAIL,
                    f"the hosts of this engine do not run the same {words}: {listed}",
                    [],
                    [f"{remedy} all of them"],
                )
            )
    clocks = {member["host"]: member["clock"] for member in members}
    spread = max(clocks.values(), default=0.0) - min(clocks.values(), default=0.0)
    if spread > CLOCK_SECONDS:
        ahead = max(clocks, key=lambda host: clocks[host])
        cause = f"the clocks of the hosts differ by {spread:.1f} s ({ahead} is ahead)"
        found.append(finding("clocks_differ", WARN, cause, [], ["run chrony or systemd-timesyncd on each host"]))
    return found


def _name(outcome: Outcome) -> list[Finding]:
    """A host that does not know its own name."""
    named = outcome.told.named
    if not named or not named["problem"]:
        return []
    cause = f"{outcome.host} cannot resolve its own name {named['hostname']}: {named['problem']}"
    address = outcome.job["nodes"][outcome.place]["address"]
    remedies = [f"write '{address} {named['hostname']}' into its /etc/hosts, or into the DNS that it asks"]
    return [finding("own_name_unknown", WARN, cause, [], remedies)]


def _slow(outcome: Outcome) -> list[Finding]:
    """Bandwidth below what the links should carry, and which of them is the weak one."""
    result = measured(outcome)
    expected = outcome.expected_gb_s
    if not result or not expected or result["bus_gb_s"] >= expected * outcome.warn_below:
        return []
    share = result["bus_gb_s"] / expected
    severity = FAIL if share < outcome.fail_below and not outcome.busy else WARN
    weak = _weak_pairs(outcome)
    cause = (
        f"the links carry {result['bus_gb_s']:.3g} GB/s, {share:.0%} of the {expected:.3g} GB/s that "
        f"{outcome.expected_reason} should"
    )
    if weak:
        cause += f"; the weak link is between {weak[0]}"
    evidence = [f"{', '.join(map(str, one['ranks']))}: {one['bus_gb_s']:.3g} GB/s" for one in result["pairs"]]
    if outcome.busy:
        evidence.append("an engine runs on these GPUs, which takes part of it")
    return [finding("slow_links", severity, cause, evidence, _speed_advice(outcome))]


def _weak_pairs(outcome: Outcome) -> list[str]:
    pairs = outcome.told.pairs
    if len(pairs) < 2:
        return []
    best = max(float(one["bus_gb_s"]) for one in pairs)
    weak = sorted((one for one in pairs if one["bus_gb_s"] < best * WEAK_SHARE), key=lambda one: float(one["bus_gb_s"]))
    return [" and ".join(map(outcome.rank_name, one["pair"])) for one in weak]


def _speed_advice(outcome: Outcome) -> list[str]:
    if outcome.several:
        interface = outcome.job["nodes"][outcome.place]["interface"]
        return [
            f"look at the speed and the errors of {interface} on each host (ethtool {interface}; ip -s link)",
            "name the faster network in network_interface, if there is one",
            "state what this network can do in nccl_check_expected_gb_s, if this is all it can",
        ]
    return [
        "compare the slots: gpu_info's readiness names GPUs whose PCIe link is narrower or older than the card's",
        *p2p_advice(outcome)[:-1],
        "look for errors of the NVLinks (nvidia-smi nvlink -e)",
        "state what these links can do in nccl_check_expected_gb_s, if this is all they can",
    ]


def _telling(lines: Sequence[str], most: int = 12) -> list[str]:
    """Of standard error, warnings and errors; tracebacks of Python only by their last line."""
    pattern = re.compile(r"NCCL WARN|Error|error:|Watchdog|CUDA|failed|No space", re.IGNORECASE)
    found = [line.strip()[:300] for line in lines if pattern.search(line) and not line.startswith(("  File", "    "))]
    return list(dict.fromkeys(found))[-most:]


def sentence(one: Finding) -> str:
    """A finding as a person reads it in a play."""
    lines = [f"{one['cause']}."]
    lines += [f"  {line}" for line in one["evidence"]]
    lines += [f"  {number}. {remedy}." for number, remedy in enumerate(one["remedies"], 1)]
    return "\n".join(lines)


def summary(result: Mapping[str, Any]) -> str:
    """What was measured, in a line."""
    expected = f" of {result['expected_gb_s']:.3g} expected" if result["expected_gb_s"] else ""
    return f"{result['bus_gb_s']:.3g} GB/s{expected}, latency {result['latency_us']:.0f} us"
