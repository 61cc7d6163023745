"""Which GPUs may be used, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import explicit, pools
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.linked_hosts import RTX_4090, shuffled
from tests.unit.samples import cpu_host, gpu, nvidia_host, t4

GIB = 1024


def program(name: str, mib: int | None, kind: str = "C") -> dict[str, Any]:
    return {"pid": 4711, "type": kind, "name": name, "memory_used_mib": mib}


def held(index: int, mib: int, *programs: dict[str, Any]) -> dict[str, Any]:
    """A GPU of which ``mib`` are in use."""
    return gpu(
        index, mib=81559, memory_used_mib=mib, memory_reserved_mib=551, memory_free_mib=81008 - mib, processes=programs
    )


def host(*devices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**nvidia_host(*devices), **more}


def test_like_gpus_make_a_pool_and_the_largest_comes_first() -> None:
    facts = host(t4(0), gpu(1), gpu(2), t4(3), gpu(4))
    found = pools(facts)
    assert [pool.devices for pool in found] == [(1, 2, 4), (0, 3)]
    assert found[0].kind == ("NVIDIA H100 80GB HBM3", 81559, "9.0", None)
    assert found[0].left_out == ()


def test_memory_and_capability_keep_gpus_apart() -> None:
    facts = host(gpu(0), gpu(1, mib=40960), gpu(2, compute_capability="8.0"), gpu(3))
    assert [pool.devices for pool in pools(facts)] == [(0, 3), (2,), (1,)]


FABRIC_FAILED = {"readiness": [{"check": "fabric_manager", "state": "fail", "message": "", "remedy": ""}]}


@pytest.mark.parametrize(
    ("device", "more", "reason"),
    [
        (gpu(1, lost=True), {}, "lost"),
        (gpu(1, mig_mode=True), {}, "MIG"),
        (gpu(1, mig_devices=[{"index": 0}]), {}, "MIG"),
        (gpu(1, recovery_action="Reset"), {}, "recovery (Reset)"),
        (gpu(1, ecc={"row_remap_failure": True}), {}, "worn out"),
        (gpu(1, compute_mode="Prohibited"), {}, "Prohibited"),
        (gpu(1, fabric={"state": "In Progress"}), FABRIC_FAILED, "NVLink fabric"),
        (gpu(1, fabric={"state": "Completed", "status": "Failure"}), FABRIC_FAILED, "NVLink fabric"),
        (held(1, 40 * GIB, program("train.py", 40 * GIB)), {}, "40.0 of 79.6 GiB are in use by train.py (4711)"),
        (held(1, 20 * GIB), {}, "20.0 of 79.6 GiB are in use by programs that no tool names"),
        (held(1, 60 * GIB, program("VLLM::Worker_TP0", 30 * GIB), program("a", None)), {}, "30.0 of 79.6 GiB"),
    ],
)
def test_a_gpu_is_left_out_with_the_reason(device: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    joined = {"state": "Completed", "status": "Success"}
    found = pools(host(gpu(0, fabric=joined), device, **more))
    assert [pool.devices for pool in found] == [(0,)]
    assert len(found[0].left_out) == 1
    assert found[0].left_out[0].startswith("GPU 1: ")
    assert reason in found[0].left_out[0]


@pytest.mark.parametrize(
    ("device", "warning"),
    [
        (held(1, 400), None),
        (held(1, 400, program("Xorg", 300, "G")), None),
        (held(1, 3 * GIB, program("notebook", 3 * GIB)), "3.0 of 79.6 GiB are in use by notebook (4711)"),
        (held(1, 70 * GIB, program("VLLM::EngineCore", 70 * GIB)), "vLLM runs on it already"),
        (gpu(1, ecc={"row_remap_pending": True}), "repairs of its memory"),
        (gpu(1, compute_mode="Exclusive_Process", mig_mode=False, lost=False, recovery_action=None), None),
        (gpu(1, mib=None, processes=[program("train.py", 100)]), "in use by train.py"),
    ],
)
def test_a_gpu_is_used_with_or_without_a_warning(device: dict[str, Any], warning: str | None) -> None:
    found = next(pool for pool in pools(host(device)) if 1 in pool.devices)
    assert found.left_out == ()
    assert len(found.warnings) == (0 if warning is None else 1)
    assert warning is None or warning in found.warnings[0]


def test_our_own_instances_do_not_make_a_gpu_used() -> None:
    facts = host(held(0, 70 * GIB, program("python3", 70 * GIB)), held(1, 0))
    assert pools(facts)[0].devices == (1,)
    found = pools(facts, ours={0})
    assert (found[0].devices, found[0].warnings) == ((0, 1), ())
    assert found[0].memory_free_mib == 81008


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([held(0, 0), held(1, 3 * GIB)], 81008 - 3 * GIB),
        ([held(0, 70 * GIB, program("VLLM::EngineCore", 70 * GIB)), held(1, 0)], 81008),
        ([gpu(0), held(1, 0)], None),
    ],
)
def test_the_poorest_gpu_says_how_much_memory_is_free(devices: Sequence[dict[str, Any]], expected: int | None) -> None:
    assert pools(host(*devices))[0].memory_free_mib == expected


def test_an_amd_gpu_whose_holder_nobody_can_name_is_used() -> None:
    device = gpu(0, "AMD Instinct MI300X", 196592, compute_capability=None, gfx="gfx942", memory_used_mib=150_000)
    found = pools(host(device, accelerator="rocm"))[0]
    assert (found.devices, found.gfx, found.compute_capability) == ((0,), "gfx942", None)
    assert "programs that no tool names" in found.warnings[0]


def test_the_rest_of_a_host_with_a_lost_gpu_is_used() -> None:
    facts = host(gpu(0), gpu(1, lost=True), gpu(2), state="gpu_lost", message="GPU 1 does not answer.")
    found = pools(facts)[0]
    assert found.devices == (0, 2)
    assert found.left_out == ("GPU 1: does not answer its driver (lost)",)
    assert found.warnings == ("Planned with the GPUs that answer. GPU 1 does not answer.",)


def test_unnamed_gpus_are_used_with_a_warning() -> None:
    found = pools(host({"index": 0}, {"index": 1}))[0]
    assert (found.devices, found.memory_total_mib) == ((0, 1), None)
    assert "named" in found.warnings[0]


@pytest.mark.parametrize(
    ("facts", "taken", "rule", "reason"),
    [
        (cpu_host(), (), "no_gpu", "this host has no GPU"),
        (host(state="no_driver", message="No driver."), (), "gpus_not_ready", "cannot be used: No driver"),
        (host(gpu(0), state="tool_timeout", message="Hangs."), (), "gpus_not_ready", "Hangs"),
        (host(message="Nothing seen."), (), "no_usable_gpu", "Nothing seen"),
        (host(gpu(0), gpu(1)), (0, 1), "no_gpu_free", "given to an earlier instance"),
        (
            host(gpu(0, mig_mode=True), gpu(1), gpu(2, mig_mode=True)),
            (1,),
            "no_usable_gpu",
            "no GPU of this host can be used: GPUs 0, 2: cut into MIG instances; GPU 1: given to an earlier instance",
        ),
        (host(gpu(0), gpu(1), **FABRIC_FAILED), (), "no_usable_gpu", "GPUs 0, 1: has not joined the NVLink fabric"),
    ],
)
def test_no_pool_is_a_sentence(facts: dict[str, Any], taken: Sequence[int], rule: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        pools(facts, taken)
    assert refused.value.rule == rule
    assert reason in refused.value.reason
    assert refused.value.sentence().endswith(".")


def test_each_reason_brings_its_remedy_once() -> None:
    used = held(3, 40 * GIB, program("train.py", 40 * GIB))
    with pytest.raises(Refused) as refused:
        pools(host(gpu(0, mig_mode=True), gpu(1, mig_mode=True), gpu(2), used), {2})
    assert refused.value.remedies == (
        "switch MIG off: nvidia-smi -i 0 -mig 0",
        "remove an instance from this host, or give the instances fewer GPUs",
        "stop what runs there, or write 3 in 'gpus' to use it all the same",
    )


def test_taken_gpus_are_not_offered_again() -> None:
    assert pools(host(gpu(0), gpu(1), gpu(2)), {1})[0].devices == (0, 2)


def test_written_gpus_make_a_pool_of_their_own() -> None:
    facts = host(gpu(0), t4(1), gpu(2), held(3, 40 * GIB, program("train.py", 40 * GIB)))
    found = explicit(facts, [3, 0])
    assert (found.devices, found.left_out) == ((0, 3), ())
    assert "train.py" in found.warnings[0]


@pytest.mark.parametrize(
    ("indexes", "taken", "rule", "reason"),
    [
        ([], (), "no_gpu_named", "names no GPU"),
        ([0, 0, 1], (), "gpu_twice", "GPU 0 more than once"),
        ([0, 9, 8], (), "gpu_not_there", "GPUs 8, 9, which this host does not have"),
        ([0, 1], (1,), "gpu_taken", "GPU 1, given to an earlier instance"),
        ([0, 2], (), "mixed_gpus", "GPU 0 is NVIDIA H100 80GB HBM3 with 81559 MiB, GPU 2 is NVIDIA GeForce RTX 4090"),
        ([0, 3], (), "gpu_not_usable", "GPU 3: cut into MIG instances"),
    ],
)
def test_written_gpus_are_refused_in_a_sentence(
    indexes: list[int], taken: Sequence[int], rule: str, reason: str
) -> None:
    facts = host(gpu(0), gpu(1), gpu(2, **RTX_4090), gpu(3, mig_mode=True))
    with pytest.raises(Refused) as refused:
        explicit(facts, indexes, taken)
    assert refused.value.rule == rule
    assert reason in refused.value.reason
    assert refused.value.remedies


DEVICES: list[Callable[[int], dict[str, Any]]] = [
    gpu,
    t4,
    lambda index: gpu(index, lost=True),
    lambda index: gpu(index, mig_mode=True),
    lambda index: held(index, 3 * GIB, program("notebook", 3 * GIB)),
]


@given(st.lists(st.sampled_from(DEVICES), min_size=1, max_size=10), st.data())
def test_the_order_of_the_devices_changes_nothing(kinds: list[Callable[[int], dict[str, Any]]], data: Any) -> None:
    facts = host(gpu(0), *(make(index) for index, make in enumerate(kinds, 1)))
    order = data.draw(st.permutations(range(len(kinds) + 1)))
    found = pools(facts)
    assert pools(shuffled(facts, order)) == found
    offered = [index for pool in found for index in pool.devices]
    assert len(offered) == len(set(offered))
