# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: what the kernel says of GPUs, NVSwitches, PCIe, memory and disks. Data.

Which Xid asks for what stands in xids.py. prove/kernel_log.py reads the log: it leaves out what is only a consequence,
corrected, or over.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import xids
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import (
    FAIL,
    KERNEL,
    NOTE,
    REBOOT,
    RESET,
    RESTART,
    WARN,
    Signature,
)

AREA = "Driver and GPUs"
XID_SOURCE = "NVIDIA, Xid catalogue (docs.nvidia.com/deploy/xid-errors)"
# "NVRM: Xid (PCI:0000:83:00): 95, pid=...", and without the bus for a whole node
XID = r"NVRM: Xid(?: \(PCI:(?P<gpu>[0-9a-fA-F:.]+)\))?: (?P<xid>{numbers})\b"
FABRIC_RESET = (
    "Drain the host and reset all GPUs together with the fabric manager: systemctl stop nvidia-fabricmanager; "
    "nvidia-smi "
    "-r; systemctl start nvidia-fabricmanager. Or reboot the host."
)


def xid(
    numbers: Iterable[int],
    name: str,
    title: str,
    severity: str,
    cause: str,
    remedies: tuple[str, ...],
    sample: str,
    near: str,
    cured: str,
    more: tuple[str, ...] = (),
) -> Signature:
    """A line of the kernel's log in which the NVIDIA driver names one of some Xids."""
    return Signature(
        id=name,
        area=AREA,
        title=title,
        severity=severity,
        patterns=(XID.replace("{numbers}", "|".join(str(number) for number in sorted(numbers))), *more),
        cause=cause,
        remedies=remedies,
        sources=(XID_SOURCE,),
        sample=sample,
        near=near,
        where=KERNEL,
        cured=cured,
    )


SIGNATURES = (
    xid(
        xids.FALLEN,
        "xid_fallen_off",
        "A GPU fell off the bus",
        FAIL,
        "[[GPU {gpu}||A GPU]] does not answer on PCIe any more (Xid 79, or without a number when the driver finds "
        "it so).",
        (
            "Drain the host and power-cycle it; a reboot often does not bring the GPU back.",
            "Check power, heat, riser and the card's seat, and the lines of PCIe before that one (AER, pciehp).",
            "Have it replaced if it comes again.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:01:00): 31, pid=1122, Ch 00000008, MMU Fault",
        REBOOT,
        (
            r"NVRM: .{0,80}fallen off the bus",
            r"NVRM: GPU (?P<gpu>[0-9a-fA-F:.]+): GPU has fallen off the bus",
            r"NVRM: The NVIDIA GPU (?P<gpu>[0-9a-fA-F:.]+).*fallen off",
        ),
    ),
    xid(
        xids.MEMORY,
        "xid_memory",
        "Memory of a GPU is damaged (Xid 48, 94, 95, 140, 171, 172)",
        FAIL,
        "GPU {gpu} met an error of its memory that it could not correct (Xid {xid}: {meaning}).",
        (
            "After Xid 94, which is contained, restart the engine; after the others drain the host and reset the GPU "
            "(nvidia-smi -r) or reboot.",
            "See nvidia-smi -q -d ECC,ROW_REMAPPER: a failed remapping means replacing the GPU.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 95, pid=2231, name=VLLM::Worker_TP, Uncontained: "
        "LTC TAG (0x2,0x0). RST: Yes, D-RST: No",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 63, pid=2231, Row Remapper: New row marked",
        RESET,
    ),
    xid(
        xids.REMAPPED,
        "xid_row_remap",
        "Memory of a GPU is being repaired (Xid 63, 64, 92)",
        WARN,
        "GPU {gpu} has taken a part of its memory out of use (Xid {xid}: {meaning}).",
        ("Reset the GPU when the host can be drained (nvidia-smi -r).", "After 64 and 157 have the GPU replaced."),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 63, pid=2231, Row Remapper: New row (0x000a) marked "
        "for remapping, reset gpu to activate.",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 95, pid=2231, Uncontained",
        RESET,
    ),
    xid(
        xids.NVLINK,
        "xid_nvlink",
        "An NVLink failed (Xid 74, 136, 144 to 150, 155)",
        FAIL,
        "A link of GPU {gpu} has a fatal error (Xid {xid}: {meaning}).",
        (
            "See nvidia-smi nvlink -e and -s for the link, and on NVSwitch hosts the fabric manager's log.",
            FABRIC_RESET,
            "Reseat the bridge, or have the baseboard looked at, if it comes again.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:4f:00): 74, pid=3311, NVLink: fatal error detected on link "
        "7(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
        "Nov 12 17:59:27 gpu01 kernel: nvidia-nvlink: Nvlink Core is being initialized, major device number 510",
        RESET,
    ),
    xid(
        xids.GSP,
        "xid_gsp",
        "The GPU's own processor hangs (Xid 119, 120)",
        FAIL,
        "GPU {gpu} does not answer the driver (Xid {xid}: {meaning}).",
        (
            "Drain the host and reset the GPU (nvidia-smi -r), or reboot; power-cycle it, if that does not bring it "
            "back.",
            "Update the driver (and with it the GSP firmware). The open kernel modules need GSP: it cannot be turned "
            "off "
            "there.",
            "If it comes again, have the GPU tested (dcgmi diag -r 3).",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:0f:00): 119, pid=2231, name=VLLM::Worker_TP, Timeout after "
        "6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20802a02 0x8).",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: GPU0 GSP firmware 580.95.05 is loaded",
        RESET,
    ),
    xid(
        xids.HUNG,
        "xid_hung",
        "A GPU hangs or could not be initialized",
        FAIL,
        "GPU {gpu}: {meaning} (Xid {xid}). NVIDIA's catalogue asks for this at once: {action}.",
        (
            "Drain the host and reset the GPU (nvidia-smi -r), or reboot it. After 110 power it off and on (a cold "
            "reset), "
            "and take back changes of the hardware.",
            "If it comes again with another model and driver, have the GPU tested (dcgmi diag -r 3).",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:66:00): 109, pid=811, name=VLLM::Worker_TP, Ch 00000008, "
        "errorString CTX SWITCH TIMEOUT, Info 0x4c004",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:66:00): 13, pid=811, Graphics Exception",
        RESET,
    ),
    xid(
        xids.RECOVERY,
        "xid_recovery",
        "The driver asks for a recovery (Xid 154)",
        FAIL,
        "[[GPU {gpu}||A GPU]]: the driver asks for[[: {asked}|| a recovery]]. Until then new programs on it may fail.",
        (
            "Drain the host, then do what it asks: GPU Reset Required is nvidia-smi -r (with the fabric manager "
            "stopped on "
            "NVSwitch hosts), Node Reboot Required is a reboot of the host.",
            "See the Xid before that line for why.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:9c:00): 154, GPU recovery action changed from 0x0 (None) to "
        "0x2 "
        "(Node Reboot Required)",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:9c:00): 94, Contained: CE User Channel",
        REBOOT,
        (r"GPU recovery action changed (?:from .+ )?to 0x[0-9a-f]+ \((?P<asked>[^)]+)\)",),
    ),
    xid(
        xids.PROGRAM,
        "xid_program",
        "A program did something that the GPU refused (Xid 13, 31, 43)",
        WARN,
        "A program on GPU {gpu} was ended (Xid {xid}: {meaning}); mostly a fault of the program, not of the GPU.",
        (
            "See which instance died at that time, and the fault that its journal tells of.",
            "If it happens to different programs on the same GPU, let the GPU be tested (dcgmi diag -r 3); 32 and 80 "
            "may "
            "be a bad PCIe link.",
        ),
        "Sep 30 07:50:11 gpu01 kernel: NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr "
        "00000000. MMU Fault: ENGINE GRAPHICS GPC2 GPCCLIENT_T1_7 faulted @ 0x2b57_b3000000.",
        "Sep 30 07:50:11 gpu01 kernel: NVRM: Xid (PCI:0000:00:06): 109, pid=811, CTX SWITCH TIMEOUT",
        RESTART,
    ),
    xid(
        xids.HARMLESS,
        "xid_corrected",
        "A GPU corrected an error by itself",
        NOTE,
        "GPU {gpu} told of something that needs nothing now (Xid {xid}: {meaning}).",
        ("Nothing has to be done; reset the GPU at the next service, if it comes by the thousand.",),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0009:01:00): 121, pid='<unknown>', name=<unknown>, C2C Link "
        "corrected error",
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 95, pid=2231, Uncontained",
        RESTART,
    ),
    Signature(
        id="xid_other",
        area=AREA,
        title="The NVIDIA driver tells of an Xid",
        severity=WARN,
        patterns=(XID.replace("{numbers}", rf"(?!(?:{'|'.join(map(str, sorted(xids.GROUPED)))})\b)\d+"),),
        cause="GPU {gpu}: Xid {xid} ({meaning}). NVIDIA's catalogue asks for this at once: {action}.",
        remedies=(
            "Look the number up: docs.nvidia.com/deploy/xid-errors, and see what the instances say of that time.",
            "If it comes again, drain the host and reset the GPU (nvidia-smi -r), and ask the maker.",
        ),
        sources=(XID_SOURCE,),
        sample="Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:66:00): 78, pid=811, vGPU start error",
        near="Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:66:00): 79, pid=811, GPU has fallen off the bus.",
        where=KERNEL,
        cured=RESTART,
    ),
    Signature(
        id="sxid_fatal",
        area=AREA,
        title="An NVSwitch has a fatal error (SXid)",
        severity=FAIL,
        patterns=(
            r"SXid \(PCI:(?P<switch>[0-9a-fA-F:.]+)\): (?P<sxid>\d+), Fatal",
            r"SXid \(PCI:(?P<switch>[0-9a-fA-F:.]+)\): (?P<sxid>10001|10003|12028|20034|19084|24007)\b(?!, (?:Non-fatal"
            r"|Severity))",
        ),
        cause="NVSwitch {switch} has a fatal error (SXid {sxid}): the NVLink fabric behind it does not work until GPUs "
        "and "
        "switches are reset.",
        remedies=(
            FABRIC_RESET,
            "See /var/log/fabricmanager.log and nvidia-smi nvlink -e for the port.",
            "If it comes again, have the baseboard looked at.",
        ),
        sources=("NVIDIA Fabric Manager guide, SXid errors", "NVIDIA/open-gpu-kernel-modules#446"),
        sample="Nov 23 08:01:01 gpu01 kernel: nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM "
        "Fault "
        "Up",
        near="Nov 23 08:01:01 gpu01 kernel: nvidia-nvswitch3: SXid (PCI:0000:0a:00.0): 22013, Non-fatal, Link 55 "
        "Minion Link "
        "DLREQ interrupt\nnvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 22013, Severity 0 Engine instance 30 Sub-engine "
        "instance 00",
        where=KERNEL,
        cured=RESET,
    ),
    Signature(
        id="pcie_fatal",
        area=AREA,
        title="PCIe has an error that was not corrected",
        severity=FAIL,
        patterns=(
            r"(?:pcieport|nvidia|mlx5_core|nvme)?\s?(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d).*"
            r"severity=Uncorrect(?:ed|able) \(Fatal\)",
            r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d).*AER: (?:Multiple )?Uncorrect(?:ed|able) \(Fatal\) "
            r"error",
            r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d).*DPC: containment event",
            r"AER: device recovery failed",
        ),
        cause="The link to [[{device}||a device]] failed, and what hangs behind it (a GPU, an adapter) is lost or "
        "was reset.",
        remedies=(
            "See what it is: [[lspci -s {device}, and ]]lspci -tv for what hangs behind it.",
            "Drain the host and power-cycle it; check the card's seat, riser, cable and slot.",
            "If it comes again, have the card or the board replaced.",
        ),
        sources=("Linux drivers/pci/pcie/aer.c", "Linux drivers/pci/pcie/dpc.c"),
        sample="Nov 23 08:01:01 gpu01 kernel: pcieport 0000:20:01.0: AER: Uncorrected (Fatal) error received: "
        "0000:21:00.0",
        near="Nov 23 08:01:01 gpu01 kernel: pcieport 0000:20:01.0: AER: enabled with IRQ 38\nNov 23 08:01:01 gpu01 "
        "kernel: "
        "pcieport 0000:20:01.0: AER: Corrected error received: 0000:21:00.0",
        where=KERNEL,
    ),
    Signature(
        id="pcie_not_fatal",
        area=AREA,
        title="PCIe repeats transfers",
        severity=WARN,
        patterns=(
            r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d).*severity=Uncorrect(?:ed|able) \(Non-Fatal\)",
            r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d).*AER: (?:Multiple )?Uncorrect(?:ed|able) "
            r"\(Non-Fatal\)",
        ),
        cause="A transfer on the link to {device} was damaged; the device goes on.",
        remedies=("See what it is: lspci -s {device}. Check the card's seat, riser and cable, if it comes again.",),
        sources=("Linux drivers/pci/pcie/aer.c",),
        sample="Nov 23 08:01:01 gpu01 kernel: pcieport 0000:20:01.0: AER: Uncorrected (Non-Fatal) error received: "
        "0000:21:00.0",
        near="Nov 23 08:01:01 gpu01 kernel: pcieport 0000:20:01.0: AER: Corrected error received: 0000:21:00.0",
        where=KERNEL,
        cured=RESTART,
    ),
    Signature(
        id="pcie_link_down",
        area=AREA,
        title="A card went away from its slot",
        severity=FAIL,
        patterns=(r"pciehp: Slot\((?P<slot>[^)]+)\): (?:Link Down|Card not present)",),
        cause="The link of slot {slot} went down: the card in it lost power or contact.",
        remedies=(
            "See what was there: lspci and nvidia-smi against the number of cards.",
            "Drain the host and power-cycle it; check power cables and the card's seat.",
        ),
        sources=("Linux drivers/pci/hotplug/pciehp_ctrl.c",),
        sample="Nov 23 08:01:01 gpu01 kernel: pcieport 0000:20:01.0: pciehp: Slot(12): Link Down",
        near="Nov 23 08:01:01 gpu01 kernel: pcieport 0000:20:01.0: pciehp: Slot #12 AttnBtn- PwrCtrl- MRL- HotPlug+",
        where=KERNEL,
    ),
    Signature(
        id="host_memory_error",
        area="Memory",
        title="Memory of the host has an error that was not corrected",
        severity=FAIL,
        patterns=(
            r"EDAC MC\d+: \d+ UE\b",
            r"mce: \[Hardware Error\]: .*(?:[Uu]ncorrect|UCNA|SRAR|Fatal)",
            r"Memory failure: 0x[0-9a-f]+: (?:recovery action for .+: (?:Failed|Ignored)|.*[Kk]illing)",
        ),
        cause="A memory module of the host returned data that could not be corrected; a process that used it is "
        "killed.",
        remedies=(
            "See which module: ras-mc-ctl --errors, or the log of the board (ipmitool sel list).",
            "Drain the host and have the module replaced.",
        ),
        sources=("Linux drivers/edac", "Linux mm/memory-failure.c"),
        sample="Nov 23 08:01:01 gpu01 kernel: EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0",
        near="Nov 23 08:01:01 gpu01 kernel: EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0",
        where=KERNEL,
    ),
    Signature(
        id="dma_refused",
        area="Links between ranks",
        title="The IOMMU refuses transfers of a device",
        severity=WARN,
        patterns=(
            r"AMD-Vi: Event logged \[IO_PAGE_FAULT (?:domain=\S+ )?.*?(?:device=)?(?P<device>[0-9a-f:.]{7,12})",
            r"(?P<device>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d): AMD-Vi: Event logged \[IO_PAGE_FAULT",
            r"DMAR: \[DMA (?:Read|Write)\S*.*Request device \[(?P<device>[0-9a-f:.]+)\].*fault",
        ),
        cause="The IOMMU stopped a transfer of {device}: peer-to-peer transfers between GPUs do not pass it.",
        remedies=(
            "Turn the IOMMU's translation off for devices of the host: iommu=pt on the kernel's command line, or the "
            "IOMMU "
            "off in the BIOS.",
            "Run the role nccl_check: it says whether peer access works.",
        ),
        sources=("Linux drivers/iommu", "NCCL troubleshooting guide"),
        sample="Nov 23 08:01:01 gpu01 kernel: nvidia 0000:41:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0029 "
        "address=0xf8000000 flags=0x0020]",
        near="Nov 23 08:01:01 gpu01 kernel: AMD-Vi: Interrupt remapping enabled",
        where=KERNEL,
        cured=RESTART,
    ),
    Signature(
        id="disk_errors",
        area="Host and service",
        title="A disk has errors",
        severity=WARN,
        patterns=(
            r"I/O error, dev (?P<disk>\S+?),",
            r"EXT4-fs error \(device (?P<disk>[^)]+)\)",
            r"XFS \((?P<disk>[^)]+)\): .*(?:[Cc]orruption|[Mm]etadata I/O error|Shutting down)",
            r"(?P<disk>nvme\d+): (?:.*I/O timeout|controller is down|.*Device not ready)",
            r"Remounting filesystem read-only",
        ),
        cause="Reads or writes of [[{disk}||a disk]] failed.",
        remedies=(
            "See smartctl -a (nvme smart-log) of the disk, and whether its file system is read-only now (findmnt).",
            "Have it replaced, and fetch models anew: weights that were read from it may be damaged.",
        ),
        sources=("Linux block, fs/ext4, fs/xfs, drivers/nvme",),
        sample="Nov 23 08:01:01 gpu01 kernel: I/O error, dev nvme0n1, sector 1953513 op 0x0:(READ) flags 0x80700",
        near="Nov 23 08:01:01 gpu01 kernel: EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode",
        where=KERNEL,
        cured=RESTART,
    ),
    Signature(
        id="task_blocked",
        area="Host and service",
        title="A program is stuck in the kernel",
        severity=WARN,
        patterns=(r"INFO: task (?P<name>\S+?):\d+ blocked for more than (?P<time>\d+) seconds",),
        cause="{name} waited for more than {time} s for a disk, a network file system or the GPU's driver, and cannot "
        "be "
        "killed meanwhile.",
        remedies=(
            "See the lines below it in the kernel's log for where it waits, and whether a mount answers (findmnt, df).",
            "If it waits in the NVIDIA driver, see the Xids; only a reset of the GPU or a reboot ends it.",
        ),
        sources=("Linux kernel/hung_task.c",),
        sample="Nov 23 08:01:01 gpu01 kernel: INFO: task VLLM::Worker_TP:2231 blocked for more than 120 seconds.",
        near="Nov 23 08:01:01 gpu01 kernel: workqueue: ib_cache_event_task [ib_core] hogged CPU for >10000us 4 times",
        where=KERNEL,
        cured=RESTART,
    ),
    Signature(
        id="driver_not_loading",
        near="Nov 12 17:59:27 gpu01 kernel: nvidia: module verification failed: signature and/or required key missing "
        "- "
        "tainting kernel",
        area=AREA,
        title="The kernel refuses the NVIDIA driver",
        severity=FAIL,
        patterns=(
            r"NVRM: API mismatch",
            r"NVRM: .*requires use of the NVIDIA open kernel modules",
            r"NVRM: .*RmInitAdapter failed",
            r"nvidia: module verification failed.*Key was rejected",
            r"Loading of module with unavailable key is rejected",
        ),
        cause="The kernel module does not fit the GPU or the libraries, or it is not signed.",
        remedies=(
            "Reboot, if the driver was just updated (API mismatch).",
            "Install the open kernel module for Blackwell and newer (role cuda does).",
            "Sign the module, or switch secure boot off.",
        ),
        sources=("NVIDIA open-gpu-kernel-modules",),
        sample="Nov 12 17:59:27 gpu01 kernel: NVRM: API mismatch: the client has the version 580.105.08, but this "
        "kernel "
        "module has the version 580.95.05.",
        where=KERNEL,
    ),
    Signature(
        id="amdgpu_reset",
        near="Nov 12 17:59:27 gpu01 kernel: amdgpu 0000:c1:00.0: amdgpu: GPU reset succeeded, trying to resume",
        cured=RESTART,
        area=AREA,
        title="An AMD GPU was reset",
        severity=FAIL,
        patterns=(
            r"amdgpu.{0,80}(?:GPU reset begin|ring \S+ timeout|uncorrectable hardware errors detected"
            r"|HW Exception|[Pp]age fault)",
        ),
        cause="The driver had to reset a GPU: a program hung it, or its memory is damaged.",
        remedies=(
            "Restart the instances of the host, and see whether it comes again with the same model.",
            "See amd-smi metric --ecc, and update ROCm and the driver.",
        ),
        sources=("Linux drivers/gpu/drm/amd/amdgpu",),
        sample="Nov 12 17:59:27 gpu01 kernel: amdgpu 0000:c1:00.0: amdgpu: GPU reset begin!. Source: 1",
        where=KERNEL,
    ),
    Signature(
        id="kernel_out_of_memory",
        near="Nov 12 17:59:27 gpu01 kernel: oom_reaper: reaped process 2231 (VLLM::EngineCor)",
        cured=RESTART,
        area="Memory",
        title="The kernel ran out of memory",
        severity=WARN,
        patterns=(r"(?:Memory cgroup out of memory|Out of memory): Killed process \d+ \((?P<name>[^)]*)\)",),
        cause="The kernel killed {name} to get memory back.",
        remedies=("See which unit it was of (the line 'oom-kill:' before it), and what that unit's fault says.",),
        sources=("Linux mm/oom_kill.c",),
        sample="Nov 12 17:59:27 gpu01 kernel: Memory cgroup out of memory: Killed process 2231 (VLLM::EngineCor) "
        "total-vm:9123456kB, anon-rss:524288kB, file-rss:0kB, shmem-rss:0kB, UID:998 pgtables:2048kB oom_score_adj:0",
        where=KERNEL,
    ),
)
