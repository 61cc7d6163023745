# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the ROCm build of a vLLM release can run on a host: ROCm, GPUs, glibc, Python, memory. Before any change.

Every refusal names the two sides and says how to change either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.compatibility import (
    mixed,
    named,
    shared_memory,
    system,
    used,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import (
    ROCM_RELEASES,
    RocmRelease,
    numbers,
    rocm_release_of,
)

Facts = Mapping[str, Any]


def problems(
    gpu_facts: Facts, host: Facts, version: str, rocm: str | None = None, instances: Sequence[Facts] = ()
) -> list[str]:
    """Return a sentence for each reason why the ROCm build of vLLM ``version`` cannot run on the host.

    ``gpu_facts`` is what gpu_info returned, ``host`` what rocm_info did (``glibc``, ``machine``, ``rocm``); what is
    None or missing is not judged. ``rocm`` is the version that is about to be installed; without one, that which is
    there counts, and must be there. ``instances`` are layouts; without them it is enough that the release has code
    for one GPU of the host.
    """
    release = rocm_release_of(version)
    if release is None:
        return [
            f"vLLM {version} has no wheels for ROCm: they begin with vLLM {ROCM_RELEASES[0].version}. Choose another "
            "one in engine_version."
        ]
    return [
        *_rocm(host, release, version, rocm),
        *_gpus(gpu_facts, release, version, instances),
        *mixed(gpu_facts, instances),
        *system(host, release, version, ("x86_64",)),
        *shared_memory(gpu_facts, instances),
    ]


def _rocm(host: Facts, release: RocmRelease, version: str, planned: str | None) -> list[str]:
    """The wheels' torch loads ROCm's libraries from the host, and those of another release have other names."""
    if "rocm" not in host and not planned:
        return []
    has = planned or host.get("rocm")
    needs = f"vLLM {version} is built for ROCm {release.rocm}, whose libraries must be on the host"
    if not has:
        return [f"{needs}, and this host has no ROCm. Have it installed (rocm_driver: amd), or install it yourself."]
    if numbers(str(has))[:2] == numbers(release.rocm):
        return []
    which = f"rocm_version is {has}" if planned else f"this host has ROCm {has}"
    older = [row.version for row in ROCM_RELEASES if numbers(row.rocm) == numbers(str(has))[:2]]
    ways = [f"install ROCm {release.rocm} (rocm_driver: amd, rocm_version: {release.rocm}.x)"]
    ways += [f"choose vLLM {older[-1]} (engine_version)"] if older else []
    return [f"{needs}, and {which}. Either {', or '.join(ways)}."]


def _gpus(gpu: Facts, release: RocmRelease, version: str, instances: Sequence[Facts]) -> list[str]:
    devices = [device for device in used(gpu, instances) if device.get("gfx")]
    without: dict[str, list[Any]] = {}
    for device in devices:
        if _gfx(device) not in release.gfx:
            without.setdefault(f"{device.get('name')} is {_gfx(device)}", []).append(device.get("index"))
    chosen = any(instance.get("devices") for instance in instances)
    if not chosen and any(_gfx(device) in release.gfx for device in devices):
        return []
    return [
        f"The wheels of vLLM {version} have code for {', '.join(release.gfx)}, and {what} ({named(indexes)}). Either "
        "give the instances other GPUs ('gpus'), or build vLLM for this one and name the wheels in engine_find_links."
        for what, indexes in without.items()
    ]


def _gfx(device: Facts) -> str:
    """Without the features that some tools add: gfx942:sramecc+:xnack-."""
    return str(device.get("gfx")).split(":", 1)[0].lower()
