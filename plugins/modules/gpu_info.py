#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Say truthfully which GPUs a host has
version_added: 0.1.0
description:
  - Reads devices, memory, links, NUMA nodes and readiness of a host from what its tools and kernel say.
  - Asks C(nvidia-smi), C(amd-smi), C(rocm-smi), C(lspci), C(lscpu), C(modinfo) and C(systemctl), those that
    the host has, and reads C(/proc) and C(/sys). All tools are started at once.
  - What no tool says is V(null), never guessed. What could be read in part only is named in
    RV(gpu_facts.warnings).
  - A host without GPUs, or with broken ones, gives facts too. RV(gpu_facts.state) and RV(gpu_facts.message)
    then say what is wrong and what to do.
author: The gpufleet.vllm maintainers (@gpufleet)
options:
  timeout:
    description:
      - Seconds that each tool may take. A tool that takes longer is stopped and named in
        RV(gpu_facts.warnings).
      - Without persistence mode the first call of C(nvidia-smi) on a host with many GPUs can take 20 seconds.
    type: float
    default: 30
  required:
    description:
      - Fail where no GPU is ready for use, with the message of the state.
    type: bool
    default: false
  recorded:
    description:
      - A folder on the target host with recorded outputs, to be read instead of running the tools. Use a
        task with C(delegate_to=localhost) for a folder on the control node.
      - Known names are C(nvidia-smi-q-x.xml), C(nvidia-smi-L.txt), C(nvidia-smi-query-gpu.csv),
        C(nvidia-smi-topo-m.txt), C(nvidia-smi-topo-p2p-r.txt), C(nvidia-smi-nvlink-s.txt), C(amd-smi-*.json),
        C(rocm-smi-*.json), C(rocm-smi-*.txt), C(nvidia-smi-q.txt), C(nvidia-smi.txt) (the plain table),
        C(nvidia-smi-version.txt), C(nvidia-smi-query-compute-apps.csv), C(lspci.txt), C(lscpu.txt),
        C(numactl-H.txt), C(modinfo-nvidia.txt), C(systemctl-show.txt) and C(host.json). A folder that has
        only some of them gives the facts that these support.
      - The playbook C(gpufleet.vllm.record) writes such a folder.
    type: path
  gpu_profile:
    description:
      - Hardware that is described instead of observed, as a mapping. No tool is run.
      - A list of such mappings is a host with GPUs of several kinds. They are numbered in this order, and linked to one
        another over PCIe.
      - C(name) (needed) is a product, as a person would write it, for example V(H100 SXM) or V(RTX 4090).
      - C(count) is how many of them the host has, 1 when it is left out.
      - C(memory_mib) is the memory of one GPU in MiB as the driver reports it. Needed for products that are not in
        the table.
      - C(compute_capability) is that of one GPU, such as V(9.0), or for AMD its LLVM target, such as V(gfx942). Needed
        to judge a product that is not in the table.
      - C(interconnect) is how GPUs of this kind are linked. The default is what the product is sold with, and a warning
        says which. One of V(nvswitch), V(nvlink_full) (each pair, without a switch), V(nvlink_pairs), V(pcie_switch),
        V(pcie_host), V(pcie_cross_numa), V(xgmi), or in everyday words V(nvlink), V(nvlink_bridge), V(pcie),
        V(infinity_fabric). Upper and lower case are the same.
    type: raw
attributes:
  check_mode:
    description: Can run in check mode and return what it would without it.
    support: full
  diff_mode:
    description: Shows what would change.
    support: none
    details: The module changes nothing.
  platform:
    description: Which systems it runs on.
    support: full
    platforms: linux
notes:
  - Run as root for the ACS state of PCI bridges; lspci tells it to nobody else.
  - CUDA numbers GPUs like C(nvidia-smi) and these facts only where C(CUDA_DEVICE_ORDER=PCI_BUS_ID) is set.
seealso:
  - module: gpufleet.vllm.gpu_record
"""

EXAMPLES = r"""
- name: Read the GPUs
  gpufleet.vllm.gpu_info:
  register: gpus

- name: Show what is there
  ansible.builtin.debug:
    msg: "{{ gpus.gpu_facts.message }}"

- name: Go on with a host only where its GPUs can be used
  gpufleet.vllm.gpu_info:
    required: true

- name: Read a support case
  gpufleet.vllm.gpu_info:
    recorded: "{{ playbook_dir }}/cases/node17"
  delegate_to: localhost
  register: case

- name: Ask what eight H200 would be
  gpufleet.vllm.gpu_info:
    gpu_profile:
      name: H200
      count: 8
  delegate_to: localhost
  register: planned
"""

RETURN = r"""
gpu_facts:
  description: The facts of this host.
  returned: always
  type: dict
  contains:
    schema_version:
      description: Version of this structure. It rises when a field changes its meaning.
      type: int
      sample: 1
    source:
      description: How the facts were had. One of C(live), C(recorded), C(profile).
      type: str
      sample: live
    state:
      description:
        - C(ready) where the accelerator can be used. A host without any GPU is ready with its CPU.
        - Otherwise C(no_driver), C(no_tool), C(driver_failed), C(driver_mismatch), C(no_devices),
          C(no_permission), C(gpu_lost), C(tool_timeout), C(tool_failed), C(unreadable), or C(unknown) for a
          recording that says nothing of it.
      type: str
      sample: ready
    message:
      description: The state in a sentence, with what to do.
      type: str
      sample: 8 NVIDIA GPUs ready.
    accelerator:
      description: C(cuda), C(rocm) or C(cpu).
      type: str
      sample: cuda
    driver_version:
      description: Version of the GPU driver.
      type: str
      sample: 580.105.08
    cuda_version:
      description: The highest version of CUDA that the driver can run.
      type: str
      sample: "13.0"
    devices:
      description: The GPUs, by index. Every key is always there; V(null) is what no tool said.
      type: list
      elements: dict
      contains:
        index:
          description: Number of the GPU in C(nvidia-smi) or C(amd-smi).
          type: int
          sample: 0
        uuid:
          description: The GPU's identity, good for C(CUDA_VISIBLE_DEVICES).
          type: str
          sample: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f
        name:
          description: The product's name as the driver prints it.
          type: str
          sample: NVIDIA H100 80GB HBM3
        brand:
          description: The product's brand.
          type: str
          sample: NVIDIA
        architecture:
          description: The GPU's architecture.
          type: str
          sample: Hopper
        pci_bus_id:
          description: PCI address as the driver prints it.
          type: str
          sample: "00000000:1B:00.0"
        minor_number:
          description: Number of the device file C(/dev/nvidia*).
          type: int
          sample: 0
        numa_node:
          description: NUMA node that the GPU is attached to.
          type: int
          sample: 0
        memory_total_mib:
          description: Memory of the GPU in MiB. V(null) where the GPU shares the host's memory (GB10).
          type: int
          sample: 81559
        memory_reserved_mib:
          description: What driver and firmware keep, in MiB.
          type: int
          sample: 551
        memory_used_mib:
          description: Memory in use, in MiB.
          type: int
          sample: 4
        memory_free_mib:
          description: Memory that is free, in MiB.
          type: int
          sample: 81004
        unified_memory:
          description: Whether the GPU shares the host's memory. V(null) for products that are not in the
            table.
          type: bool
          sample: false
        compute_capability:
          description: CUDA compute capability, from the driver or, with drivers before 510, from NVIDIA's
            list.
          type: str
          sample: "9.0"
        gfx:
          description: The target of AMD GPUs.
          type: str
          sample: gfx942
        persistence_mode:
          description: Whether the driver stays loaded while nobody uses the GPU.
          type: bool
          sample: true
        compute_mode:
          description: Who may use the GPU.
          type: str
          sample: Default
        mig_mode:
          description: Whether the GPU is cut into MIG instances. V(null) where it cannot be.
          type: bool
          sample: false
        mig_mode_pending:
          description: The MIG mode after the next reset.
          type: bool
          sample: false
        mig_devices:
          description: MIG instances, each with C(index), C(uuid), C(profile), C(gpu_instance_id),
            C(compute_instance_id), C(multiprocessors) and the four memory numbers in MiB, as far as known.
          type: list
          elements: dict
          sample: [{"index": 0, "profile": "3g.40gb", "memory_total_mib": 40448}]
        ecc:
          description: C(mode), C(uncorrected_volatile) and C(uncorrected_aggregate) (numbers of errors),
            C(row_remap_pending), C(row_remap_failure), C(rows_remapped_uncorrectable),
            C(retired_pages_pending), C(retired_pages_double_bit).
          type: dict
          sample: {"mode": true, "uncorrected_volatile": 0, "row_remap_failure": false}
        fabric:
          description: NVLink fabric as the driver sees it, with C(state), C(status), C(clique_id),
            C(cluster_uuid), C(health), C(problems).
          type: dict
          sample: {"state": "Completed", "status": "Success"}
        pcie:
          description: PCIe link, with C(generation_max), C(generation_current), C(width_max) and
            C(width_current) in lanes. The generation falls on an idle GPU. C(generation_device) and C(generation_host)
            are what the card and the slot can do.
          type: dict
          sample: {"generation_max": 5, "generation_current": 5, "width_max": 16, "width_current": 16}
        nvlink:
          description: NVLinks, with C(active) and C(inactive) (numbers of links), C(gb_per_s) of one link in
            one direction, and C(message), what the tool said instead. V(null) where the driver does not tell.
          type: dict
          sample: {"active": 18, "inactive": 0, "gb_per_s": 26.562, "message": null}
        processes:
          description: Programs that hold memory of the GPU, with C(pid), C(type)
            (C for compute, G for graphics), C(name), C(memory_used_mib).
          type: list
          elements: dict
          sample: [{"pid": 4711, "type": "C", "name": "python3", "memory_used_mib": 1024}]
        addressing_mode:
          description: C(HMM) or C(ATS) where the GPU can reach the host's memory.
          type: str
          sample: HMM
        virtualization_mode:
          description: How the GPU was given to a virtual machine.
          type: str
          sample: Pass-Through
        utilization_percent:
          description: Share of the last second in which the GPU computed.
          type: int
          sample: 0
        recovery_action:
          description: What the driver asks for, for example C(Reset). V(null) where it asks for nothing.
          type: str
          sample: null
        slowdowns:
          description: >-
            Why the GPU runs slower than it could, of what is heat or power (V(hw_slowdown), V(hw_thermal_slowdown),
            V(hw_power_brake_slowdown), V(sw_thermal_slowdown)).
          type: list
          elements: str
          sample: []
        vgpu_license:
          description: State of the licence of a vGPU, for example C(Unlicensed). V(null) where it is none.
          type: str
          sample: null
        lost:
          description: Whether the driver prints errors where the GPU's values belong.
          type: bool
          sample: false
    link_matrix:
      description:
        - The link of every pair of GPUs, rows and columns in the order of RV(gpu_facts.devices). V(X) on the
          diagonal.
        - C(NV12) (a bond of 12 NVLinks), C(PIX) (one PCIe switch), C(PXB) (several), C(PHB)
          (the CPU's host bridge), C(NODE) (several host bridges of one NUMA node), C(SYS)
          (between NUMA nodes; old drivers print C(SOC)), C(XGMI), C(PCIE)
          (a path whose length an AMD tool did not tell). V(null) where a link is not known.
        - V(null) altogether where no tool told the links of several GPUs.
      type: list
      elements: list
      sample: [["X", "NV18"], ["NV18", "X"]]
    interconnect:
      description:
        - The best link between any two GPUs, as a class of the host.
        - C(nvswitch), C(nvlink_full) (every pair, without a switch), C(nvlink_pairs), C(nvlink_partial)
          (any other mix of NVLink), C(xgmi), C(pcie_switch), C(pcie_host), C(pcie_cross_numa), C(none)
          (fewer than two GPUs).
      type: str
      sample: nvswitch
    link_groups:
      description: Groups of GPU indexes, as few as possible, whose members all share the best class of link
        and are of one kind.
      type: list
      elements: list
      sample: [[0, 1, 2, 3, 4, 5, 6, 7]]
    ungrouped:
      description: Indexes of GPUs that are in no such group.
      type: list
      elements: int
      sample: []
    device_groups:
      description: For every group size, disjoint groups of GPUs of one kind, the best first. Ranked by the
        worst link inside, then by the number of NUMA nodes, then by index.
      type: list
      elements: dict
      contains:
        size:
          description: GPUs in each group.
          type: int
          sample: 2
        groups:
          description: Each with C(devices) (indexes), C(worst_link) and C(numa_nodes).
          type: list
          elements: dict
          sample: [{"devices": [0, 1], "worst_link": "NV18", "numa_nodes": [0]}]
    p2p:
      description: Whether C(all), C(partial) or C(none) of the pairs of GPUs can read one another's memory.
      type: str
      sample: all
    p2p_matrix:
      description: The state of every pair, C(OK) or why not (C(CNS), C(GNS), C(TNS), C(NS), C(DR), C(U)).
      type: list
      elements: list
      sample: [["X", "OK"], ["OK", "X"]]
    nvswitch:
      description: C(count) of NVSwitches that the host shows (0 in most virtual machines) and
        C(fabric_ready), whether all GPUs have joined the fabric (V(null) where the driver does not say).
      type: dict
      sample: {"count": 4, "fabric_ready": true}
    iommu:
      description: C(translates), whether an IOMMU translates the GPUs' addresses, and C(acs_redirects),
        whether a PCI bridge sends peer-to-peer traffic through the CPU. V(null) where not known.
      type: dict
      sample: {"translates": false, "acs_redirects": false}
    nics:
      description: Network adapters that the GPU topology or C(/sys/class/infiniband) name.
      type: list
      elements: dict
      contains:
        label:
          description: The adapter's label in the topology.
          type: str
          sample: NIC0
        name:
          description: Name of the RDMA device.
          type: str
          sample: mlx5_0
        links:
          description: Its link to every GPU, in the order of RV(gpu_facts.devices).
          type: list
          elements: str
          sample: [PIX, NODE]
        pci_bus_id:
          description: PCI address.
          type: str
          sample: "0000:18:00.0"
        numa_node:
          description: NUMA node.
          type: int
          sample: 0
    mixed_gpus:
      description: Whether models or memory sizes differ. V(null) where neither is known.
      type: bool
      sample: false
    pci_gpus:
      description: GPUs that the PCI bus shows, with or without a driver, each with C(pci_bus_id), C(vendor),
        C(name), C(device_id) (its PCI device ID, four digits), C(driver), C(numa_node).
      type: list
      elements: dict
      sample: [{"pci_bus_id": "0000:1b:00.0", "vendor": "nvidia", "device_id": "2330", "driver": "nvidia"}]
    numa_nodes:
      description: The host's NUMA nodes, by id.
      type: list
      elements: dict
      contains:
        id:
          description: Number of the node.
          type: int
          sample: 0
        cpus:
          description: Its CPUs; empty for nodes that have memory only.
          type: list
          elements: int
          sample: [0, 1, 2, 3]
        memory_total_mib:
          description: Its memory in MiB.
          type: int
          sample: 773676
    cpu:
      description: C(sockets), C(cores) of all sockets, C(threads) on line, C(model), C(architecture),
        C(hypervisor).
      type: dict
      sample: {"sockets": 2, "cores": 128, "threads": 256, "model": "AMD EPYC 9575F 64-Core Processor"}
    memory_total_mib:
      description: The host's memory in MiB.
      type: int
      sample: 1547706
    shm_total_mib:
      description: Size of C(/dev/shm) in MiB.
      type: int
      sample: 773853
    readiness:
      description: What was checked. Checks that do not apply are left out.
      type: list
      elements: dict
      contains:
        check:
          description: C(driver), C(fabric_manager), C(memory_errors), C(gpu_recovery), C(persistence_mode),
            C(compute_mode), C(gpu_memory_in_use), C(pcie_width), C(p2p), C(iommu), C(acs), C(nouveau),
            C(secure_boot), C(dev_shm), C(memlock) or C(open_files).
          type: str
          sample: fabric_manager
        state:
          description: C(ok), C(warn), C(fail) or C(unknown).
          type: str
          sample: ok
        message:
          description: What was found.
          type: str
          sample: All GPUs have joined the NVLink fabric.
        remedy:
          description: What to do. V(null) where nothing is to be done.
          type: str
          sample: null
    warnings:
      description: What could not be read, or was read in one of several ways.
      type: list
      elements: str
      sample: []
    tools:
      description: What became of each tool, by the name of its recording, with C(status) (C(ok), C(failed),
        C(timeout)), C(returncode), C(seconds).
      type: dict
      sample: {"nvidia-smi-q-x.xml": {"status": "ok", "returncode": 0, "seconds": 0.84}}
"""

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    facts,
    hostfiles,
    recorded,
    runner,
    sources,
)


def read_facts(params: dict[str, Any]) -> dict[str, Any]:
    """The facts that the options ask for. Raises InputError."""
    if params["gpu_profile"] is not None:
        return facts.facts_from_profile(params["gpu_profile"])
    if params["recorded"] is not None:
        return facts.build_facts(recorded.read_recording(params["recorded"]), "recorded")
    outputs = runner.run_all(sources.COMMANDS, params["timeout"], os.environ)
    outputs[sources.HOST] = sources.ToolOutput(sources.OK, json.dumps(hostfiles.read_host()))
    return facts.build_facts(outputs)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "float", "default": 30},
            "required": {"type": "bool", "default": False},
            "recorded": {"type": "path"},
            "gpu_profile": {"type": "raw"},
        },
        mutually_exclusive=[("recorded", "gpu_profile")],
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg=f"timeout is {module.params['timeout']:g}: write seconds, more than 0.")
    try:
        found = read_facts(module.params)
    except InputError as error:
        module.fail_json(msg=str(error))
    if module.params["required"] and (found["accelerator"] == "cpu" or found["state"] != "ready"):
        module.fail_json(msg=f"A GPU is required here. {found['message']}", gpu_facts=found)
    module.exit_json(changed=False, gpu_facts=found)


if __name__ == "__main__":
    main()
