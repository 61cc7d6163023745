# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which GPUs of a host an instance may use, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import FAIL, gpus_named
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.state import GPU_LOST, READY

Device = Mapping[str, Any]
Kind = tuple[Optional[str], Optional[int], Optional[str], Optional[str]]

MIB_PER_GIB = 1024
# A GPU of whose memory other programs hold more than this is left to them. A rule of thumb: a desktop or a monitor
# takes less, and a program that computes takes more.
HELD_SHARE = 0.2
# Less than this is not worth a word: a display server holds as much.
MENTIONED_SHARE = 0.02
# How vLLM names its processes (envs.py:1923, utils/system_utils.py:203 of vLLM 0.33.0).
VLLM_PROCESS = "VLLM::"


@dataclass(frozen=True)
class Pool:
    """Free GPUs of one kind, by index, ascending.

    Memory is that of one GPU in MiB; ``memory_free_mib`` is that of the poorest one, counting what vLLM itself
    holds now as free, and None where it is not known; ``memory_reserved_mib`` is what the driver keeps.
    ``left_out`` says which GPUs of the host are not in any pool and why.
    """

    devices: tuple[int, ...]
    name: str | None = None
    memory_total_mib: int | None = None
    memory_free_mib: int | None = None
    memory_reserved_mib: int | None = None
    compute_capability: str | None = None
    gfx: str | None = None
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What must be equal for GPUs to work in one group."""
        return self.name, self.memory_total_mib, self.compute_capability, self.gfx


class _Fault(NamedTuple):
    """Why a GPU is left out, and what would bring it back."""

    reason: str
    remedy: str


_TAKEN = _Fault("given to an earlier instance", "remove an instance from this host, or give the instances fewer GPUs")


@dataclass
class _Sorted:
    """Devices that can be used, and what is to be said of them and of the rest."""

    usable: list[Device] = field(default_factory=list)
    left_out: list[tuple[int, _Fault]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def devices_of(gpu_facts: Mapping[str, Any]) -> list[Device]:
    """The host's devices by index, in whatever order the facts list them."""
    return sorted(gpu_facts.get("devices") or (), key=lambda device: int(device["index"]))


def pools(gpu_facts: Mapping[str, Any], taken: Collection[int] = (), ours: Collection[int] = ()) -> list[Pool]:
    """The free GPUs of a host, sorted by kind: most GPUs first, then most memory, then lowest index.

    ``taken`` are indexes given to earlier instances. ``ours`` are indexes whose memory is held by instances that
    this collection runs, and will start again: on them nothing counts as in use. Raises Refused where no GPU is
    left, with the reason of each.
    """
    _check_host(gpu_facts)
    found = _sort(gpu_facts, taken, ours)
    if not found.usable:
        raise _nothing_left(gpu_facts, found.left_out)
    left_out = _folded(found.left_out)
    kinds: dict[Kind, list[Device]] = {}
    for device in found.usable:
        kinds.setdefault(kind_of(device), []).append(device)
    made = [_pool(members, ours, left_out, found.warnings) for members in kinds.values()]
    return sorted(made, key=lambda pool: (-len(pool.devices), -(pool.memory_total_mib or 0), pool.devices))


def explicit(
    gpu_facts: Mapping[str, Any], indexes: Sequence[int], taken: Collection[int] = (), ours: Collection[int] = ()
) -> Pool:
    """The pool of exactly the GPUs that a person wrote. Memory that others hold is a warning here.

    Raises Refused where one is written twice, is not there, is taken or cannot be used, and where they are not
    of one kind.
    """
    _check_host(gpu_facts)
    by_index = {device["index"]: device for device in devices_of(gpu_facts)}
    twice = sorted({index for index in indexes if list(indexes).count(index) > 1})
    if twice:
        raise Refused(f"'gpus' names {gpus_named(twice)} more than once", "gpu_twice", ("write each GPU once",))
    _check_there(indexes, by_index, taken)
    found = _sort({**gpu_facts, "devices": [by_index[index] for index in indexes]}, (), ours, lenient=True)
    if found.left_out:
        raise Refused(
            f"'gpus' names GPUs that cannot be used: {'; '.join(_folded(found.left_out))}",
            "gpu_not_usable",
            ("choose other GPUs", *_remedies(found.left_out)),
        )
    kinds = {kind_of(device): device for device in reversed(found.usable)}
    if len(kinds) > 1:
        said = ", ".join(f"GPU {device['index']} is {_named(device)}" for device in reversed(list(kinds.values())))
        raise Refused(
            f"the GPUs written in 'gpus' are not all of one kind: {said}",
            "mixed_gpus",
            ("choose GPUs of one model and memory size",),
        )
    return _pool(found.usable, ours, (), found.warnings)


def kind_of(device: Device) -> Kind:
    """Name, memory in MiB, compute capability and gfx target: equal for all GPUs of a pool."""
    return device.get("name"), device.get("memory_total_mib"), device.get("compute_capability"), device.get("gfx")


def _check_host(gpu_facts: Mapping[str, Any]) -> None:
    if gpu_facts.get("accelerator") not in ("cuda", "rocm"):
        raise Refused("this host has no GPU", "no_gpu", ("choose a host with GPUs",))
    if gpu_facts.get("state") not in (READY, GPU_LOST):
        message = str(gpu_facts.get("message")).rstrip(".")
        raise Refused(f"the GPUs of this host cannot be used: {message}", "gpus_not_ready")


def _check_there(indexes: Sequence[int], by_index: Mapping[int, Device], taken: Collection[int]) -> None:
    free = sorted(set(by_index) - set(taken))
    remedy = (f"choose 'gpus' from {', '.join(map(str, free))}",) if free else ("choose another host",)
    if not indexes:
        raise Refused("'gpus' names no GPU", "no_gpu_named", remedy)
    missing = sorted(set(indexes) - set(by_index))
    if missing:
        raise Refused(f"'gpus' names {gpus_named(missing)}, which this host does not have", "gpu_not_there", remedy)
    gone = sorted(set(indexes) & set(taken))
    if gone:
        raise Refused(f"'gpus' names {gpus_named(gone)}, given to an earlier instance", "gpu_taken", remedy)


def _sort(
    gpu_facts: Mapping[str, Any], taken: Collection[int], ours: Collection[int], lenient: bool = False
) -> _Sorted:
    found = _Sorted()
    if gpu_facts.get("state") == GPU_LOST:
        found.warnings.append(f"Planned with the GPUs that answer. {gpu_facts.get('message')}")
    fabric_failed = any(
        finding.get("check") == "fabric_manager" and finding.get("state") == FAIL
        for finding in gpu_facts.get("readiness") or ()
    )
    for device in devices_of(gpu_facts):
        index = device["index"]
        fault = _TAKEN if index in taken else _fault(device, fabric_failed)
        if fault is None and index not in ours:
            said, much = _held(device, names_programs=gpu_facts.get("accelerator") == "cuda")
            if said and much and not lenient:
                fault = _Fault(said, f"stop what runs there, or write {index} in 'gpus' to use it all the same")
            if said and fault is None:
                found.warnings.append(f"GPU {index}: {said}.")
        if fault:
            found.left_out.append((index, fault))
        else:
            found.usable.append(device)
            found.warnings.extend(_doubts(device))
    if gpu_facts.get("accelerator") == "cuda":
        found.warnings.extend(_unjudged(found.usable))
    return found


def _unjudged(usable: Sequence[Device]) -> list[str]:
    """Rules that need a compute capability are not judged without one."""
    lacking = (one for one in usable if one.get("name") and not one.get("compute_capability"))
    unknown = list(dict.fromkeys(str(one["name"]) for one in lacking))
    return [
        f"The compute capability of {', '.join(unknown)} is not known, so number formats and attention kernels were "
        "not judged; write gpu_profile.compute_capability."
    ] * bool(unknown)


def _fault(device: Device, fabric_failed: bool) -> _Fault | None:
    """Why a GPU cannot be used at all; None where it can."""
    fabric = device.get("fabric") or {}
    if device.get("lost"):
        return _Fault("does not answer its driver (lost)", "reset the GPU (nvidia-smi -r) or power-cycle the host")
    if device.get("mig_mode") or device.get("mig_devices"):
        return _Fault("cut into MIG instances", f"switch MIG off: nvidia-smi -i {device['index']} -mig 0")
    if device.get("recovery_action"):
        action = device["recovery_action"]
        return _Fault(f"its driver asks for a recovery ({action})", "do what the driver asks for (nvidia-smi -q)")
    if (device.get("ecc") or {}).get("row_remap_failure"):
        return _Fault("its memory is worn out (row remapping failed)", "have the GPU replaced")
    if fabric_failed and (fabric.get("state") != "Completed" or fabric.get("status") not in (None, "Success")):
        return _Fault("has not joined the NVLink fabric", "run nvidia-fabricmanager of exactly the driver's version")
    if device.get("compute_mode") == "Prohibited":
        return _Fault("its compute mode is Prohibited", f"nvidia-smi -i {device['index']} -c 0")
    return None


def _doubts(device: Device) -> list[str]:
    """What may go wrong with a GPU that is used all the same."""
    ecc = device.get("ecc") or {}
    if ecc.get("row_remap_pending") or ecc.get("retired_pages_pending"):
        return [f"GPU {device['index']}: repairs of its memory wait for a reset."]
    return []


def _held(device: Device, names_programs: bool) -> tuple[str | None, bool]:
    """What other programs hold of a GPU's memory, in words, and whether it is too much to share the GPU.

    Where the tool lists no programs (``names_programs`` False) nobody can tell whose the memory is, and the GPU
    is not given up for it. What vLLM holds is taken to be of an instance that will be started again.
    """
    total, held = device.get("memory_total_mib"), _held_mib(device)
    programs = [entry for entry in device.get("processes") or () if "C" in (entry.get("type") or "C")]
    others = [entry for entry in programs if VLLM_PROCESS not in (entry.get("name") or "")]
    if programs and not others:
        return "vLLM runs on it already, taken to be an instance that is started again", False
    if not total or held is None:
        return (f"in use by {_programs(others)}" if others else None), False
    ours = sum(entry.get("memory_used_mib") or 0 for entry in programs if entry not in others)
    rest = held - ours
    if rest < MENTIONED_SHARE * total:
        return None, False
    share = f"{rest / MIB_PER_GIB:.1f} of {total / MIB_PER_GIB:.1f} GiB are in use by {_programs(others)}"
    return share, rest > HELD_SHARE * total and names_programs


def _held_mib(device: Device) -> int | None:
    """Memory in MiB that programs hold, without what driver and firmware keep; None where not known."""
    total, free = device.get("memory_total_mib"), device.get("memory_free_mib")
    if device.get("memory_used_mib") is not None:
        return int(device["memory_used_mib"])
    if total is None or free is None:
        return None
    return int(total - free - (device.get("memory_reserved_mib") or 0))


def _programs(entries: Sequence[Mapping[str, Any]]) -> str:
    names = sorted({f"{entry.get('name') or 'a program'} ({entry.get('pid')})" for entry in entries})
    if not names:
        return "programs that no tool names"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _free_mib(device: Device, ours: Collection[int]) -> int | None:
    """Memory in MiB that an instance will find free; what vLLM holds now counts as free."""
    total, free = device.get("memory_total_mib"), device.get("memory_free_mib")
    programs = [entry for entry in device.get("processes") or () if VLLM_PROCESS in (entry.get("name") or "")]
    if total is not None and device["index"] in ours:
        return int(total - (device.get("memory_reserved_mib") or 0))
    if total is None or free is None:
        return None
    return int(min(total, free + sum(entry.get("memory_used_mib") or 0 for entry in programs)))


def _pool(members: Sequence[Device], ours: Collection[int], left_out: Sequence[str], warnings: Sequence[str]) -> Pool:
    free = [_free_mib(device, ours) for device in members]
    known = [memory for memory in free if memory is not None]
    name, memory, capability, gfx = kind_of(members[0])
    unnamed = ["No tool named the GPUs; they are taken to be of one kind."] if name is None else []
    return Pool(
        devices=tuple(device["index"] for device in members),
        name=name,
        memory_total_mib=memory,
        memory_free_mib=min(known) if len(known) == len(free) else None,
        memory_reserved_mib=members[0].get("memory_reserved_mib"),
        compute_capability=capability,
        gfx=gfx,
        left_out=tuple(left_out),
        warnings=(*warnings, *unnamed),
    )


def _folded(left_out: Sequence[tuple[int, _Fault]]) -> list[str]:
    """One clause for each reason: ``GPUs 1, 3: cut into MIG instances``."""
    by_reason: dict[str, list[int]] = {}
    for index, fault in left_out:
        by_reason.setdefault(fault.reason, []).append(index)
    return [f"{gpus_named(indexes)}: {reason}" for reason, indexes in by_reason.items()]


def _remedies(left_out: Sequence[tuple[int, _Fault]]) -> list[str]:
    """The remedy of each reason once, by the first GPU that has it."""
    return list({fault.reason: fault.remedy for _, fault in reversed(left_out)}.values())[::-1]


def _nothing_left(gpu_facts: Mapping[str, Any], left_out: Sequence[tuple[int, _Fault]]) -> Refused:
    if not left_out:
        return Refused(f"no GPU of this host is known: {str(gpu_facts.get('message')).rstrip('.')}", "no_usable_gpu")
    if all(fault is _TAKEN for _, fault in left_out):
        return Refused("every GPU of this host is given to an earlier instance", "no_gpu_free", (_TAKEN.remedy,))
    said = "; ".join(_folded(left_out))
    return Refused(f"no GPU of this host can be used: {said}", "no_usable_gpu", _remedies(left_out))


def _named(device: Device) -> str:
    memory = device.get("memory_total_mib")
    return f"{device.get('name') or 'unnamed'}" + (f" with {memory} MiB" if memory else "")
