"""The gate: which host runs which release, and what is said of one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import compatibility, releases
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import build_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.recorded import read_recording

from tests.unit.samples import CHECKOUT, gpu, nvidia_host, t4

HOST = {"glibc": "2.36", "machine": "x86_64"}
COMPATIBLE = {"name": "a", "environment": {"VLLM_ENABLE_CUDA_COMPATIBILITY": "1"}}
GEFORCE = gpu(0, "NVIDIA GeForce RTX 4090", 24564, compute_capability="8.9")
V100 = gpu(0, "Tesla V100-SXM2-16GB", 16384, compute_capability="7.0")


def facts(*devices: dict[str, Any], driver: str | None = "580.105.08", **more: Any) -> dict[str, Any]:
    return {**nvidia_host(*(devices or (gpu(0),))), "driver_version": driver, **more}


def said(gpu_facts: dict[str, Any], version: str = "0.33.0", **more: Any) -> list[str]:
    return compatibility.problems(gpu_facts, more.pop("host", HOST), version, **more)


HGX_B200 = [{"vendor": "nvidia", "device_id": "2901"}] * 8


@pytest.mark.parametrize(
    ("gpu_facts", "more"),
    [
        (facts(), {}),
        (facts(driver="595.71.05"), {}),
        # not known, not judged
        (facts(driver=None), {"host": {}}),
        (facts({"index": 0, "name": None}), {}),
        (facts(driver="535.129.03"), {"version": "0.19.1"}),
        (facts(driver="535.129.03"), {"instances": [COMPATIBLE]}),
        (facts(driver="535.129.03"), {"driver_branch": 580}),
        (facts(driver="470.1"), {"version": "0.6.0"}),
        (facts(t4(0)), {"instances": [{"name": "a", "devices": [0], "quantization": "awq"}]}),
        (facts(gpu(0), t4(1)), {"instances": [{"name": "a", "devices": [1]}, {"name": "b", "devices": [0]}]}),
        (facts(V100, gpu(1)), {"instances": [{"name": "a", "devices": [1]}]}),
        (facts(), {"instances": [{"name": "a", "environment": "no mapping", "devices": None}]}),
        (facts(), {"host": {**HOST, "python": "3.14.1"}}),
        (facts(nvswitch={"count": 4}), {"host": {**HOST, "fabric_manager": "580.105.08"}}),
        (facts(nvswitch={"count": 0}), {"host": {**HOST, "fabric_manager": "550.1"}}),
        (facts(nvswitch={"count": 4}), {"host": {**HOST, "fabric_manager": "550.1"}, "driver_branch": 580}),
        (
            facts(pci_gpus=HGX_B200, nvswitch={"count": 0}, cpu={"hypervisor": "KVM"}),
            {"host": {**HOST, "fabric_manager": "550.1"}},
        ),
        (facts(gpu(0), gpu(1), shm_total_mib=640), {"instances": [{"name": "a", "devices": [0, 1]}]}),
        (facts(shm_total_mib=64), {"instances": [{"name": "a", "devices": [0]}]}),
    ],
)
def test_what_runs(gpu_facts: dict[str, Any], more: dict[str, Any]) -> None:
    assert said(gpu_facts, **more) == []


@pytest.mark.parametrize(
    ("gpu_facts", "more", "words"),
    [
        (
            facts(driver="535.129.03"),
            {},
            [
                "vLLM 0.33.0 is built for CUDA 13.0, which needs an NVIDIA driver of branch 580 or newer",
                "and this host runs 535.129.03",
                "cuda_driver: nvidia",
                "cuda-compat-13-0",
                "choose vLLM 0.19 (engine_version), built for CUDA 12.8",
            ],
        ),
        (facts(), {"driver_branch": 550}, ["cuda_driver_branch is 550", "cuda-compat-13-0"]),
        # one of two instances does not ask for the compatibility package
        (facts(driver="535.1"), {"instances": [COMPATIBLE, {"name": "b"}]}, ["branch 580"]),
        # no way for a branch that the compatibility package was not made for
        (facts(driver="515.105.01"), {"instances": [COMPATIBLE]}, ["Either install branch 580 or newer"]),
        (facts(driver="510.1"), {"version": "0.19.0"}, ["CUDA 12.8", "branch 525"]),
        (
            facts(V100),
            {},
            ["compute capability 7.5 or newer", "Tesla V100-SXM2-16GB has compute capability 7.0 (GPU 0)"],
        ),
        (
            facts(t4(0), t4(1)),
            {"instances": [{"name": "chat", "devices": [1], "quantization": "mxfp4"}]},
            ["chat: the quantization mxfp4 needs compute capability 8.0", "GPU 1 (Tesla T4) has 7.5", "'model'"],
        ),
        (
            facts(t4(0)),
            {"instances": [{"name": "chat", "devices": [0], "serve_args": {"quantization": "modelopt"}}]},
            ["chat: the quantization modelopt needs compute capability 8.0"],
        ),
        (
            facts(gpu(0), t4(1)),
            {"instances": [{"name": "chat", "devices": [0, 1]}]},
            ["chat: its GPUs are not of one kind: NVIDIA H100 80GB HBM3 (81559 MiB), Tesla T4 (15360 MiB)"],
        ),
        (facts(), {"host": {**HOST, "glibc": "2.27"}}, ["need glibc 2.28 or newer, and this host has 2.27"]),
        (facts(), {"host": {**HOST, "machine": "ppc64le"}}, ["this host is ppc64le"]),
        (
            facts(),
            {"host": {**HOST, "python": "3.10.12", "python_path": "/usr/bin/python3"}},
            ["from 3.11 to below 3.15, and /usr/bin/python3 is 3.10.12", "engine_python"],
        ),
        (facts(), {"host": {**HOST, "python": "3.15.0"}}, ["to below 3.15"]),
        (
            facts(gpu(0), gpu(1), shm_total_mib=64),
            {"instances": [{"name": "a", "devices": [0, 1]}]},
            ["need 640 MiB in /dev/shm", "has 64 MiB", "'gpus'"],
        ),
        (
            facts(nvswitch={"count": 4}),
            {"host": {**HOST, "fabric_manager": "580.95.05"}},
            ["nvidia-fabricmanager is 580.95.05 and the driver 580.105.08", "error 802", "cuda_fabric_manager: manage"],
        ),
        # its switches are not on the PCI bus
        *(
            (facts(**more), {"host": {**HOST, "fabric_manager": "580.95.05"}}, ["nvidia-fabricmanager is 580.95.05"])
            for more in ({"pci_gpus": HGX_B200}, {"devices": [gpu(0) | {"name": "NVIDIA B200"}], "pci_gpus": []})
        ),
    ],
)
def test_what_does_not_run(gpu_facts: dict[str, Any], more: dict[str, Any], words: list[str]) -> None:
    (sentence,) = said(gpu_facts, **more)
    assert [word for word in words if word not in sentence] == []
    # Each refusal names two sides to choose from.
    assert "Either" in sentence


def test_geforce_has_no_compatibility_package() -> None:
    (sentence,) = said(facts(GEFORCE, driver="535.1"), instances=[COMPATIBLE])
    assert "cuda-compat" not in sentence


@pytest.mark.parametrize(
    ("version", "row"),
    [
        ("0.33.0", "0.33"),
        ("v0.34.1rc1", "0.33"),
        ("0.31.0", "0.21"),
        ("0.20.2", "0.20"),
        ("0.19.1", "0.19"),
        ("0.9", None),
    ],
)
def test_the_row_of_a_release(version: str, row: str | None) -> None:
    found = releases.release_of(version)
    assert (found.version if found else None) == row


def test_the_table_is_in_order_and_whole() -> None:
    versions = [releases.numbers(row.version) for row in releases.RELEASES]
    assert versions == sorted(set(versions))
    assert {row.cuda.split(".")[0] for row in releases.RELEASES} == set(releases.CUDA)


@pytest.mark.parametrize(
    ("text", "numbers"), [("580.95.05-1", (580, 95, 5)), ("v0.33.0rc1", (0, 33, 0)), ("", ()), ("latest", ())]
)
def test_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert releases.numbers(text) == numbers


HOSTS = CHECKOUT / "tests/unit/fixtures/hosts"
RECORDED = sorted(path.name for path in HOSTS.iterdir() if not list(path.glob("amd-smi-*")))


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_hosts_with_a_new_driver_pass_the_gate(name: str) -> None:
    """Real text, through the reader: h200-vm is a recording of a real host."""
    found = build_facts(read_recording(str(CHECKOUT / "tests/unit/fixtures/hosts" / name)), "recorded")
    old = found["driver_version"] and releases.numbers(found["driver_version"])[0] < 580
    expected = 1 if old else 0
    assert len(said(found)) == expected, (found["driver_version"], said(found))
