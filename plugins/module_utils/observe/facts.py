# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Assembles ``gpu_facts`` from named outputs. Pure: it neither runs nor opens anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    amd,
    checks_gpu,
    checks_host,
    cpu,
    described,
    p2p,
    readiness,
    sources,
    state,
    topology,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.devices import (
    add_numa,
    mixed,
    nvidia_devices,
    shaped,
    text_of,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import Host
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.link_facts import (
    LINK_FACTS,
    Matrix,
    in_order_of,
    link_facts,
    p2p_summary,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.nvidia_text import complains
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.pci import PciDevice
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import Outputs
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.surroundings import (
    host_data,
    nics_with_places,
    pci_devices,
    pci_gpus,
)

SCHEMA_VERSION = 1
# States in which a host has GPUs that nobody could name.
_HIDDEN = frozenset(
    (
        state.NO_DRIVER,
        state.NO_TOOL,
        state.DRIVER_FAILED,
        state.DRIVER_MISMATCH,
        state.NO_PERMISSION,
        state.TOOL_TIMEOUT,
        state.TOOL_FAILED,
        state.UNREADABLE,
        state.UNKNOWN,
    )
)


@dataclass
class _Found:
    """What was read of the GPUs of one vendor."""

    judgement: state.Judgement
    devices: list[dict[str, Any]] = field(default_factory=list)
    matrix: Matrix | None = None
    p2p_matrix: Matrix | None = None
    nics: list[dict[str, Any]] = field(default_factory=list)
    driver_version: str | None = None
    cuda_version: str | None = None


def build_facts(outputs: Outputs, source: str = "live", own_pids: Collection[int] = frozenset()) -> dict[str, Any]:
    """All facts of one host, in the shape that the module's documentation describes.

    ``source`` is how the outputs were had: live or recorded. Programs of ``own_pids`` may hold GPU memory.
    """
    warnings = readiness.hanging_tools(outputs)
    host = host_data(text_of(outputs, sources.HOST), warnings)
    files: dict[str, str] = host["files"]
    lscpu = cpu.parse_lscpu(text_of(outputs, sources.LSCPU))
    pci = pci_devices(text_of(outputs, sources.LSPCI), files)
    found = _gpus(outputs, pci, files, warnings)
    hidden = found.judgement.state in _HIDDEN and not found.devices
    facts = {
        "schema_version": SCHEMA_VERSION,
        "source": source,
        "state": found.judgement.state,
        "message": found.judgement.message,
        "accelerator": found.judgement.accelerator,
        "driver_version": found.driver_version,
        "cuda_version": found.cuda_version,
        "devices": found.devices,
        **(
            dict.fromkeys(LINK_FACTS)
            if hidden
            else link_facts(found.devices, found.matrix, _switch_seen(pci, files, found.devices), warnings)
        ),
        "p2p": p2p_summary(found.p2p_matrix),
        "p2p_matrix": found.p2p_matrix,
        "nics": nics_with_places(found.nics, files, pci),
        "mixed_gpus": None if hidden else mixed(found.devices),
        "pci_gpus": pci_gpus(pci),
        "numa_nodes": cpu.numa_nodes(lscpu, files, text_of(outputs, sources.NUMACTL)),
        "cpu": cpu.cpu_facts(lscpu, files),
        "memory_total_mib": cpu.meminfo_mib(files.get("/proc/meminfo", "")),
        "shm_total_mib": host["shm"].get("total_mib"),
        "warnings": list(dict.fromkeys(warnings)),
        "tools": _tools(outputs),
    }
    checked = Host(
        accelerator=facts["accelerator"],
        devices=found.devices,
        pci=pci,
        files=files,
        services=readiness.parse_services(text_of(outputs, sources.SYSTEMCTL)),
        interconnect=facts["interconnect"],
        p2p_matrix=found.p2p_matrix,
        shm_mib=facts["shm_total_mib"],
        limits=host["limits"],
        rdma=bool(facts["nics"]),
        modinfo=text_of(outputs, sources.MODINFO),
        tool_ready=facts["state"] == state.READY,
        numa_nodes=len(facts["numa_nodes"] or ()),
        own_pids=frozenset(own_pids),
    )
    return {
        **facts,
        "nvswitch": {
            "count": checks_gpu.nvswitch_count(checked),
            "fabric_ready": checks_gpu.fabric_ready(checked),
        },
        "iommu": {
            "translates": checks_host.iommu_translates(checked),
            "acs_redirects": checks_host.acs_redirects(checked),
        },
        "readiness": readiness.check_all(checked, found.judgement),
    }


def facts_from_profile(gpu_profile: Any) -> dict[str, Any]:
    """Facts of a host that is described by name, count, memory and link, or a list of these. Raises InputError."""
    found = described.described_devices(gpu_profile)
    devices = [shaped(device) for device in found["devices"]]
    facts = build_facts({}, "profile")
    names = Counter((str(device["name"]), device["memory_total_mib"]) for device in devices)
    counted = " and ".join(f"{count} x {name}" for (name, _), count in names.items())
    return {
        **facts,
        **link_facts(devices, found["matrix"], False, found["warnings"]),
        "accelerator": found["accelerator"],
        "message": f"{counted}, as described; no host was asked.",
        "devices": devices,
        "mixed_gpus": len(names) > 1,
        "warnings": found["warnings"],
    }


def _gpus(outputs: Outputs, pci: Sequence[PciDevice], files: Mapping[str, str], warnings: list[str]) -> _Found:
    table = _topology(text_of(outputs, sources.NVIDIA_TOPOLOGY), warnings)
    peers = _p2p(text_of(outputs, sources.NVIDIA_P2P), warnings)
    named = table.gpus if table and table.gpus else peers.gpus if peers else []
    nvidia = nvidia_devices(outputs, named, warnings)
    judgement = state.judge_nvidia(outputs, pci, files, nvidia["devices"], nvidia["readable"])
    if judgement is None:
        return _amd(outputs, pci, files, warnings)
    devices = nvidia["devices"]
    numbers = [device["index"] for device in devices]
    affinity = dict(zip(table.gpus, table.numa_affinity)) if table else {}
    add_numa(devices, pci, affinity)
    return _Found(
        judgement,
        devices,
        in_order_of(table.gpus, table.matrix, numbers) if table and table.gpus else None,
        in_order_of(peers.gpus, peers.matrix, numbers) if peers and len(numbers) > 1 else None,
        _nics(table, numbers),
        nvidia["driver_version"],
        nvidia["cuda_version"],
    )


def _amd(outputs: Outputs, pci: Sequence[PciDevice], files: Mapping[str, str], warnings: list[str]) -> _Found:
    names = [name for name in outputs if name.startswith(("amd-smi-", "rocm-smi-"))]
    found = amd.parse_amd({name: text_of(outputs, name) for name in names})
    devices = [shaped(device) for device in found["devices"]]
    judgement = state.judge_amd(outputs, names, pci, files, devices)
    if judgement is None:
        return _Found(state.no_gpu())
    warnings.extend(found["warnings"])
    add_numa(devices, pci, {})
    return _Found(judgement, devices, found["matrix"], driver_version=found["driver_version"])


def _topology(text: str, warnings: list[str]) -> topology.Topology | None:
    try:
        table = topology.parse_topology(text)
    except ParseError as error:
        warnings.append(str(error))
        return None
    if not table.gpus and complains(text):
        return None
    warnings.extend(table.warnings)
    return table


def _p2p(text: str, warnings: list[str]) -> p2p.P2p | None:
    try:
        table = p2p.parse_p2p(text)
    except ParseError as error:
        if not complains(text):
            warnings.append(str(error))
        return None
    warnings.extend(table.warnings)
    return table


def _switch_seen(pci: Sequence[PciDevice], files: Mapping[str, str], devices: Sequence[Mapping[str, Any]]) -> bool:
    if any(device.is_nvswitch for device in pci):
        return True
    if any(path.startswith("/proc/driver/nvidia-nvswitch/devices/") for path in files):
        return True
    return bool(devices) and all(device["fabric"].get("state") == "Completed" for device in devices)


def _nics(table: topology.Topology | None, numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"label": nic.label, "name": nic.name, "links": [nic.links.get(number) for number in numbers]}
        for nic in (table.nics if table else ())
    ]


def _tools(outputs: Outputs) -> dict[str, dict[str, Any]]:
    """What became of every tool, by the name of its recording; tools that the host has not are left out."""
    return {
        name: {"status": output.status, "returncode": output.returncode, "seconds": output.seconds}
        for name, output in outputs.items()
        if output.status != sources.MISSING and name != sources.HOST
    }
