# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a vLLM release can run on a host: driver, GPUs, glibc, Python, memory. Before anything is changed.

Every refusal names the two sides and says how to change either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions, generations
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import (
    CUDA,
    RELEASES,
    Release,
    RocmRelease,
    numbers,
    release_of,
)

# vLLM's shared-memory rings in MiB: 160 for the engine and 240 for each worker, which vLLM 0.33.0 checks at its start
# (distributed/device_communicators/shm_broadcast.py:239-275 and 500-523).
_SHM_ENGINE_MIB = 160
_SHM_WORKER_MIB = 240
_GEFORCE = ("GeForce", "TITAN")
_MACHINES = ("x86_64", "aarch64")

Facts = Mapping[str, Any]


def problems(
    gpu_facts: Facts,
    host: Facts,
    version: str,
    driver_branch: int | None = None,
    instances: Sequence[Facts] = (),
) -> list[str]:
    """Return a sentence for each reason why the CUDA build of vLLM ``version`` cannot run on the host.

    ``gpu_facts`` is what gpu_info returned. ``host`` has ``glibc`` and ``machine`` (of ``uname -m``) and may have
    ``python``, ``python_path`` and ``fabric_manager`` (installed version); what is None or missing is not judged.
    ``driver_branch`` is the branch that is about to be installed; without one, the loaded driver counts.
    ``instances`` are layouts (``name``, ``devices``, ``environment``, ``quantization``); without them every GPU of the
    host counts. Nothing is said of a release that is older than the table.
    """
    release = release_of(version)
    if release is None:
        return []
    return [
        *_driver(gpu_facts, release, version, driver_branch, instances),
        *_gpus(gpu_facts, version, instances),
        *_quantizations(gpu_facts, release, version, instances),
        *mixed(gpu_facts, instances),
        *system(host, release, version),
        *shared_memory(gpu_facts, instances),
        *fabric_manager_problems(gpu_facts, host.get("fabric_manager"), driver_branch),
    ]


def fabric_manager_problems(gpu_facts: Facts, installed: str | None, driver_branch: int | None = None) -> list[str]:
    """Say whether the installed fabric manager is of another version than the loaded driver.

    A driver that is about to be installed brings its own, and a host without NVSwitch needs none.
    """
    loaded = gpu_facts.get("driver_version")
    if (
        not generations.has_switches(gpu_facts)
        or not installed
        or not loaded
        or driver_branch
        or numbers(installed) == numbers(loaded)
    ):
        return []
    return [
        f"The host has NVSwitch, nvidia-fabricmanager is {installed} and the driver {loaded}: the fabric manager does "
        "not start beside another driver, and CUDA fails with error 802 (system not yet initialized). Either install "
        f"the fabric manager of version {loaded} (cuda_fabric_manager: manage), or a driver of version {installed} "
        f"(cuda_driver: nvidia, cuda_driver_version: {installed})."
    ]


def _driver(
    gpu: Facts, release: Release, version: str, driver_branch: int | None, instances: Sequence[Facts]
) -> list[str]:
    cuda = CUDA[release.cuda.split(".")[0]]
    loaded = gpu.get("driver_version")
    branch = driver_branch or next(iter(numbers(loaded or "")), None)
    if branch is None or branch >= cuda.driver_branch:
        return []
    if branch in cuda.compatible_branches and _data_center(gpu) and _asks_for_compatibility(instances):
        return []
    has = f"cuda_driver_branch is {branch}" if driver_branch else f"this host runs {loaded}"
    ways = [f"install branch {cuda.driver_branch} or newer (cuda_driver: nvidia, cuda_driver_branch)"]
    if branch in cuda.compatible_branches and _data_center(gpu):
        ways.append(
            f"install the package cuda-compat-{release.cuda.replace('.', '-')} and give every instance "
            "VLLM_ENABLE_CUDA_COMPATIBILITY: \"1\" in 'environment' (these GPUs are of the data center)"
        )
    older = _newest_release_for(branch)
    if older:
        ways.append(f"choose vLLM {older.version} (engine_version), built for CUDA {older.cuda}")
    return [
        f"vLLM {version} is built for CUDA {release.cuda}, which needs an NVIDIA driver of branch "
        f"{cuda.driver_branch} or newer, and {has}. Either {', or '.join(ways)}."
    ]


def _newest_release_for(branch: int) -> Release | None:
    fitting = [row for row in RELEASES if CUDA[row.cuda.split(".")[0]].driver_branch <= branch]
    return fitting[-1] if fitting else None


def _data_center(gpu: Facts) -> bool:
    """Forward compatibility is for data center cards; GeForce gets error 803 (vLLM 0.33.0, env_override.py:60)."""
    names = [device.get("name") for device in gpu.get("devices") or ()]
    return bool(names) and all(name and not any(word in name for word in _GEFORCE) for name in names)


def _asks_for_compatibility(instances: Sequence[Facts]) -> bool:
    given = [instance.get("environment") for instance in instances]
    asked = [str(one.get("VLLM_ENABLE_CUDA_COMPATIBILITY")) if isinstance(one, Mapping) else "" for one in given]
    return bool(asked) and all(value.strip().lower() in ("1", "true") for value in asked)


def used(gpu: Facts, instances: Sequence[Facts]) -> list[Facts]:
    """Devices that the instances are given, or all where nothing was decided yet."""
    devices = list(gpu.get("devices") or ())
    wanted = {index for instance in instances for index in instance.get("devices") or ()}
    return [device for device in devices if device.get("index") in wanted] if wanted else devices


def _gpus(gpu: Facts, version: str, instances: Sequence[Facts]) -> list[str]:
    least = engine_versions.of(version).minimum_compute_capability
    found: dict[str, list[Any]] = {}
    for device in used(gpu, instances):
        has = device.get("compute_capability")
        if has and numbers(has) < numbers(least):
            found.setdefault(f"{device.get('name')} has compute capability {has}", []).append(device.get("index"))
    return [
        f"vLLM {version} needs GPUs of compute capability {least} or newer, and {what} ({named(indexes)}). Either "
        "give the instances other GPUs ('gpus'), or choose a release of vLLM that still had code for these "
        "(engine_version)."
        for what, indexes in found.items()
    ]


def named(indexes: Sequence[Any]) -> str:
    """Some GPUs by their numbers."""
    return f"GPU{'s' if len(indexes) > 1 else ''} {', '.join(map(str, indexes))}"


def _quantizations(gpu: Facts, release: Release, version: str, instances: Sequence[Facts]) -> list[str]:
    found = []
    for instance in instances:
        method = instance.get("quantization") or (instance.get("serve_args") or {}).get("quantization")
        least = release.quantizations.get(str(method).lower())
        if not least:
            continue
        for device in used(gpu, [instance]):
            has = device.get("compute_capability")
            if has and numbers(has) < numbers(least):
                found.append(
                    f"{instance.get('name')}: the quantization {method} needs compute capability {least} or newer in "
                    f"vLLM {version}, and GPU {device.get('index')} ({device.get('name')}) has {has}. Either take a "
                    "checkpoint in another format ('model'), or give the instance other GPUs ('gpus')."
                )
                break
    return found


def mixed(gpu: Facts, instances: Sequence[Facts]) -> list[str]:
    """Different GPUs in one engine: the smallest decides the memory, and kernels are chosen by each for itself
    (vLLM 0.33.0, v1/core/kv_cache_planning.py:1580-1595)."""
    found = []
    for instance in instances:
        kinds = sorted({f"{d.get('name')} ({d.get('memory_total_mib')} MiB)" for d in used(gpu, [instance])})
        if instance.get("devices") and len(kinds) > 1:
            found.append(
                f"{instance.get('name')}: its GPUs are not of one kind: {', '.join(kinds)}. Either name GPUs of one "
                "kind in 'gpus', or ask for fewer."
            )
    return found


def system(host: Facts, release: Release | RocmRelease, version: str, machines: Sequence[str] = _MACHINES) -> list[str]:
    """The C library, the architecture and Python against what the wheels need; what is not known is not judged."""
    found = []
    glibc, machine, python = host.get("glibc"), host.get("machine"), host.get("python")
    if glibc and numbers(glibc) < numbers(release.glibc):
        found.append(
            f"The wheels of vLLM {version} need glibc {release.glibc} or newer, and this host has {glibc}. Either "
            "move to a newer release of the distribution, or choose an older vLLM (engine_version)."
        )
    if machine and machine not in machines:
        found.append(
            f"vLLM {version} has wheels for {' and '.join(machines)}, and this host is {machine}. Either take another "
            "host, or build vLLM yourself and name the wheels in engine_find_links."
        )
    least, below = release.python
    if python and not numbers(least) <= numbers(python)[:2] < numbers(below):
        found.append(
            f"vLLM {version} needs a Python from {least} to below {below}, and {host.get('python_path') or 'python3'} "
            f"is {python}. Either name another one in engine_python, or choose another vLLM (engine_version)."
        )
    return found


def shared_memory(gpu: Facts, instances: Sequence[Facts]) -> list[str]:
    """What the workers of the instances share, against the size of /dev/shm."""
    total = gpu.get("shm_total_mib")
    engines = [len(instance.get("devices") or ()) for instance in instances]
    wanted = sum(_SHM_ENGINE_MIB + _SHM_WORKER_MIB * workers for workers in engines if workers > 1)
    if total is None or total >= wanted:
        return []
    return [
        f"The instances need {wanted} MiB in /dev/shm for what their workers share, and it has {total} MiB. Either "
        "make it larger (mount -o remount,size=8G /dev/shm, and in /etc/fstab; --shm-size for a container), or give "
        "the instances fewer GPUs ('gpus')."
    ]
