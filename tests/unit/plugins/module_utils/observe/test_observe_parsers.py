"""The readers of single outputs: XML, lists, queries, NVLink, P2P, AMD tools, lspci, lscpu."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    amd,
    cpu,
    nvidia_human,
    nvidia_text,
    nvidia_xml,
    p2p,
    pci,
)
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTS = Path(__file__).parents[3] / "fixtures" / "hosts"
H100 = HOSTS / "h100-nvswitch"
XML = (HOSTS / "rtx4090-pcie" / "nvidia-smi-q-x.xml").read_text()


def xml(gpu: str, top: str = "") -> str:
    return f"<?xml version='1.0' ?><nvidia_smi_log>{top}<gpu id='00000000:01:00.0'>{gpu}</gpu></nvidia_smi_log>"


def only(text: str) -> dict[str, Any]:
    devices = nvidia_xml.parse_nvidia_xml(text)["devices"]
    assert len(devices) == 1
    return dict(devices[0])


def test_xml_of_a_whole_host() -> None:
    found = nvidia_xml.parse_nvidia_xml(XML)
    assert (found["driver_version"], found["cuda_version"]) == ("550.127.05", "12.4")
    first = found["devices"][0]
    assert first["name"] == "NVIDIA GeForce RTX 4090"
    assert (first["memory_total_mib"], first["memory_used_mib"], first["memory_free_mib"]) == (
        24564,
        1210,
        23008,
    )
    assert first["processes"] == [{"pid": 4711, "type": "C", "name": "python3", "memory_used_mib": 1204}]
    assert first["ecc"]["mode"] is False
    assert first["persistence_mode"] is False
    assert found["warnings"] == []


def test_unified_memory_is_unknown_not_zero() -> None:
    device = only(xml("<product_name>NVIDIA GB10</product_name><fb_memory_usage><total>N/A</total></fb_memory_usage>"))
    assert device["memory_total_mib"] is None


@pytest.mark.parametrize(
    ("top", "driver", "cuda"),
    [
        ("<driver_version>535.54.03</driver_version><cuda_version>12.2</cuda_version>", "535.54.03", "12.2"),
        (
            "<driver_version>610.57.04 [Deprecated; Use KMD Version instead]</driver_version>"
            "<cuda_version>13.3 [Deprecated]</cuda_version>",
            "610.57.04",
            "13.3",
        ),
        (
            "<driver_version>Deprecated</driver_version><kmd_version>610.57.04</kmd_version>"
            "<cuda_umd_version>13.3</cuda_umd_version>",
            "610.57.04",
            "13.3",
        ),
        ("", None, None),
    ],
)
def test_versions_of_old_and_new_drivers(top: str, driver: str | None, cuda: str | None) -> None:
    found = nvidia_xml.parse_nvidia_xml(xml("", top))
    assert (found["driver_version"], found["cuda_version"]) == (driver, cuda)


def test_mig_instances() -> None:
    instance = (
        "<mig_device><index>0</index><gpu_instance_id>2</gpu_instance_id><compute_instance_id>0</compute_instance_id>"
        "<fb_memory_usage><total>40448 MiB</total><free>40423 MiB</free></fb_memory_usage></mig_device>"
    )
    device = only(xml(f"<mig_mode><current_mig>Enabled</current_mig></mig_mode><mig_devices>{instance}</mig_devices>"))
    assert device["mig_mode"] is True
    assert device["mig_devices"][0]["memory_total_mib"] == 40448
    assert device["mig_devices"][0]["memory_used_mib"] is None


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ("<dram_uncorrectable>2</dram_uncorrectable><sram_uncorrectable>1</sram_uncorrectable>", 3),
        ("<double_bit><total>4</total></double_bit>", 4),
        ("<dram_uncorrectable>N/A</dram_uncorrectable>", None),
        ("<dram_correctable>7</dram_correctable>", None),
    ],
)
def test_uncorrected_errors_of_both_schemas(errors: str, expected: int | None) -> None:
    device = only(xml(f"<ecc_errors><volatile>{errors}</volatile></ecc_errors>"))
    assert device["ecc"]["uncorrected_volatile"] == expected


def test_a_lost_gpu_is_seen_in_its_values() -> None:
    assert only(xml("<product_name>NVIDIA L40S</product_name><uuid>GPU is lost</uuid>"))["lost"] is True
    assert only(xml("<product_name>NVIDIA L40S</product_name>"))["lost"] is False


def test_notices_around_the_document_are_no_part_of_it() -> None:
    notice = "Unable to determine the device handle for GPU2: 0000:CA:00.0: Unknown Error\n"
    text = notice + XML + "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n"
    assert len(nvidia_xml.parse_nvidia_xml(text)["devices"]) == 2
    assert nvidia_xml.outside_document(text).startswith(notice)
    assert "product_name" not in nvidia_xml.outside_document(text)


def test_gpus_that_are_attached_and_not_described_are_named() -> None:
    found = nvidia_xml.parse_nvidia_xml(xml("", "<attached_gpus>4</attached_gpus>"))
    assert len(found["warnings"]) == 1
    assert "4 GPUs are attached and describes 1" in found["warnings"][0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello", 1),
        ("\n\n" + XML.split("</gpu>")[0], None),
        (xml("<a>").replace("\n", ""), 1),
        ("<nvidia_smi_log><!DOCTYPE x [<!ENTITY a 'b'>]></nvidia_smi_log>", 1),
    ],
)
def test_damaged_xml_is_refused_with_its_place(text: str, line: int | None) -> None:
    with pytest.raises(ParseError) as caught:
        nvidia_xml.parse_nvidia_xml(text)
    assert caught.value.line is not None
    assert line is None or caught.value.line == line


def test_entities_that_the_text_declares_are_never_expanded() -> None:
    bomb = "<!DOCTYPE nvidia_smi_log [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>" + xml("&b;").split("?>")[1]
    with pytest.raises(ParseError):
        nvidia_xml.parse_nvidia_xml(bomb)


def test_nvlink_counts_links_and_keeps_what_is_said_instead() -> None:
    text = (
        "GPU 0: NVIDIA RTX A6000 (UUID: GPU-1)\n\t Link 0: 14.062 GB/s\n\t Link 1: <inactive>\n"
        "GPU 1: NVIDIA RTX A6000 (UUID: GPU-2)\nNVML: Unable to retrieve NVLink information\n"
    )
    first, second = nvidia_text.parse_nvlink(text)
    assert (first.speeds, first.inactive, first.message) == ([14.062], 1, None)
    assert (second.speeds, second.message) == ([], "NVML: Unable to retrieve NVLink information")
    assert nvidia_text.parse_nvlink("") == []


def test_list_with_mig() -> None:
    text = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n  MIG 3g.40gb     Device  0: (UUID: MIG-2)\n"
    assert nvidia_text.parse_list(text) == [
        {
            "index": 0,
            "name": "NVIDIA H100 80GB HBM3",
            "uuid": "GPU-1",
            "mig_devices": [{"index": 0, "profile": "3g.40gb", "uuid": "MIG-2"}],
        }
    ]


def test_query_skips_complaints_and_units() -> None:
    text = (
        "Unable to determine the device handle for GPU2: 0000:CA:00.0: Unknown Error\n"
        "index, name, memory.total [MiB], compute_cap\n0, NVIDIA L40S, 46068 MiB, 8.9\n"
        "3, NVIDIA GB10, [N/A], 12.1\n"
    )
    assert nvidia_text.parse_query(text) == [
        {"index": "0", "name": "NVIDIA L40S", "memory.total": "46068 MiB", "compute_cap": "8.9"},
        {"index": "3", "name": "NVIDIA GB10", "memory.total": None, "compute_cap": "12.1"},
    ]


def test_p2p_takes_the_direction_that_does_not_work() -> None:
    table = p2p.parse_p2p(" \tGPU0\tGPU1\t\n GPU0\tX\tOK\t\n GPU1\tCNS\tX\t\n\nLegend:\n\n  OK   = Status Ok\n")
    assert table.matrix == [["X", "CNS"], ["CNS", "X"]]


def test_p2p_that_is_cut_leaves_the_rest_unknown() -> None:
    table = p2p.parse_p2p("\tGPU0\tGPU1\tGPU2\n GPU0\tX\tOK\tOK\n")
    assert table.matrix == [["X", "OK", "OK"], ["OK", "X", None], ["OK", None, "X"]]
    assert len(table.warnings) == 1


STATIC = json.dumps(
    {
        "gpu_data": [
            {
                "gpu": number,
                "asic": {"market_name": "AMD Instinct MI300X", "target_graphics_version": "gfx942"},
                "bus": {"bdf": f"0000:{number + 5:02x}:00.0"},
                "vram": {"size": {"value": 196592, "unit": "MB"}},
                "numa": {"node": number, "affinity": 0},
                "driver": {"name": "amdgpu", "version": "6.8.5"},
            }
            for number in range(2)
        ]
    }
)
METRIC = json.dumps([{"gpu": 0, "mem_usage": {"used_vram": {"value": 283, "unit": "MB"}}}])
TOPOLOGY = json.dumps(
    [
        {"gpu": 0, "links": [{"gpu": 1, "link_type": "XGMI", "num_hops": 1}]},
        {"gpu": 1, "links": [{"gpu": 0, "link_type": "XGMI", "num_hops": 1}]},
    ]
)


def test_amd_smi_files_are_put_together() -> None:
    found = amd.parse_amd(
        {"amd-smi-static.json": STATIC, "amd-smi-metric.json": METRIC, "amd-smi-topology.json": TOPOLOGY}
    )
    first, second = found["devices"]
    assert (first["name"], first["gfx"], first["numa_node"]) == ("AMD Instinct MI300X", "gfx942", 0)
    assert (first["memory_total_mib"], first["memory_used_mib"], first["memory_free_mib"]) == (
        196592,
        283,
        196309,
    )
    assert (second["memory_used_mib"], second["memory_free_mib"]) == (None, None)
    assert found["matrix"] == [["X", "XGMI"], ["XGMI", "X"]]
    assert (found["driver_version"], found["warnings"]) == ("6.8.5", [])


ROCM_TOPOLOGY = """
================================= Hops between two GPUs ==================================
       GPU0         GPU1         GPU2
GPU0   0            2            3
GPU1   2            0            3
GPU2   3            3            0

=============================== Link Type between two GPUs ===============================
       GPU0         GPU1         GPU2
GPU0   0            PCIE         PCIE
GPU1   PCIE         0            PCIE
GPU2   PCIE         PCIE         0

======================================= Numa Nodes =======================================
GPU[0]\t\t: (Topology) Numa Node: 0
GPU[1]\t\t: (Topology) Numa Node: 0
GPU[2]\t\t: (Topology) Numa Node: 1
"""


def test_rocm_smi_text_tells_links_by_hops() -> None:
    found = amd.parse_amd({"rocm-smi-showtopo.txt": ROCM_TOPOLOGY})
    assert found["matrix"] == [["X", "NODE", "SYS"], ["NODE", "X", "SYS"], ["SYS", "SYS", "X"]]
    assert [device["numa_node"] for device in found["devices"]] == [0, 0, 1]


def test_rocm_smi_json_counts_in_mib() -> None:
    card = {"Card Series": "AMD Instinct MI300X", "GFX Version": "gfx942", "PCI Bus": "0000:26:00.0"}
    card.update({"VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "1048576"})
    found = amd.parse_amd({"rocm-smi-product.json": json.dumps({"card0": card, "system": {"Driver version": "6.7.0"}})})
    device = found["devices"][0]
    assert (device["memory_total_mib"], device["memory_free_mib"]) == (196592, 196591)
    assert found["driver_version"] == "6.7.0"


def test_damaged_amd_json_is_a_warning_with_its_place() -> None:
    found = amd.parse_amd({"amd-smi-static.json": STATIC[:-20]})
    assert found["devices"] == []
    assert "line 1, column" in found["warnings"][0]


LSPCI = """0000:1b:00.0 3D controller [0302]: NVIDIA Corporation GH100 [H100 SXM5 80GB] [10de:2330] (rev a1)
\tNUMA node: 0
\tKernel driver in use: nvidia

07:00.0 Bridge: NVIDIA Corporation GH100 [H100 NVSwitch] (rev a1)

0000:00:01.0 PCI bridge [0604]: Intel Corporation Device [8086:352a] (rev 30)
\tCapabilities: [220 v1] Access Control Services
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
0000:00:02.0 PCI bridge [0604]: Intel Corporation Device [8086:352a] (rev 30)
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir- CmpltRedir- UpstreamFwd+ EgressCtrl- DirectTrans-
"""


def test_lspci() -> None:
    gpu, switch, redirecting, plain = pci.parse_lspci(LSPCI)
    assert gpu.is_gpu
    assert (gpu.address, gpu.driver, gpu.numa_node, gpu.vendor) == ("0000:1b:00.0", "nvidia", 0, "10de")
    assert switch.is_nvswitch
    assert switch.address == "0000:07:00.0"
    assert (redirecting.acs_redirect, plain.acs_redirect, gpu.acs_redirect) == (True, False, None)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        ("0000:1b:00.0", "0000:1b:00.0"),
        ("1b:00.0", "0000:1b:00.0"),
        ("00010001:1B:00.0", None),
        ("GPU is lost", None),
        (None, None),
    ],
)
def test_addresses(written: str | None, expected: str | None) -> None:
    assert pci.normal_address(written) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3,8", [0, 1, 2, 3, 8]),
        ("0,64", [0, 64]),
        ("", []),
        ("7-3", None),
        ("0-99999999", None),
        ("N/A", None),
    ],
)
def test_cpu_ranges(text: str, expected: list[int] | None) -> None:
    assert cpu.expand_ranges(text) == expected


def test_numa_nodes_by_the_best_witness() -> None:
    lscpu = cpu.parse_lscpu((H100 / "lscpu.txt").read_text())
    assert [node["id"] for node in cpu.numa_nodes(lscpu, {})] == [0, 1]
    numactl = "node 0 cpus: 0 1\nnode 0 size: 773676 MB\nnode 1 cpus:\nnode 1 size: 97000 MB\n"
    assert cpu.numa_nodes(lscpu, {}, numactl) == [
        {"id": 0, "cpus": [0, 1], "memory_total_mib": 773676},
        {"id": 1, "cpus": [], "memory_total_mib": 97000},
    ]
    files = {
        "/sys/devices/system/node/node0/cpulist": "0-1\n",
        "/sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:  2097152 kB\n",
    }
    assert cpu.numa_nodes(lscpu, files, numactl) == [{"id": 0, "cpus": [0, 1], "memory_total_mib": 2048}]


QUERY = """==============NVSMI LOG==============

Driver Version                            : 535.161.08
CUDA Version                              : 12.2

Attached GPUs                             : 1
GPU 00000000:19:00.0
    Product Name                          : NVIDIA H100 80GB HBM3
    Persistence Mode                      : Enabled
    MIG Mode
        Current                           : Disabled
    GPU UUID                              : GPU-1
    PCI
        Bus Id                            : 00000000:19:00.0
    FB Memory Usage
        Total                             : 81559 MiB
        Free                              : 81007 MiB
    ECC Errors
        Volatile
            DRAM Uncorrectable            : 3
    Remapped Rows
        Remapping Failure Occurred        : Yes
    Fabric
        State                             : Completed
    Processes
        Process ID                        : 42
            Type                          : C
            Name                          : python3
            Used GPU Memory               : 100 MiB
"""


def test_query_text_says_what_the_xml_says() -> None:
    found = nvidia_human.parse_query_text(QUERY)
    device = found["devices"][0]
    assert (found["driver_version"], found["cuda_version"], found["warnings"]) == ("535.161.08", "12.2", [])
    assert (device["name"], device["memory_total_mib"], device["mig_mode"]) == (
        "NVIDIA H100 80GB HBM3",
        81559,
        False,
    )
    assert (device["ecc"]["uncorrected_volatile"], device["ecc"]["row_remap_failure"]) == (3, True)
    assert device["fabric"]["state"] == "Completed"
    assert device["processes"] == [{"pid": 42, "type": "C", "name": "python3", "memory_used_mib": 100}]


TABLE = """| NVIDIA-SMI 550.127.05             Driver Version: 550.127.05     CUDA Version: 12.4     |
|   0  NVIDIA RTX 6000 Ada Gene...    On  |   00000000:01:00.0 Off |                  Off |
| 30%   30C    P8             23W /  300W |       2MiB /  49140MiB |      0%      Default |
|   1  NVIDIA L4                     Off  |   00000000:25:00.0 Off |                    0 |
| 30%   30C    P8             18W /  300W |       5MiB /  23034MiB |      0%      Default |
"""


def test_table_does_not_guess_names_that_it_cuts() -> None:
    found = nvidia_human.parse_table(TABLE)
    assert [device["name"] for device in found["devices"]] == [None, "NVIDIA L4"]
    assert [device["memory_total_mib"] for device in found["devices"]] == [49140, 23034]
    assert [device["persistence_mode"] for device in found["devices"]] == [True, False]


def test_version_of_drivers_that_renamed_it() -> None:
    text = (
        'DRIVER version      : Deprecated, see "KMD version" instead\n'
        "KMD version         : 610.57.04\nCUDA UMD version    : 13.3\n"
    )
    assert nvidia_human.parse_version(text) == {"driver_version": "610.57.04", "cuda_version": "13.3"}


Reader = Callable[[str], object]
READERS: dict[str, tuple[Reader, str]] = {
    "xml": (nvidia_xml.parse_nvidia_xml, XML),
    "nvlink": (nvidia_text.parse_nvlink, (H100 / "nvidia-smi-nvlink-s.txt").read_text()[:1500]),
    "list": (nvidia_text.parse_list, (H100 / "nvidia-smi-L.txt").read_text()),
    "query": (nvidia_text.parse_query, (H100 / "nvidia-smi-query-gpu.csv").read_text()),
    "p2p": (p2p.parse_p2p, (H100 / "nvidia-smi-topo-p2p-r.txt").read_text()),
    "query text": (nvidia_human.parse_query_text, QUERY),
    "table": (nvidia_human.parse_table, TABLE),
    "version": (nvidia_human.parse_version, "KMD version : 610.57.04\n"),
    "amd-smi": (lambda text: amd.parse_amd({"amd-smi-x.json": text}), STATIC),
    "amd-smi links": (lambda text: amd.parse_amd({"amd-smi-x.json": text}), TOPOLOGY),
    "rocm-smi": (lambda text: amd.parse_amd({"rocm-smi-x.txt": text}), ROCM_TOPOLOGY),
    "lspci": (pci.parse_lspci, LSPCI),
    "lscpu": (lambda text: cpu.cpu_facts(cpu.parse_lscpu(text), {}), (H100 / "lscpu.txt").read_text()),
}


def read_or_refuse(read: Reader, text: str) -> None:
    try:
        read(text)
    except ParseError as error:
        assert error.line is not None
        assert error.column is not None


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_cut_mangled_or_foreign_text_raises_nothing_else(name: str, data: st.DataObject) -> None:
    read, text = READERS[name]
    mangled = bytearray(text.encode())
    for _ in range(data.draw(st.integers(0, 3))):
        mangled[data.draw(st.integers(0, len(mangled) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mangled)))
    read_or_refuse(read, bytes(mangled[:cut]).decode("utf-8", errors="replace"))
    read_or_refuse(read, data.draw(st.text(max_size=200)))
