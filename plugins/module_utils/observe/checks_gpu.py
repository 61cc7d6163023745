# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks of the GPUs themselves: fabric, memory errors, modes, PCIe width, peer-to-peer access. Pure."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import p2p
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import (
    FAIL,
    OK,
    UNKNOWN,
    WARN,
    Finding,
    Host,
    finding,
    gpus_named,
)

# Their NVSwitches are InfiniBand devices, which NVIDIA's subnet manager (nvlsm) sets up: Fabric Manager guide, NVLink
# 5.
NVLINK5 = re.compile(r"\bB[23]00\b")
# Of vgpu_software_licensed_product; "Licensed (Expiry: ...)" is well.
UNLICENSED = re.compile(r"^(?:Unlicensed|Expired|Not Licensed)", re.IGNORECASE)
SLOWED_BY = {
    "hw_slowdown": "the hardware halves its clocks",
    "hw_thermal_slowdown": "heat (hardware)",
    "hw_power_brake_slowdown": "the power brake of the host",
    "sw_thermal_slowdown": "heat (driver)",
}


def nvswitch_count(host: Host) -> int:
    """NVSwitches that PCI or the driver shows; virtual machines with passed-through GPUs may see none."""
    on_bus = sum(device.is_nvswitch for device in host.pci)
    in_proc = sum(path.startswith("/proc/driver/nvidia-nvswitch/devices/") for path in host.files)
    return max(on_bus, in_proc)


def fabric_ready(host: Host) -> bool | None:
    """Whether every GPU has joined the NVLink fabric; None where the driver says nothing of a fabric."""
    states = [(device.get("fabric") or {}).get("state") for device in host.devices]
    if not any(states) or all(state and "support" in state.lower() for state in states):
        return None
    statuses = [(device.get("fabric") or {}).get("status") for device in host.devices]
    return all(state == "Completed" for state in states) and all(status in (None, "Success") for status in statuses)


def fabric(host: Host) -> Finding | None:
    """NVSwitch needs a fabric manager; without it CUDA fails with error 802 while nvidia-smi looks fine."""
    switches, ready = nvswitch_count(host), fabric_ready(host)
    service = host.services.get("nvidia-fabricmanager.service", {}).get("ActiveState")
    if not switches and ready is None and host.interconnect != "nvswitch":
        return None
    remedy = (
        "Install nvidia-fabricmanager of exactly the driver's version, then: "
        "systemctl enable --now nvidia-fabricmanager. Its log is /var/log/fabricmanager.log."
    )
    if any(NVLINK5.search(device.get("name") or "") for device in host.devices):
        remedy += (
            " HGX B200 and B300 need nvlsm and infiniband-diags too, and the modules ib_umad and mlx5_ib (on Ubuntu in "
            "linux-modules-extra): see journalctl -u nvidia-fabricmanager."
        )
    if ready:
        return finding("fabric_manager", OK, "All GPUs have joined the NVLink fabric.")
    if ready is False:
        late = [
            f"GPU {device['index']}: {device['fabric']['state']}"
            for device in host.devices
            if (device.get("fabric") or {}).get("state") != "Completed"
            or device["fabric"].get("status") not in (None, "Success")
        ]
        return finding(
            "fabric_manager",
            FAIL,
            f"The NVLink fabric is not ready ({'; '.join(late)}): CUDA will fail.",
            remedy,
        )
    if service == "active":
        return finding("fabric_manager", OK, "The fabric manager is running.")
    if service is not None and switches:
        return finding(
            "fabric_manager",
            FAIL,
            f"This host has NVSwitch and the service nvidia-fabricmanager is {service}: CUDA will fail "
            "with error 802 (system not yet initialized).",
            remedy,
        )
    return finding(
        "fabric_manager", UNKNOWN, "This host has NVSwitch; nothing says whether its fabric is ready.", remedy
    )


def fabric_health(host: Host) -> Finding | None:
    """A GPU may have joined the fabric and yet reach it over fewer links, or not everywhere."""
    told = [(device["index"], device.get("fabric") or {}) for device in host.devices]
    ill = [
        (index, one, str(one.get("problems") or one.get("health")))
        for index, one in told
        if one.get("problems") or (one.get("health") or "Healthy") != "Healthy"
    ]
    if not ill:
        return None
    worst = any(one.get("health") == "Unhealthy" or "bandwidth" not in words for _index, one, words in ill)
    return finding(
        "fabric_health",
        FAIL if worst else WARN,
        f"The NVLink fabric is not healthy ({'; '.join(f'GPU {index}: {words}' for index, _one, words in ill)}).",
        "See nvidia-smi nvlink -e and -s, Xid 74 and 144 to 150 and SXid in dmesg. Drain the host, then reset the GPUs "
        "together with the fabric manager, or reboot; if it comes again, have the baseboard looked at.",
    )


def slowdown(host: Host) -> Finding | None:
    """Heat and the power brake make one GPU slow, and all ranks of its engine wait for it."""
    slow = [
        f"GPU {device['index']}: {', '.join(SLOWED_BY[reason] for reason in device['slowdowns'])}"
        for device in host.devices
        if device.get("slowdowns")
    ]
    if not slow:
        return None
    return finding(
        "slowdown",
        WARN,
        f"GPUs run slower than they could ({'; '.join(slow)}).",
        "See nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER; check fans and the air's way, the power cables of the "
        "card, "
        "and the host's power supplies (a failed one pulls the brake).",
    )


def vgpu_license(host: Host) -> Finding | None:
    """A vGPU without a licence works for 20 minutes, then slows down and refuses programs (NVIDIA, vGPU licensing)."""
    told = [(device["index"], str(device["vgpu_license"])) for device in host.devices if device.get("vgpu_license")]
    without = [(index, status) for index, status in told if UNLICENSED.match(status)]
    if not without:
        return None
    still = all("unrestricted" in status.lower() for _index, status in without)
    return finding(
        "vgpu_license",
        WARN if still else FAIL,
        f"The vGPU has no licence ({'; '.join(f'GPU {index}: {status}' for index, status in without)}): it slows down "
        f"and "
        "then refuses programs.",
        "See the journal of nvidia-gridd, the token in /etc/nvidia/ClientConfigToken, FeatureType in "
        "/etc/nvidia/gridd.conf, and whether the licence server is reached; then: systemctl restart nvidia-gridd.",
    )


def memory_errors(host: Host) -> Finding | None:
    """ECC and row-remapping faults. A failed remapping means replacing the GPU (NVIDIA's RMA policy)."""
    known = [device for device in host.devices if any(v is not None for v in (device.get("ecc") or {}).values())]
    if not known:
        return None
    failed = [device["index"] for device in known if device["ecc"].get("row_remap_failure")]
    pending = [
        device["index"]
        for device in known
        if device["ecc"].get("row_remap_pending") or device["ecc"].get("retired_pages_pending")
    ]
    counted = [device["index"] for device in known if device["ecc"].get("uncorrected_volatile")]
    if failed:
        return finding(
            "memory_errors",
            FAIL,
            f"Row remapping failed on {gpus_named(failed)}: the memory is worn out.",
            "Take the GPU out of service and have it replaced (run: nvidia-smi -q -d ROW_REMAPPER).",
        )
    if pending:
        return finding(
            "memory_errors",
            WARN,
            f"Repairs of memory are pending on {gpus_named(pending)}.",
            "Drain the host and reset the GPU (nvidia-smi -r) or reboot.",
        )
    if counted:
        return finding(
            "memory_errors",
            WARN,
            f"Uncorrected memory errors since the driver was loaded on {gpus_named(counted)}.",
            "Look for Xid 48, 63, 94 or 95 in dmesg; reset the GPU and watch whether they come again.",
        )
    return finding("memory_errors", OK, "No uncorrected memory errors, no pending repairs.")


def recovery(host: Host) -> Finding | None:
    """What the driver itself says must be done with a GPU."""
    wanted = [(device["index"], device.get("recovery_action")) for device in host.devices]
    asked = [(index, action) for index, action in wanted if action]
    if not asked:
        return None
    return finding(
        "gpu_recovery",
        FAIL,
        "The driver asks for a recovery: " + "; ".join(f"GPU {index}: {action}" for index, action in asked) + ".",
        "Drain the host, then do what the driver asks (Reset: nvidia-smi -r; Reboot: reboot the host).",
    )


def persistence(host: Host) -> Finding | None:
    """Without persistence mode the driver unloads when the last user goes, and the next start takes long."""
    off = [device["index"] for device in host.devices if device.get("persistence_mode") is False]
    if off:
        return finding(
            "persistence_mode",
            WARN,
            f"Persistence mode is off on {gpus_named(off)}: programs on an idle GPU start seconds later.",
            "systemctl enable --now nvidia-persistenced",
        )
    if any(device.get("persistence_mode") for device in host.devices):
        return finding("persistence_mode", OK, "Persistence mode is on.")
    return None


def compute_mode(host: Host) -> Finding | None:
    """Exclusive and prohibited modes keep programs off a GPU."""
    odd = [device["index"] for device in host.devices if device.get("compute_mode") not in (None, "Default", "")]
    if not odd:
        return None
    return finding(
        "compute_mode",
        WARN,
        f"The compute mode of {gpus_named(odd)} is not Default: programs may be refused.",
        "nvidia-smi -c 0",
    )


def memory_in_use(host: Host) -> Finding | None:
    """Processes that hold GPU memory now take it from what vLLM plans with."""
    held = [
        f"GPU {device['index']}: {process.get('name') or 'process'} ({process.get('pid')})"
        + (f" {process['memory_used_mib']} MiB" if process.get("memory_used_mib") is not None else "")
        for device in host.devices
        for process in device.get("processes") or ()
        if "C" in (process.get("type") or "C") and process.get("pid") not in host.own_pids
    ]
    if not held:
        return None
    shown = "; ".join(held[:4]) + (f" and {len(held) - 4} more" if len(held) > 4 else "")
    return finding(
        "gpu_memory_in_use",
        WARN,
        f"Programs hold GPU memory: {shown}.",
        "Stop them, or plan with the free memory instead of the total.",
    )


def pcie_width(host: Host) -> Finding | None:
    """A card that is not seated well comes up with fewer lanes than it has."""
    narrow = [
        f"GPU {device['index']}: x{device['pcie']['width_current']} of x{device['pcie']['width_max']}"
        for device in host.devices
        if (device.get("pcie") or {}).get("width_current")
        and device["pcie"].get("width_max")
        and device["pcie"]["width_current"] < device["pcie"]["width_max"]
    ]
    if not narrow:
        return None
    return finding(
        "pcie_width",
        WARN,
        f"PCIe links are narrower than they could be ({'; '.join(narrow)}).",
        "Check the slot's lanes in the board's manual, risers, and the card's seat.",
    )


def pcie_generation(host: Host) -> Finding | None:
    """A slot of an older generation than the card's halves what goes over it.

    The current generation says nothing: an idle GPU lowers it to save power.
    """
    slow = [
        f"GPU {device['index']}: PCIe {pcie['generation_host']} of {pcie['generation_device']}"
        for device in host.devices
        if (pcie := device.get("pcie") or {}).get("generation_host")
        and pcie.get("generation_device")
        and pcie["generation_host"] < pcie["generation_device"]
    ]
    if not slow:
        return None
    return finding(
        "pcie_generation",
        WARN,
        f"PCIe slots are older than the cards in them ({'; '.join(slow)}).",
        "Look for a setting of the slot's generation in the BIOS, and at risers; else use the slots of the processor.",
    )


def peer_to_peer(host: Host) -> Finding | None:
    """Whether GPUs reach one another's memory. Without it NCCL copies through the host's memory."""
    if not host.p2p_matrix or len(host.devices) < 2:
        return None
    size = len(host.p2p_matrix)
    states = [host.p2p_matrix[i][j] for i in range(size) for j in range(i + 1, size)]
    wrong = sorted({state for state in states if state not in ("OK", None)})
    if wrong:
        count = sum(state in wrong for state in states)
        meaning = "; ".join(f"{state}: {p2p.MEANINGS.get(state, 'unknown')}" for state in wrong)
        return finding(
            "p2p",
            WARN,
            f"{count} of {len(states)} pairs of GPUs cannot use peer-to-peer access ({meaning}).",
            "Most GeForce cards have none. Else look at the checks iommu and acs, and at the board's "
            "manual. vLLM works without it, slower; set NCCL_P2P_DISABLE=1 if NCCL hangs.",
        )
    if None in states:
        return finding("p2p", UNKNOWN, "Peer-to-peer access of some pairs of GPUs is not known.")
    return finding("p2p", OK, "All pairs of GPUs can use peer-to-peer access.")
