"""Facts of whole hosts, recorded by hand in the documented formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import profiles, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import (
    build_facts,
    facts_from_profile,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.recorded import read_recording
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import (
    FAILED,
    MISSING,
    OK,
    TIMEOUT,
    Outputs,
    ToolOutput,
)
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTS = Path(__file__).parents[3] / "fixtures" / "hosts"


def recorded(name: str) -> dict[str, Any]:
    return build_facts(read_recording(str(HOSTS / name)), "recorded")


def check(facts: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((entry for entry in facts["readiness"] if entry["check"] == name), None)


def host(files: dict[str, str] | None = None, **outputs: ToolOutput) -> Outputs:
    """Outputs of a live host that has none of the tools but those given (by constant name)."""
    found = {name: ToolOutput(MISSING) for name in sources.COMMANDS}
    found.update({getattr(sources, name): output for name, output in outputs.items()})
    found[sources.HOST] = ToolOutput(OK, json.dumps({"files": files or {}, "shm": None, "limits": {}}))
    return found


GPU_ON_BUS = {
    "/sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
    "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "/sys/bus/pci/devices/0000:01:00.0/device": "0x2684\n",
    "/sys/bus/pci/devices/0000:01:00.0/numa_node": "1\n",
}
NETWORK_ON_BUS = {
    "/sys/bus/pci/devices/0000:00:03.0/class": "0x020000\n",
    "/sys/bus/pci/devices/0000:00:03.0/vendor": "0x1af4\n",
}
NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
MODULE_LOADED = {"/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08\n"}


def test_eight_mi300x_on_xgmi() -> None:
    facts = recorded("mi300x")
    assert (facts["state"], facts["accelerator"], facts["message"]) == ("ready", "rocm", "8 AMD GPUs ready.")
    assert facts["driver_version"] == "6.16.13"
    assert facts["link_groups"] == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert [device["numa_node"] for device in facts["devices"]] == [0] * 4 + [1] * 4
    assert {(device["gfx"], device["memory_total_mib"]) for device in facts["devices"]} == {("gfx942", 196592)}
    assert {gpu["vendor"] for gpu in facts["pci_gpus"]} == {"amd"}
    assert facts["warnings"] == []


def test_eight_h100_behind_nvswitch() -> None:
    facts = recorded("h100-nvswitch")
    assert (facts["state"], facts["accelerator"], facts["message"]) == (
        "ready",
        "cuda",
        "8 NVIDIA GPUs ready.",
    )
    assert (facts["driver_version"], facts["cuda_version"]) == ("580.105.08", "13.0")
    assert facts["interconnect"] == "nvswitch"
    assert facts["link_groups"] == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert [device["numa_node"] for device in facts["devices"]] == [0] * 4 + [1] * 4
    assert {device["compute_capability"] for device in facts["devices"]} == {"9.0"}
    assert {device["memory_total_mib"] for device in facts["devices"]} == {81559}
    assert facts["nvswitch"] == {"count": 4, "fabric_ready": True}
    assert facts["p2p"] == "all"
    assert [nic["name"] for nic in facts["nics"]] == ["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]
    assert facts["nics"][0]["links"][:3] == ["PIX", "PXB", "NODE"]
    assert facts["cpu"]["cores"] == 96
    assert facts["warnings"] == []
    assert {entry["state"] for entry in facts["readiness"]} == {"ok"}


def test_four_a100_in_bridged_pairs() -> None:
    facts = recorded("a100-pairs")
    assert facts["interconnect"] == "nvlink_pairs"
    assert facts["link_groups"] == [[0, 1], [2, 3]]
    by_size = {entry["size"]: entry["groups"] for entry in facts["device_groups"]}
    assert by_size[2] == [
        {"devices": [0, 1], "worst_link": "NV12", "numa_nodes": [0]},
        {"devices": [2, 3], "worst_link": "NV12", "numa_nodes": [1]},
    ]
    assert by_size[4][0]["worst_link"] == "SYS"
    assert facts["p2p"] == "partial"


def test_two_4090_with_faults_that_are_named() -> None:
    facts = recorded("rtx4090-pcie")
    assert (facts["interconnect"], facts["p2p"]) == ("pcie_host", "none")
    found = {entry["check"]: entry["state"] for entry in facts["readiness"]}
    assert found["persistence_mode"] == "warn"
    assert found["pcie_width"] == "warn"
    in_use = check(facts, "gpu_memory_in_use")
    assert in_use is not None
    assert "python3 (4711) 1204 MiB" in in_use["message"]
    assert all(entry["remedy"] for entry in facts["readiness"] if entry["state"] != "ok")


def test_two_models_are_never_in_one_group() -> None:
    facts = recorded("mixed")
    assert facts["mixed_gpus"] is True
    assert facts["link_groups"] == [[0, 2]]
    assert facts["ungrouped"] == [1, 3]
    by_size = {entry["size"]: entry["groups"] for entry in facts["device_groups"]}
    assert [group["devices"] for group in by_size[2]] == [[0, 2], [1, 3]]
    assert 4 not in by_size


def test_a_lost_gpu_keeps_the_numbers_of_the_others() -> None:
    facts = recorded("lost-gpu")
    assert facts["state"] == "gpu_lost"
    assert "GPU2: 0000:CA:00.0" in facts["message"]
    assert "3 others still answer" in facts["message"]
    assert [device["index"] for device in facts["devices"]] == [0, 1, 3]
    assert facts["link_matrix"] is None


def test_a_hanging_tool_is_a_state_and_hides_nothing_else() -> None:
    facts = recorded("hanging")
    assert facts["state"] == "tool_timeout"
    assert (facts["link_matrix"], facts["interconnect"], facts["mixed_gpus"]) == (None, None, None)
    assert "nvidia-smi -q -x" in facts["warnings"][0]


def test_one_hanging_tool_of_many_is_a_warning() -> None:
    outputs = read_recording(str(HOSTS / "a100-pairs"))
    outputs[sources.NVIDIA_NVLINK] = ToolOutput(TIMEOUT, seconds=30.0)
    facts = build_facts(outputs)
    assert facts["state"] == "ready"
    assert facts["warnings"] == [
        "No answer in time, therefore stopped: nvidia-smi nvlink -s. What they tell is not known."
    ]


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("no-communication", "driver_failed", "dkms status"),
        ("version-mismatch", "driver_mismatch", "library 580.105"),
    ],
)
def test_broken_drivers_are_named_in_words(name: str, state: str, words: str) -> None:
    facts = recorded(name)
    assert facts["state"] == state
    assert words in facts["message"]
    assert facts["warnings"] == []
    assert facts["accelerator"] == "cuda"


def failed(text: str, code: int = 9) -> ToolOutput:
    return ToolOutput(FAILED, text, returncode=code)


@pytest.mark.parametrize(
    ("outputs", "accelerator", "state", "words"),
    [
        (host(), "cpu", "ready", "the CPU is the accelerator"),
        (host(NETWORK_ON_BUS, NVIDIA_XML=failed(NO_DRIVER)), "cpu", "ready", "the CPU is the accelerator"),
        (host(GPU_ON_BUS, NVIDIA_XML=failed(NO_DRIVER)), "cuda", "driver_failed", "dkms status"),
        (
            host({**NETWORK_ON_BUS, **MODULE_LOADED}, NVIDIA_XML=failed(NO_DRIVER)),
            "cuda",
            "driver_failed",
            "kernel log",
        ),
        (host(GPU_ON_BUS), "cuda", "no_driver", "1 NVIDIA GPU on the PCI bus (0000:01:00.0)"),
        (host({**GPU_ON_BUS, **MODULE_LOADED}), "cuda", "no_tool", "580.105.08"),
        (host(GPU_ON_BUS, NVIDIA_XML=failed("No devices were found\n", 6)), "cuda", "no_devices", "dmesg"),
        (
            host(GPU_ON_BUS, NVIDIA_XML=failed("Failed to initialize NVML: Insufficient Permissions\n")),
            "cuda",
            "no_permission",
            "/dev/nvidia",
        ),
        (
            host(GPU_ON_BUS, NVIDIA_XML=failed("Failed to initialize NVML: Unknown Error\n")),
            "cuda",
            "tool_failed",
            "Failed to initialize NVML: Unknown Error",
        ),
        (host(NVIDIA_XML=ToolOutput(OK, "<nvidia_smi_log><gpu>")), "cuda", "unreadable", "cannot be read"),
        (host(NVIDIA_XML=ToolOutput(TIMEOUT, seconds=30.0)), "cuda", "tool_timeout", "after 30 s"),
        (
            host(
                {
                    "/sys/bus/pci/devices/0000:05:00.0/class": "0x120000",
                    "/sys/bus/pci/devices/0000:05:00.0/vendor": "0x1002",
                }
            ),
            "rocm",
            "no_driver",
            "amdgpu",
        ),
    ],
)
def test_states(outputs: Outputs, accelerator: str, state: str, words: str) -> None:
    facts = build_facts(outputs)
    assert (facts["accelerator"], facts["state"]) == (accelerator, state)
    assert words in facts["message"]
    driver = check(facts, "driver")
    assert (driver is None) == (accelerator == "cpu")


def test_gpus_without_a_driver_are_seen_on_the_bus() -> None:
    facts = build_facts(host(GPU_ON_BUS))
    assert facts["devices"] == []
    assert facts["pci_gpus"] == [
        {
            "pci_bus_id": "0000:01:00.0",
            "vendor": "nvidia",
            "name": None,
            "device_id": "2684",
            "driver": None,
            "numa_node": 1,
        }
    ]


def test_a_recording_of_lspci_alone_says_what_it_can() -> None:
    facts = build_facts({sources.LSPCI: ToolOutput(OK, (HOSTS / "h100-nvswitch/lspci.txt").read_text())}, "recorded")
    assert (facts["accelerator"], facts["state"]) == ("cuda", "unknown")
    assert [gpu["device_id"] for gpu in facts["pci_gpus"]] == ["2330"] * 8


def test_a_topology_alone_gives_devices_links_and_nodes() -> None:
    text = (HOSTS / "h100-nvswitch/nvidia-smi-topo-m.txt").read_text()
    facts = build_facts({sources.NVIDIA_TOPOLOGY: ToolOutput(OK, text)}, "recorded")
    assert (facts["state"], facts["interconnect"], len(facts["devices"])) == ("ready", "nvswitch", 8)
    assert facts["devices"][7]["numa_node"] == 1
    assert facts["devices"][7]["name"] is None
    assert facts["mixed_gpus"] is None


def gpu_xml(**values: str) -> ToolOutput:
    body = "".join(f"<{key}>{value}</{key}>" for key, value in values.items())
    return ToolOutput(OK, f"<nvidia_smi_log><gpu id='00000000:01:00.0'>{body}</gpu></nvidia_smi_log>")


@pytest.mark.parametrize(
    ("values", "name", "state"),
    [
        ({"remapped_rows": "<remapped_row_failure>Yes</remapped_row_failure>"}, "memory_errors", "fail"),
        ({"remapped_rows": "<remapped_row_pending>Yes</remapped_row_pending>"}, "memory_errors", "warn"),
        (
            {"ecc_errors": "<volatile><dram_uncorrectable>1</dram_uncorrectable></volatile>"},
            "memory_errors",
            "warn",
        ),
        ({"gpu_recovery_action": "Reset"}, "gpu_recovery", "fail"),
        ({"compute_mode": "Exclusive_Process"}, "compute_mode", "warn"),
        ({"persistence_mode": "Enabled"}, "persistence_mode", "ok"),
        ({"fabric": "<state>In Progress</state>"}, "fabric_manager", "fail"),
        ({"fabric": "<state>Completed</state><status>Success</status>"}, "fabric_manager", "ok"),
    ],
)
def test_checks_of_a_gpu(values: dict[str, str], name: str, state: str) -> None:
    found = check(build_facts(host(NVIDIA_XML=gpu_xml(product_name="NVIDIA H100 PCIe", **values))), name)
    assert found is not None
    assert found["state"] == state


def test_checks_that_do_not_apply_are_left_out() -> None:
    found = build_facts(host(NVIDIA_XML=gpu_xml(product_name="NVIDIA L4")))["readiness"]
    assert [entry["check"] for entry in found] == ["driver"]


def with_host(name: str, files: dict[str, str], **extra: Any) -> dict[str, Any]:
    outputs = read_recording(str(HOSTS / name))
    outputs[sources.HOST] = ToolOutput(OK, json.dumps({"files": files, **extra}))
    return build_facts(outputs)


BUSES = ("0000:17:00.0", "0000:65:00.0", "0000:ca:00.0", "0000:e3:00.0")


@pytest.mark.parametrize(("kind", "state"), [("DMA-FQ\n", "warn"), ("identity\n", "ok")])
def test_iommu_by_the_groups_of_the_gpus(kind: str, state: str) -> None:
    files = {"/proc/cmdline": "intel_iommu=on"}
    for bus in BUSES:
        files[f"/sys/bus/pci/devices/{bus}/class"] = "0x030200"
        files[f"/sys/bus/pci/devices/{bus}/vendor"] = "0x10de"
        files[f"/sys/bus/pci/devices/{bus}/iommu_group/type"] = kind
    found = check(with_host("a100-pairs", files), "iommu")
    assert found is not None
    assert found["state"] == state


def test_acs_redirection() -> None:
    outputs = read_recording(str(HOSTS / "h100-nvswitch"))
    text = outputs[sources.LSPCI].text.replace("ReqRedir- CmpltRedir-", "ReqRedir+ CmpltRedir+")
    outputs[sources.LSPCI] = ToolOutput(OK, text)
    facts = build_facts(outputs)
    found = check(facts, "acs")
    assert found is not None
    assert (found["state"], facts["iommu"]["acs_redirects"]) == ("warn", True)


def test_fabric_manager_that_does_not_run() -> None:
    outputs = read_recording(str(HOSTS / "h100-nvswitch"))
    text = outputs[sources.NVIDIA_XML].text.replace("<state>Completed</state>", "<state>N/A</state>")
    outputs[sources.NVIDIA_XML] = ToolOutput(OK, text.replace("<status>Success</status>", ""))
    outputs[sources.SYSTEMCTL] = ToolOutput(
        OK,
        "Id=nvidia-fabricmanager.service\nLoadState=loaded\nActiveState=failed\n\nId=x.service\nLoadState=not-found\n",
    )
    found = check(build_facts(outputs), "fabric_manager")
    assert found is not None
    assert found["state"] == "fail"
    assert "error 802" in found["message"]


@pytest.mark.parametrize(
    ("variable", "module", "modinfo", "state"),
    [
        ("\x06\x00\x00\x00\x00", False, "", "ok"),
        ("\x06\x00\x00\x00\x01", True, "", "ok"),
        ("\x06\x00\x00\x00\x01", False, "filename: nvidia.ko\n", "fail"),
        ("\x06\x00\x00\x00\x01", False, "signer:  DKMS key\n", "warn"),
    ],
)
def test_secure_boot(variable: str, module: bool, modinfo: str, state: str) -> None:
    files = {**GPU_ON_BUS, "/sys/firmware/efi/efivars/SecureBoot-8be4df61": variable}
    files.update(MODULE_LOADED if module else {})
    found = check(build_facts(host(files, MODINFO=ToolOutput(OK, modinfo))), "secure_boot")
    assert found is not None
    assert found["state"] == state


def test_nouveau_that_holds_the_gpu() -> None:
    files = {**GPU_ON_BUS, "/proc/modules": "nouveau 2351104 0 - Live 0x0\n"}
    found = check(build_facts(host(files)), "nouveau")
    assert found is not None
    assert found["state"] == "fail"


@pytest.mark.parametrize(
    ("extra", "name", "state"),
    [
        ({"shm": {"total_mib": 64}}, "dev_shm", "warn"),
        ({"shm": {"total_mib": 8192}}, "dev_shm", "ok"),
        ({"limits": {"nofile": [1024, 4096]}}, "open_files", "warn"),
        ({"limits": {"nofile": [1024, 524288]}}, "open_files", "ok"),
        ({"limits": {"memlock": [8388608, 8388608]}}, "memlock", "warn"),
        ({"limits": {"memlock": [-1, -1]}}, "memlock", "ok"),
    ],
)
def test_limits_of_the_host(extra: dict[str, Any], name: str, state: str) -> None:
    found = check(with_host("h100-nvswitch", {}, **extra), name)
    assert found is not None
    assert found["state"] == state


def test_rdma_adapters_of_the_kernel_join_the_topology() -> None:
    files = {
        "/sys/class/infiniband/mlx5_0/device": "-> 0000:18:00.0",
        "/sys/class/infiniband/mlx5_9/device": "-> 0000:99:00.0",
        "/sys/bus/pci/devices/0000:18:00.0/class": "0x020700",
        "/sys/bus/pci/devices/0000:18:00.0/numa_node": "0",
    }
    nics = {nic["name"]: nic for nic in with_host("h100-nvswitch", files)["nics"]}
    assert (nics["mlx5_0"]["pci_bus_id"], nics["mlx5_0"]["numa_node"]) == ("0000:18:00.0", 0)
    assert nics["mlx5_9"]["links"] is None


def test_mig_gpus_are_of_another_kind() -> None:
    outputs = read_recording(str(HOSTS / "h100-nvswitch"))
    text = outputs[sources.NVIDIA_XML].text.replace("<current_mig>Disabled", "<current_mig>Enabled", 1)
    outputs[sources.NVIDIA_XML] = ToolOutput(OK, text)
    facts = build_facts(outputs)
    assert facts["devices"][0]["mig_mode"] is True
    assert facts["link_groups"] == [[1, 2, 3, 4, 5, 6, 7]]


def test_compute_capability_of_drivers_that_do_not_print_it() -> None:
    facts = build_facts(host(NVIDIA_XML=gpu_xml(product_name="Tesla V100-PCIE-32GB")))
    assert facts["devices"][0]["compute_capability"] == "7.0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA GeForce RTX 4070 Ti", "8.9"),
        ("NVIDIA A30", "8.0"),
        ("Tesla P100-PCIE-16GB", "6.0"),
        ("NVIDIA GeForce GTX 1080 Ti", "6.1"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "8.9"),
        ("NVIDIA RTX A5000", "8.6"),
        ("Quadro RTX 8000", "7.5"),
        ("NVIDIA GeForce RTX 5060 Ti", "12.0"),
        ("NVIDIA H20", "9.0"),
        ("AMD Instinct MI300X", None),
        ("Graphics Device", None),
        (None, None),
    ],
)
def test_compute_capability_by_name(name: str | None, expected: str | None) -> None:
    assert profiles.compute_capability_of(name) == expected


def test_every_profile_is_found_by_its_own_words() -> None:
    for profile in profiles.PROFILES:
        assert profiles.profile_of(profile.name) == profile
        for alias in profile.aliases:
            assert profiles.profile_by_word(alias) == profile
            assert profiles.profile_by_word(alias.upper()) == profile
        assert profile.source
        assert profile.unified or (profile.memory_mib or 0) > 8192


@pytest.mark.parametrize("word", ["H100 SXM", "Nvidia H100", "nvidia-h100-sxm", "NVIDIA H100 80GB HBM3"])
def test_a_product_is_known_by_what_people_write(word: str) -> None:
    profile = profiles.profile_by_word(word)
    assert profile is not None
    assert profile.memory_mib == 81559


@pytest.mark.parametrize(
    ("gpu_profile", "interconnect", "first_row"),
    [
        ({"name": "H100 SXM", "count": 8}, "nvswitch", ["X"] + ["NV18"] * 7),
        ({"name": "H100 SXM", "count": 4}, "nvlink_full", ["X", "NV6", "NV6", "NV6"]),
        ({"name": "RTX 4090", "count": 2}, "pcie_host", ["X", "NODE"]),
        ({"name": "A6000", "count": 4, "interconnect": "nvlink_pairs"}, "nvlink_pairs", ["X", "NV4", "NODE", "NODE"]),
        ({"name": "MI300X", "count": 8}, "xgmi", ["X"] + ["XGMI"] * 7),
        ({"name": "L4"}, "none", ["X"]),
        (
            {"name": "NVIDIA Some new GPU", "count": 2, "memory_mib": 48000, "interconnect": "pcie_switch"},
            "pcie_switch",
            ["X", "PIX"],
        ),
    ],
)
def test_described_hosts(gpu_profile: dict[str, Any], interconnect: str, first_row: list[str]) -> None:
    facts = facts_from_profile(gpu_profile)
    assert facts["source"] == "profile"
    assert facts["interconnect"] == interconnect
    assert facts["link_matrix"][0] == first_row
    assert len(facts["devices"]) == gpu_profile.get("count", 1)
    assumed = gpu_profile.get("count", 1) > 1 and "interconnect" not in gpu_profile and interconnect != "xgmi"
    assert bool(facts["warnings"]) == assumed


@pytest.mark.parametrize(
    ("name", "count", "word", "interconnect"),
    [
        ("H100", 8, "nvlink", "nvswitch"),
        ("H100", 8, "NVSwitch", "nvswitch"),
        ("H100", 4, "NVLink", "nvlink_full"),
        ("H100 NVL", 4, "nvlink", "nvlink_pairs"),
        ("RTX 3090", 2, "nvlink-bridge", "nvlink_full"),
        ("RTX 3090", 4, "NVLink bridge", "nvlink_pairs"),
        ("RTX 4090", 2, "PCIe", "pcie_host"),
        ("RTX 4090", 2, "PCI Express", "pcie_host"),
        ("RTX 4090", 2, "pcie_cross_numa", "pcie_cross_numa"),
        ("MI300X", 8, "Infinity Fabric", "xgmi"),
    ],
)
def test_links_in_everyday_words(name: str, count: int, word: str, interconnect: str) -> None:
    facts = facts_from_profile({"name": name, "count": count, "interconnect": word})
    assert facts["interconnect"] == interconnect
    assert not facts["warnings"]


@pytest.mark.parametrize(
    ("name", "memory_mib", "device", "total_mib", "compute_capability"),
    [
        ("4090", None, "NVIDIA GeForce RTX 4090", 24564, "8.9"),
        (4090, None, "NVIDIA GeForce RTX 4090", 24564, "8.9"),
        ("NVIDIA A100-SXM4-80GB", None, "NVIDIA A100-SXM4-80GB", 81920, "8.0"),
        ("H100 80GB HBM3", 81000, "NVIDIA H100 80GB HBM3", 81000, "9.0"),
        ("H100 SXM5", None, "NVIDIA H100 80GB HBM3", 81559, "9.0"),
        ("A100 80GB", None, "NVIDIA A100-SXM4-80GB", 81920, "8.0"),
        ("A100 PCIe 80GB", None, "NVIDIA A100 80GB PCIe", 81920, "8.0"),
        ("A100", 40960, "NVIDIA A100-SXM4-40GB", 40960, "8.0"),
        ("A100", 24576, "A100", 24576, "8.0"),
        ("RTX 3080", 10240, "NVIDIA GeForce RTX 3080", 10240, "8.6"),
        ("RTX 3080 Ti", 12288, "RTX 3080 Ti", 12288, "8.6"),
        ("H20", 97871, "NVIDIA H20", 97871, "9.0"),
        ("NVIDIA H20", 143771, "NVIDIA H20-3e", 143771, "9.0"),
        ("H20-3e", None, "NVIDIA H20-3e", 143771, "9.0"),
        ("H20 96GB", None, "NVIDIA H20", 97871, "9.0"),
        ("GB300", None, "NVIDIA GB300", 284208, "10.3"),
        ("B300", None, "NVIDIA B300 SXM6 AC", 275040, "10.3"),
        ("RTX PRO 6000", None, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "12.0"),
        ("RTX PRO 6000 Max-Q", None, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "12.0"),
        ("4070 Ti", 12282, "4070 Ti", 12282, "8.9"),
        ("H200 141GB", None, "NVIDIA H200", 143771, "9.0"),
        ("H100 94 GB", None, "NVIDIA H100 NVL", 95830, "9.0"),
        ("RTX 4090 (24GB)", None, "NVIDIA GeForce RTX 4090", 24564, "8.9"),
        ("4090 48GB", 49140, "NVIDIA GeForce RTX 4090", 49140, "8.9"),
        ("RTX 3080 20GB", 20480, "NVIDIA GeForce RTX 3080", 20480, "8.6"),
        ("RTX 3060 12GB", 12288, "RTX 3060 12GB", 12288, "8.6"),
        ("A800 80GB", None, "NVIDIA A100-SXM4-80GB", 81920, "8.0"),
        ("H800 PCIe", None, "NVIDIA H100 PCIe", 81559, "9.0"),
        ("DGX A100 80GB", None, "NVIDIA A100-SXM4-80GB", 81920, "8.0"),
        ("DGX Spark", 124549, "NVIDIA GB10", 124549, "12.1"),
        ("RTX 4090D", 24564, "RTX 4090D", 24564, "8.9"),
        ("NVIDIA Some new GPU", 48000, "NVIDIA Some new GPU", 48000, None),
    ],
)
def test_products_as_people_write_them(
    name: Any, memory_mib: int | None, device: str, total_mib: int, compute_capability: str | None
) -> None:
    facts = facts_from_profile({"name": name, **({"memory_mib": memory_mib} if memory_mib else {})})
    found = facts["devices"][0]
    assert found["name"] == device
    assert found["memory_total_mib"] == found["memory_free_mib"] == total_mib
    assert found["compute_capability"] == compute_capability


@pytest.mark.parametrize(
    ("gpu_profile", "words"),
    [
        ({}, "gpu_profile.name is missing"),
        ({"name": "H1000"}, "Did you mean"),
        ({"name": "H100", "count": 0}, "1 to 16"),
        ({"name": "H100", "count": 2, "interconnect": "bus"}, "nvlink_full"),
        ({"name": "H100", "count": 2, "interconnect": 4}, "nvlink_full"),
        ({"name": "H100", "link": "nvswitch"}, "has no field 'link'"),
        ({"name": "H100", "memory_mib": -1}, "in MiB"),
        ({"name": "H100", "memory_mib": 80}, "in MiB"),
        ({"name": "H100", "memory_mib": "80GB"}, "in MiB"),
        ({"name": "H100", "memory": 80}, "has no field 'memory'"),
        ({"name": "A100"}, "may be one of several: write one of NVIDIA A100-SXM4-80GB, NVIDIA A100-SXM4-40GB"),
        ({"name": "A100", "memory_mib": 24576, "count": True}, "1 to 16"),
        ("8x H100", "write a mapping"),
        ([], "write a mapping"),
        ([{"name": "H100"}, "H100"], "write a mapping"),
        ([{"name": "H100", "count": 10}, {"name": "A100-80GB", "count": 8}], "18 GPUs"),
        ([{"name": "H100"}, {"name": "MI300X"}], "of NVIDIA and of AMD"),
        ({"name": "H20"}, "add gpu_profile.memory_mib: 143771 (NVIDIA H20-3e) or 97871 (NVIDIA H20)"),
        ({"name": "Intel Arc B580", "memory_mib": 12288}, "of Intel"),
        ({"name": "B60", "memory_mib": 24480}, "of Intel"),
        ({"name": "4090 48GB"}, "24564 (NVIDIA GeForce RTX 4090) MiB"),
        ({"name": "DGX A100"}, "may be one of several"),
        ({"name": "H20 NVLink"}, "add gpu_profile.memory_mib"),
        ({"name": "Gaudi 3", "memory_mib": 131072}, "of Intel"),
        ({"name": "Ascend 910B", "memory_mib": 65536}, "of Huawei"),
        ({"name": "Unobtainium", "memory_mib": 65536}, "of NVIDIA or AMD"),
        ({"name": "H100", "compute_capability": "8.0"}, "has 9.0"),
        ({"name": "RTX 6000", "memory_mib": 24576, "compute_capability": "new"}, "'9.0'"),
        ({"name": "Radeon Pro X", "memory_mib": 24576, "compute_capability": "9.0"}, "'gfx942'"),
        ({"name": "H100 MIG 2g.20gb"}, "a MIG slice"),
    ],
)
def test_described_hosts_that_cannot_be(gpu_profile: Any, words: str) -> None:
    with pytest.raises(InputError, match="gpu_profile") as caught:
        facts_from_profile(gpu_profile)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "accelerator", "capability", "gfx"),
    [
        ("AMD Radeon AI PRO R9700", "rocm", None, "gfx1201"),
        ("Radeon RX 7900 XTX", "rocm", None, "gfx1100"),
        ("AMD Instinct MI250X", "rocm", None, "gfx90a"),
        ("AMD Radeon of next year", "rocm", None, None),
        ("RTX 6000", "cuda", None, None),
        ("Quadro RTX 6000", "cuda", "7.5", None),
    ],
)
def test_cards_that_are_not_in_the_table(name: str, accelerator: str, capability: str | None, gfx: str | None) -> None:
    facts = facts_from_profile({"name": name, "memory_mib": 24576})
    assert facts["accelerator"] == accelerator
    assert (facts["devices"][0]["compute_capability"], facts["devices"][0]["gfx"]) == (capability, gfx)


@pytest.mark.parametrize(
    ("written", "capability", "gfx"),
    [("8.9", "8.9", None), (12.0, "12.0", None), (9, "9.0", None), ("gfx1201", None, "gfx1201")],
)
def test_a_written_compute_capability(written: Any, capability: str | None, gfx: str | None) -> None:
    facts = facts_from_profile({"name": "Next Card", "memory_mib": 24576, "compute_capability": written})
    assert (facts["devices"][0]["compute_capability"], facts["devices"][0]["gfx"]) == (capability, gfx)
    assert facts["accelerator"] == ("rocm" if gfx else "cuda")


def test_a_host_with_gpus_of_several_kinds() -> None:
    facts = facts_from_profile([{"name": "RTX 5090"}, {"name": "H100", "count": 2}])
    assert [device["name"] for device in facts["devices"]] == ["NVIDIA GeForce RTX 5090"] + 2 * [
        "NVIDIA H100 80GB HBM3"
    ]
    assert facts["mixed_gpus"] is True
    assert facts["link_matrix"][0] == ["X", "NODE", "NODE"]
    assert facts["link_matrix"][1][2].startswith("NV")
    assert "1 x NVIDIA GeForce RTX 5090 and 2 x NVIDIA H100" in facts["message"]


def test_a_described_mig_slice_is_known_for_one() -> None:
    facts = facts_from_profile({"name": "NVIDIA H100 80GB HBM3 MIG 2g.20gb", "memory_mib": 20096})
    assert facts["devices"][0]["mig_mode"] is True


@given(st.text(max_size=40), st.none() | st.integers(-5, 10**6), st.none() | st.text(max_size=8))
def test_whatever_is_written_is_described_or_refused_with_a_sentence(
    name: str, memory: int | None, capability: str | None
) -> None:
    try:
        facts = facts_from_profile({"name": name, "memory_mib": memory, "compute_capability": capability})
    except InputError as error:
        assert str(error).startswith("gpu_profile")
        return
    assert facts["accelerator"] in ("cuda", "rocm")
    assert facts["devices"][0]["memory_total_mib"] is None or facts["devices"][0]["memory_total_mib"] >= 2048


def test_facts_have_one_shape_whatever_the_host() -> None:
    shapes = [recorded(path.name) for path in sorted(HOSTS.iterdir())]
    shapes += [build_facts(host()), facts_from_profile({"name": "B200", "count": 8})]
    assert len({tuple(sorted(facts)) for facts in shapes}) == 1
    assert len({tuple(device) for facts in shapes for device in facts["devices"]}) == 1
    for facts in shapes:
        json.dumps(facts)


def reordered(outputs: Outputs, order: list[int]) -> Outputs:
    """The same host, whose tools list its GPUs in another order."""
    head, *gpus = outputs[sources.NVIDIA_XML].text.split("<gpu ")
    last = gpus[-1].index("</gpu>") + len("</gpu>")
    bodies = [*gpus[:-1], gpus[-1][:last]]
    xml = head + "".join(f"<gpu {bodies[number]}" for number in order) + gpus[-1][last:]
    texts = {sources.NVIDIA_XML: xml}
    for name, skipped in ((sources.NVIDIA_LIST, 0), (sources.NVIDIA_QUERY, 1)):
        lines = outputs[name].text.splitlines()
        texts[name] = "\n".join(lines[:skipped] + [lines[skipped + number] for number in order]) + "\n"
    for name in (sources.NVIDIA_TOPOLOGY, sources.NVIDIA_P2P):
        lines = outputs[name].text.replace("\x1b[4m", "").replace("\x1b[0m", "").splitlines()
        cells = [line.split("\t") for line in lines[: len(order) + 1]]
        rows = [cells[0], *(cells[number + 1] for number in order)]
        table = [[row[0], *(row[number + 1] for number in order), *row[len(order) + 1 :]] for row in rows]
        texts[name] = "\n".join(["\t".join(row) for row in table] + lines[len(order) + 1 :]) + "\n"
    return {**outputs, **{name: ToolOutput(OK, text) for name, text in texts.items()}}


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_in_which_gpus_are_listed_changes_nothing(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["mixed", "a100-pairs"]))
    outputs = read_recording(str(HOSTS / name))
    order = data.draw(st.permutations(range(4)))
    assert build_facts(reordered(outputs, order))["link_groups"] == build_facts(outputs)["link_groups"]
    assert build_facts(reordered(outputs, order)) == build_facts(outputs)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_damage_to_any_output_stops_the_facts(data: st.DataObject) -> None:
    outputs = read_recording(str(HOSTS / data.draw(st.sampled_from(["h100-nvswitch", "mixed", "lost-gpu"]))))
    name = data.draw(st.sampled_from(sorted(outputs)))
    text = outputs[name].text.encode()
    start = data.draw(st.integers(0, len(text)))
    damage = data.draw(st.binary(max_size=20))
    outputs[name] = ToolOutput(OK, (text[:start] + damage + text[start + 5 :]).decode("utf-8", errors="replace"))
    outputs[sources.HOST] = ToolOutput(OK, data.draw(st.text(max_size=60)))
    json.dumps(build_facts(outputs))


def test_a_real_h200_in_a_virtual_machine() -> None:
    """Recorded with playbooks/record.yml on 2026-11-23; the virtual machine's memory grows as it is used."""
    facts = recorded("h200-vm")
    assert (facts["state"], facts["accelerator"], facts["interconnect"]) == ("ready", "cuda", "none")
    assert (facts["driver_version"], facts["cuda_version"]) == ("580.159.04", "13.0")
    (device,) = facts["devices"]
    assert (device["name"], device["compute_capability"], device["numa_node"]) == ("NVIDIA H200", "9.0", 0)
    assert (device["memory_total_mib"], device["memory_used_mib"]) == (143771, 0)
    # the driver rounds each to a MiB
    assert abs(device["memory_free_mib"] + device["memory_reserved_mib"] - device["memory_total_mib"]) <= 1
    assert device["virtualization_mode"] == "Pass-Through"
    assert device["nvlink"] is None, "the tool ran and said nothing"
    assert facts["shm_total_mib"] == 131072
    assert facts["numa_nodes"][0]["memory_total_mib"] < facts["memory_total_mib"]
    assert [entry["check"] for entry in facts["readiness"] if entry["state"] == "warn"] == ["open_files"]
