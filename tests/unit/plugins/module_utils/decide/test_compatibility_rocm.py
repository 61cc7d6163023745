"""The gate for AMD: which host runs which release, and what is said of one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import compatibility_rocm, releases
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import build_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.recorded import read_recording

from tests.unit.rocm_samples import gpus, host
from tests.unit.samples import CHECKOUT

MI300 = gpus("gfx942", "gfx942")


def said(gpu: dict[str, Any], facts: dict[str, Any], version: str = "0.31.0", **more: Any) -> list[str]:
    return compatibility_rocm.problems(gpu, facts, version, **more)


@pytest.mark.parametrize(
    ("gpu", "facts", "more"),
    [
        (MI300, host("30.30.3", "7.2.3"), {}),
        # patch levels of ROCm go together
        (MI300, host(None, "7.2.0"), {}),
        (MI300, host(), {"rocm": "7.2.3"}),
        (MI300, host(None, "7.0.2"), {"version": "0.18.0"}),
        (MI300, host(None, "7.2.1", glibc="2.36"), {"version": "0.26.0"}),
        (gpus("gfx942:sramecc+:xnack-"), host(None, "7.2.3"), {}),
        (gpus("gfx1201"), host(None, "7.2.3"), {}),
        # the graphics of the processor beside a GPU, as long as no instance is given them
        (gpus("gfx1036", "gfx1100"), host(None, "7.2.3"), {}),
        (gpus("gfx1036", "gfx1100"), host(None, "7.2.3"), {"instances": [{"name": "a", "devices": [1]}]}),
        # not known, not judged
        (gpus(), {}, {}),
        ({"accelerator": "rocm", "devices": [{"index": 0, "gfx": None}]}, {}, {}),
    ],
)
def test_what_runs(gpu: dict[str, Any], facts: dict[str, Any], more: dict[str, Any]) -> None:
    assert said(gpu, facts, **more) == []


@pytest.mark.parametrize(
    ("gpu", "facts", "more", "words"),
    [
        (MI300, host(), {}, ["built for ROCm 7.2", "this host has no ROCm", "rocm_driver: amd"]),
        (MI300, host(None, "6.4.1"), {}, ["this host has ROCm 6.4.1", "rocm_version: 7.2.x"]),
        (MI300, host(None, "7.0.2"), {}, ["has ROCm 7.0.2", "choose vLLM 0.14 (engine_version)"]),
        (MI300, host(), {"rocm": "10.0.0"}, ["rocm_version is 10.0.0", "rocm_version: 7.2.x"]),
        (gpus("gfx908"), host(None, "7.2.3"), {}, ["AMD gfx908 is gfx908 (GPU 0)", "gfx90a, gfx942", "'gpus'"]),
        (
            gpus("gfx1036", "gfx1100"),
            host(None, "7.2.3"),
            {"instances": [{"name": "a", "devices": [0]}]},
            ["gfx1036", "engine_find_links"],
        ),
        (MI300, host(None, "7.2.3", glibc="2.36"), {}, ["glibc 2.39", "has 2.36", "older vLLM"]),
        (MI300, host(None, "7.2.3", machine="aarch64"), {}, ["wheels for x86_64", "aarch64"]),
        (MI300, host(None, "7.2.3", python="3.13.5"), {}, ["from 3.12 to below 3.13", "3.13.5"]),
        (MI300, host(None, "7.2.3"), {"version": "0.11.0"}, ["no wheels for ROCm", "begin with vLLM 0.14"]),
        (
            gpus("gfx942", "gfx950"),
            host(None, "7.2.3"),
            {"instances": [{"name": "a", "devices": [0, 1]}]},
            ["not of one kind"],
        ),
        (
            gpus("gfx942", "gfx942", shm_total_mib=64),
            host(None, "7.2.3"),
            {"instances": [{"name": "a", "devices": [0, 1]}]},
            ["640 MiB in /dev/shm"],
        ),
    ],
)
def test_what_is_refused(gpu: dict[str, Any], facts: dict[str, Any], more: dict[str, Any], words: list[str]) -> None:
    (sentence,) = said(gpu, facts, **more)
    assert [word for word in words if word not in sentence] == []


def test_a_host_as_amd_smi_describes_it_passes_the_gate() -> None:
    found = build_facts(read_recording(str(CHECKOUT / "tests/unit/fixtures/hosts/mi300x")), "recorded")
    instances = [{"name": "a", "devices": [0, 1, 2, 3]}]
    assert said(found, host("30.30.3", "7.2.3"), instances=instances) == []


def test_the_table_is_in_order_and_of_one_python() -> None:
    rows = releases.ROCM_RELEASES
    assert sorted(rows, key=lambda row: releases.numbers(row.version)) == list(rows)
    assert {row.python for row in rows} == {("3.12", "3.13")}
    assert all(row.build == f"rocm{row.rocm.replace('.', '')}{row.build[-1]}" for row in rows)
