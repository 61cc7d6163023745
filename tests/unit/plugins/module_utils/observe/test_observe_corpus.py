"""How well the readers agree with a careful reader of real outputs; needs ../shared beside the checkout.

Prints the score (run pytest with -rP to see it).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    amd,
    links,
    nvidia_text,
    nvidia_xml,
    p2p,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import build_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import (
    NVIDIA_TOPOLOGY,
    OK,
    ToolOutput,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.topology import parse_topology

CORPUS = Path(__file__).parents[6] / "shared" / "corpus"
WANTED_SHARE = 0.98
# Files in which the tools' text does not support what the index says; each with the reason.
EXPLAINED_AMD = {
    "amd/amdsmi-changelog-topology-json-l1189.txt": "the index leaves out what the file states (2 hops)",
    "amd/amdsmi-changelog-topology-json-l1243.txt": "documentation with '...' in it, which is no JSON",
    "amd/amdsmi-changelog-topology-json-l1275.txt": "the file has no hops, so nothing tells the class",
}

pytestmark = pytest.mark.skipif(
    not (CORPUS / "index.json").is_file(), reason="../shared/corpus is not beside this checkout"
)


def entries(kind: str) -> list[dict[str, Any]]:
    index = json.loads((CORPUS / "index.json").read_text(encoding="utf-8"))
    return [entry for entry in index["files"] if entry["kind"] == kind]


def text_of(entry: dict[str, Any]) -> str:
    return (CORPUS / entry["file"]).read_bytes().decode("utf-8", errors="replace")


def judge_topology(entry: dict[str, Any]) -> dict[str, bool]:
    expected = entry["expected"]
    table = parse_topology(text_of(entry))
    facts = build_facts({NVIDIA_TOPOLOGY: ToolOutput(OK, text_of(entry))}, "recorded")
    found = Counter(link for _, _, link in links.pairs(table.matrix) if link)
    cells = table.cpu_affinity, table.numa_affinity, table.gpu_numa_id
    wanted = (
        expected["cpu_affinity_by_gpu"],
        expected["numa_affinity_by_gpu"],
        expected["gpu_numa_id_by_gpu"],
    )
    groups = facts["link_groups"]
    return {
        "matrix": len(table.gpus) == entry["gpu_count"] and dict(found) == expected["link_counts"],
        "class": facts["interconnect"] in expected["interconnect_accept"],
        "numa": cells == wanted,
        "groups": groups == expected["groups"] or groups in expected["groups_alternative"],
        "nics": len(table.nics) == expected["nic_count"],
    }


def test_topology_files_agree_with_the_index() -> None:
    total, right = 0, Counter[str]()
    wrong: list[str] = []
    for entry in entries("topo"):
        verdict = judge_topology(entry)
        total += 1
        right.update(name for name, agrees in verdict.items() if agrees)
        wrong.extend(f"{entry['file']}: {name}" for name, agrees in verdict.items() if not agrees)
    score = ", ".join(f"{name} {right[name]}/{total}" for name in ("matrix", "class", "numa", "groups", "nics"))
    print(f"topology files: {score}")
    for name in ("matrix", "class", "numa", "groups"):
        assert right[name] >= WANTED_SHARE * total, wrong


def test_xml_files_agree_with_the_index() -> None:
    for entry in entries("xml"):
        found = nvidia_xml.parse_nvidia_xml(text_of(entry))
        expected = entry["expected"]
        assert [device["name"] for device in found["devices"]] == entry["gpu_names"], entry["file"]
        assert found["driver_version"] == entry["driver"], entry["file"]
        assert found["cuda_version"] == expected["cuda_version"], entry["file"]
        totals = [device["memory_total_mib"] for device in found["devices"]]
        assert totals == [int(text.split()[0]) if text else None for text in expected["memory_total"]], entry["file"]
        assert [len(device["mig_devices"]) for device in found["devices"]] == expected["mig_devices"]


def test_p2p_files_agree_with_the_index() -> None:
    for entry in entries("p2p"):
        table = p2p.parse_p2p(text_of(entry))
        states = {cell for row in table.matrix for cell in row} - {"X"}
        assert (len(table.gpus), states) == (entry["gpu_count"], set(entry["expected"]["statuses"]))


def test_nvlink_files_agree_with_the_index() -> None:
    for entry in entries("nvlink"):
        found = nvidia_text.parse_nvlink(text_of(entry))
        assert [len(gpu.speeds) for gpu in found] == entry["expected"]["links_per_gpu"], entry["file"]


def test_query_files_agree_with_the_index() -> None:
    for entry in entries("csv"):
        found = nvidia_text.parse_query(text_of(entry))
        assert len(found) == entry["gpu_count"], entry["file"]
        assert len(found[0]) == entry["expected"]["columns"], entry["file"]


def test_amd_files_agree_with_the_index() -> None:
    for entry in entries("amd"):
        if entry["file"] in EXPLAINED_AMD:
            continue
        expected = entry["expected"]
        found = amd.parse_amd({"rocm-smi-recorded.txt": text_of(entry)})
        indexes = [device["index"] for device in found["devices"]]
        assert len(indexes) == entry["gpu_count"], entry["file"]
        if expected["interconnect"] is None:
            continue
        assert links.classify(found["matrix"]) == expected["interconnect"], entry["file"]
        groups = [[indexes[place] for place in group] for group in links.link_groups(found["matrix"])]
        assert groups == expected["groups"], entry["file"]
        if "numa_by_gpu" in expected:
            assert [str(device["numa_node"]) for device in found["devices"]] == expected["numa_by_gpu"]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("-table.", "nvidia-smi.txt"),
        ("q-gpud-nvidia-smi.", "nvidia-smi.txt"),
        ("-q.", "nvidia-smi-q.txt"),
        ("q-gpud-nvidia-smi-query", "nvidia-smi-q.txt"),
        ("q-gpuexp", "nvidia-smi-q.txt"),
        ("nvidia_smi_full", "nvidia-smi-q.txt"),
        ("/L-", "nvidia-smi-L.txt"),
    ],
)
def test_other_files_name_their_gpus(wanted: str, name: str) -> None:
    found = [entry for entry in entries("misc") if wanted in entry["file"]]
    assert found
    for entry in found:
        facts = build_facts({name: ToolOutput(OK, text_of(entry))}, "recorded")
        assert facts["devices"], entry["file"]
        assert facts["state"] == "ready", entry["file"]


def test_host_files_are_read() -> None:
    texts = {Path(entry["file"]).name: text_of(entry) for entry in entries("lspci")}
    facts = build_facts(
        {
            "lspci.txt": ToolOutput(OK, texts["rtx6kpro-esc8000-lspci_full.txt"]),
            "lscpu.txt": ToolOutput(OK, texts["rtx6kpro-esc8000-lscpu.txt"]),
            "numactl-H.txt": ToolOutput(OK, texts["rtx6kpro-esc8000-numa.txt"]),
        },
        "recorded",
    )
    assert len(facts["pci_gpus"]) == 8
    assert facts["iommu"]["acs_redirects"] is False
    assert (facts["cpu"]["sockets"], facts["cpu"]["cores"], facts["cpu"]["threads"]) == (2, 128, 255)
    assert [node["memory_total_mib"] for node in facts["numa_nodes"]] == [773676, 774030]
