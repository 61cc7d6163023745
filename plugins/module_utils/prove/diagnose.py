# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a host and its instances, and between hosts, from evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import findings
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.checks_host import SHM
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import diagnose_instance, kernel_log, signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import TABLE
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.verdict import (
    PAGE,
    Verdict,
    in_order,
    of_check,
    of_match,
)

# Below, the next download, kernel cache or log finds no room.
FREE_MIB = 512
FREE_SHARE = 0.02
# A release has 60,000 files, a compile cache thousands.
FREE_INODES = 5000
CLOCK_SECONDS = 2.0
# A ring of 160 MiB for each engine, and 240 MiB for each rank (vLLM 0.33, shm_broadcast.py:239).
SHM_MIB = 400
# What gpu_info's checks are called here.
TITLES = {
    "driver": "The GPUs cannot be used",
    "fabric_manager": "The NVLink fabric is not ready",
    "fabric_health": "The NVLink fabric is not healthy",
    "slowdown": "A GPU runs slower than it could",
    "vgpu_license": "A vGPU has no licence",
    "memory_errors": "Memory of a GPU has errors",
    "gpu_recovery": "The driver asks for a recovery",
    "persistence_mode": "Persistence mode is off",
    "compute_mode": "A GPU keeps programs off",
    "gpu_memory_in_use": "Other programs hold GPU memory",
    "pcie_width": "A PCIe link is narrower than it could be",
    "pcie_generation": "A PCIe slot is older than its card",
    "p2p": "GPUs cannot reach one another directly",
    "iommu": "The IOMMU stands between the GPUs",
    "acs": "PCI bridges redirect the traffic between GPUs",
    "numa": "GPUs without a NUMA node",
    "nouveau": "The wrong driver is loaded",
    "secure_boot": "Secure boot keeps the driver out",
    "dev_shm": "/dev/shm is too small",  # noqa: S108 - a title
}
# What of a GPU stands behind a check.
BEHIND = {
    "fabric_manager": ("fabric",),
    "fabric_health": ("fabric",),
    "slowdown": ("slowdowns",),
    "vgpu_license": ("vgpu_license",),
    "memory_errors": ("ecc",),
    "gpu_recovery": ("recovery_action",),
    "persistence_mode": ("persistence_mode",),
    "compute_mode": ("compute_mode",),
    "gpu_memory_in_use": ("processes",),
    "pcie_width": ("pcie",),
    "pcie_generation": ("pcie",),
    "numa": ("numa_node",),
}
MOST_LINES = 8
FABRIC_LINES = 40
# Of the states that nvidia-smi topo -p2p prints: not supported by the card (see observe.p2p).
BY_DESIGN = frozenset(("OK", "X", "NS", "GNS", None))
# These are of the login that the doctor came by; a unit has limits of its own.
OF_LOGIN = frozenset(("memlock", "open_files"))


def host(evidence: Mapping[str, Any]) -> list[Verdict]:
    """Judge a host: everything that is wrong, the worst first."""
    found = [
        *_kernel(evidence),
        *_readiness(evidence["gpu_facts"]),
        *_surroundings(evidence),
    ]
    for one in evidence["instances"]:
        found.extend(diagnose_instance.instance(one, evidence))
    return in_order(found)


def _kernel(evidence: Mapping[str, Any]) -> list[Verdict]:
    now, monotonic = evidence["now"], evidence.get("monotonic")
    booted = now - monotonic if now and monotonic else None
    found = kernel_log.matches(evidence["kernel"], now, booted, _all_serve_since(evidence))
    found += signature.matches(TABLE, _last_start(evidence["fabric_manager"]), signature.FABRIC)
    return [of_match(match, None) for match in found]


def _last_start(lines: Sequence[str]) -> Sequence[str]:
    """The journal of a service since it was last started, or its end."""
    begins = [number for number, line in enumerate(lines) if line.startswith("Starting ")]
    return lines[begins[-1] :] if begins else lines[-FABRIC_LINES:]


def _all_serve_since(evidence: Mapping[str, Any]) -> float | None:
    """When the last engine was started (second of the epoch), where every one of the host serves."""
    states = [diagnose_instance.State(one, evidence) for one in evidence["instances"] if one.get("unit")]
    now = evidence["now"]
    if not states or not now or any(not state.healthy or state.age is None for state in states):
        return None
    return float(now) - min(state.age for state in states if state.age is not None)


def _readiness(facts: Mapping[str, Any]) -> list[Verdict]:
    """The findings of gpu_info; what it does not know is no verdict."""
    return [
        {
            "id": one["check"],
            "severity": _severity(one, facts),
            "instance": None,
            "title": TITLES.get(one["check"], one["check"]),
            "cause": one["message"],
            "evidence": _behind(one["check"], facts),
            "remedies": [one["remedy"]] if one["remedy"] else [],
            "sources": [f"gpu_info, check {one['check']}"],
            "help": f"{PAGE}#checks-of-the-hardware",
        }
        for one in facts["readiness"]
        if one["state"] in (findings.FAIL, findings.WARN) and one["check"] not in OF_LOGIN
    ]


def _severity(one: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A card that never had peer-to-peer access is in order; a board or a setting that takes it away is not."""
    states = {cell for row in facts["p2p_matrix"] or [] for cell in row}
    if one["check"] == "p2p" and states <= BY_DESIGN:
        return signature.NOTE
    return str(one["state"])


def _behind(check: str, facts: Mapping[str, Any]) -> list[str]:
    """The values that a finding was made of."""
    if check == "driver":
        return [f"state {facts['state']}; driver {facts.get('driver_version')}"]
    if check == "p2p":
        return [
            f"GPU {row}: {' '.join(str(cell) for cell in cells)}" for row, cells in enumerate(facts["p2p_matrix"] or [])
        ]
    if check in ("iommu", "acs"):
        return [f"IOMMU translates: {facts['iommu']['translates']}; ACS redirects: {facts['iommu']['acs_redirects']}"]
    if check == "dev_shm":
        return [f"df /dev/shm: {facts['shm_total_mib']} MiB"]
    lines = []
    for device in facts["devices"]:
        for name in BEHIND.get(check, ()):
            value = device.get(name)
            known = {key: one for key, one in value.items() if one is not None} if isinstance(value, Mapping) else value
            lines.append(f"GPU {device['index']}: {name} {known}")
    return [signature.shortened(line) for line in lines[:MOST_LINES]] or [f"gpu_info, check {check}"]


def _surroundings(evidence: Mapping[str, Any]) -> list[Verdict]:
    found = [of_check("late", None, [what], what=what) for what in evidence["late"]]
    seen: set[Any] = set()
    for disk in evidence["disks"]:
        small = (
            disk["free_mib"] < min(FREE_MIB, disk["total_mib"] / 4) or disk["free_mib"] < disk["total_mib"] * FREE_SHARE
        )
        if small and disk.get("device") not in seen:
            seen.add(disk.get("device"))
            line = f"df {disk['path']}: {disk['free_mib']} of {disk['total_mib']} MiB free"
            found.append(
                of_check(
                    "disk_almost_full", None, [line], path=disk["path"], free=disk["free_mib"], total=disk["total_mib"]
                )
            )
        inodes = disk.get("free_inodes")
        if inodes is not None and inodes < FREE_INODES and ("inodes", disk.get("device")) not in seen:
            seen.add(("inodes", disk.get("device")))
            line = f"df -i {disk['path']}: {inodes} inodes free"
            found.append(of_check("inodes_almost_used", None, [line], path=disk["path"], free=inodes))
    shm = evidence.get("shm") or {}
    if shm.get("free_mib") is not None and evidence["instances"] and shm["free_mib"] < SHM_MIB:
        line = f"df {SHM}: {shm['free_mib']} of {shm['total_mib']} MiB free"
        found.append(of_check("shm_almost_full", None, [line], path=SHM, free=shm["free_mib"], total=shm["total_mib"]))
    if evidence["described"] and evidence["instances"] and not evidence["compiler"]:
        found.append(of_check("compiler_missing", None, ["no gcc, cc or clang in the service's PATH"]))
    offset = evidence.get("clock_offset_seconds")
    if offset is not None and abs(offset) > CLOCK_SECONDS:
        line = f"this clock is {'ahead' if offset > 0 else 'behind'} by {abs(offset):.1f} s or more"
        found.append(of_check("clock_differs", None, [line], seconds=f"{abs(offset):.0f}"))
        if evidence.get("clock_synchronized") is False:
            found.append(of_check("clock_not_synchronized", None, ["timedatectl: NTPSynchronized=no"]))
    return found


def between(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Verdict]]:
    """Compare instances of one name on several hosts; returns verdicts by host."""
    found: dict[str, list[Verdict]] = {name: [] for name in hosts}
    by_name: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for place, evidence in hosts.items():
        for one in evidence["instances"]:
            by_name.setdefault(one["name"], []).append((place, one))
    for name, places in by_name.items():
        _compare(found, name, places, "different_releases", lambda one: one.get("release"))
        _compare(found, name, places, "different_models", _model)
    return found


def _model(one: Mapping[str, Any]) -> str | None:
    settings = one.get("settings") or {}
    model = settings.get("model")
    if not model:
        return None
    return f"{model} ({settings['revision']})" if settings.get("revision") else str(model)


def _compare(
    found: dict[str, list[Verdict]],
    name: str,
    places: Sequence[tuple[str, Mapping[str, Any]]],
    check: str,
    value_of: Any,
) -> None:
    values = {place: value_of(one) for place, one in places}
    known = [value for value in values.values() if value]
    if len(set(known)) < 2:
        return
    usual = max(sorted(set(known)), key=known.count)
    lines = [f"{place}: {value}" for place, value in values.items() if value][:MOST_LINES]
    for place, value in values.items():
        if value and value != usual:
            found[place].append(of_check(check, name, lines, own=value, others=usual))
