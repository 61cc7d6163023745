# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: driver, CUDA, fabric manager, the GPUs themselves. Data."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import (
    FABRIC,
    FAIL,
    KERNEL,
    WARN,
    Signature,
)

AREA = "Driver and GPUs"
XID_SOURCE = "NVIDIA, XID Errors (docs.nvidia.com/deploy/xid-errors)"


def xid(
    numbers: str, name: str, title: str, severity: str, cause: str, remedies: tuple[str, ...], sample: str
) -> Signature:
    """A line of the kernel's log in which the NVIDIA driver names one of some XIDs."""
    return Signature(
        id=name,
        area=AREA,
        title=title,
        severity=severity,
        patterns=(rf"NVRM: Xid \(PCI:(?P<gpu>[0-9a-fA-F:.]+)\): (?P<xid>{numbers})\b",),
        cause=cause,
        remedies=remedies,
        sources=(XID_SOURCE,),
        sample=sample,
        where=KERNEL,
    )


SIGNATURES = (
    Signature(
        id="cuda_802",
        area=AREA,
        title="CUDA error 802: the NVLink fabric is not ready",
        severity=FAIL,
        patterns=(r"[Ee]rror 802\b", r"CUDA error: system not yet initialized"),
        cause="This host has NVSwitch and its fabric manager does not run, so that CUDA cannot start although "
        "nvidia-smi "
        "looks fine.",
        remedies=(
            "Run deploy.yml with cuda_driver: nvidia, or install nvidia-fabricmanager of exactly the driver's version.",
            "systemctl enable --now nvidia-fabricmanager, and see its journal if it does not stay.",
            "In a virtual machine the fabric manager of the host below has to run.",
        ),
        sources=(
            "gpustack/gpustack#4154",
            "aws-samples/aws-deep-learning-ami-ubuntu-dcv-desktop#33",
            "MiniMax-AI/MiniMax-M2.5#9",
        ),
        sample="RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before "
        "calling "
        "NumCudaDevices() that might have already set an error? Error 802: system not yet initialized",
        explains=("no_cuda_device", "device_unknown"),
    ),
    Signature(
        id="cuda_803",
        area=AREA,
        title="CUDA error 803: driver and its libraries are of two versions",
        severity=FAIL,
        patterns=(
            r"[Ee]rror 803\b",
            r"system has unsupported display driver / cuda driver combination",
            r"Failed to initialize NVML: Driver/library version mismatch",
        ),
        cause="The libraries of the driver (libcuda) are of another version than the loaded kernel module.",
        remedies=(
            "Reboot: the driver was updated while it was loaded.",
            "Remove a second driver or a cuda-compat package (ldconfig -p | grep libcuda).",
        ),
        sources=("vllm-project/vllm#15335",),
        sample="RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before "
        "calling "
        "NumCudaDevices() that might have already set an error? Error 803: system has unsupported display driver / "
        "cuda "
        "driver combination",
        explains=("no_cuda_device", "device_unknown"),
    ),
    Signature(
        id="cuda_804",
        area=AREA,
        title="CUDA error 804: a driver too old, and a card that cannot bridge it",
        severity=FAIL,
        patterns=(r"[Ee]rror 804\b", r"forward compatibility was attempted on non supported HW"),
        cause="The engine's CUDA is newer than the driver, and the compatibility package only works on data centre "
        "cards.",
        remedies=(
            "Install a driver of the engine's CUDA (580 or newer for CUDA 13): role cuda, cuda_driver: nvidia.",
            "Remove cuda-compat from the library path (VLLM_ENABLE_CUDA_COMPATIBILITY) where the driver is new enough.",
            "Use an older engine_version.",
        ),
        sources=("vllm-project/vllm#4940", "vllm-project/vllm#5283", "gpustack/gpustack#1540"),
        sample="ERROR 03-26 05:25:01 engine.py:389] Unexpected error from cudaGetDeviceCount(). Did you run some cuda "
        "functions before calling NumCudaDevices() that might have already set an error? Error 804: forward "
        "compatibility "
        "was attempted on non supported HW",
        explains=("no_cuda_device", "device_unknown", "driver_too_old"),
    ),
    Signature(
        id="driver_too_old",
        area=AREA,
        title="The NVIDIA driver is too old for the engine",
        severity=FAIL,
        patterns=(
            r"The NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)",
            r"CUDA driver version is insufficient for CUDA runtime version",
            r"the provided PTX was compiled with an unsupported toolchain",
        ),
        cause="The driver knows CUDA {found}, and the engine was built for a newer one.",
        remedies=(
            "Install driver 580 or newer (CUDA 13, vLLM 0.33): role cuda with cuda_driver: nvidia.",
            "On data centre cards cuda-compat bridges it: VLLM_ENABLE_CUDA_COMPATIBILITY: '1' in environment.",
            "Use an older engine_version.",
        ),
        sources=("torch/cuda/__init__.py", "vLLM envs.py:97", "dstackai/dstack#4007"),
        sample="RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please update your "
        "GPU "
        "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx",
        explains=("no_cuda_device", "device_unknown"),
    ),
    Signature(
        id="ecc_error",
        area=AREA,
        title="Memory of a GPU returned a wrong value",
        severity=FAIL,
        patterns=(r"CUDA error: uncorrectable ECC error encountered", r"uncorrectable NVLink error"),
        cause="A GPU (or its NVLink) found data that it could not correct.",
        remedies=(
            "See nvidia-smi -q -d ECC,ROW_REMAPPER and the kernel's log for the GPU.",
            "Drain the host, reset the GPU (nvidia-smi -r) or reboot; if it comes again, have the GPU replaced.",
        ),
        sources=("CUDA error 214", XID_SOURCE),
        sample="torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        explains=("cuda_fault",),
    ),
    Signature(
        id="no_kernel_for_gpu",
        area=AREA,
        title="The engine has no code for this GPU",
        severity=FAIL,
        patterns=(
            r"no kernel image is available for execution on the device",
            r"GPU compute capability below (?P<least>[\d.]+) unsupported",
            r"GPUs? with (?:CUDA|compute) capability (?:below|less than|lower than) (?P<least>[\d.]+)",
            r"requires device with capability >=? \((?P<least>[\d., ]+)\)",
        ),
        cause="The release was built for newer GPUs (compute capability 7.5 and above).",
        remedies=("Serve from a newer GPU.", "Use an older engine_version that still knows this GPU."),
        sources=("vllm-project/vllm#1284",),
        sample="RuntimeError: CUDA error: no kernel image is available for execution on the device",
        explains=("cuda_fault",),
    ),
    Signature(
        id="dtype_not_supported",
        area=AREA,
        title="The GPU does not know the number format",
        severity=FAIL,
        patterns=(
            r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0(?:\. Your (?P<gpu>.+?) GPU)?",
            r"The model type '(?P<model>[^']+)' does not support float16",
            r"torch\.\w+ is not supported for quantization method",
        ),
        cause="dtype does not fit the GPU or the model ({gpu}{model}).",
        remedies=(
            "On GPUs before Ampere set dtype: half (bfloat16 needs compute capability 8.0).",
            "For gemma and glm4 set dtype: bfloat16, or float32 on older GPUs.",
            "Leave dtype out: auto takes what the GPU can.",
        ),
        sources=("platforms/cuda.py:638", "config/model.py:2398", "vllm-project/vllm#1157", "volcengine/verl#2594"),
        sample="ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 "
        "GPU "
        "has compute capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag in CLI, for "
        "example: --dtype=half.",
    ),
    Signature(
        id="quantization_not_supported",
        area=AREA,
        title="The GPU cannot compute this quantization",
        severity=FAIL,
        patterns=(
            r"quantization (?:method|scheme)(?: (?P<method>\S+))? is not supported for the current GPU\. (?:Minimum|"
            r"Required|Min) capability: (?P<least>\d+)\. Current capability: (?P<has>\w+)",
            r"Quantization scheme is not supported for the current GPU",
        ),
        cause="The quantization {method} needs compute capability {least}, and this GPU has {has}.",
        remedies=(
            "Use another version of the model: AWQ and GPTQ run from compute capability 7.5.",
            "Serve from a newer GPU (FP8 from 8.9, NVFP4 natively from 10.0).",
        ),
        sources=("config/vllm.py:925",),
        sample="ValueError: The quantization method modelopt is not supported for the current GPU. Minimum capability: "
        "80. "
        "Current capability: 75.",
    ),
    Signature(
        id="no_cuda_device",
        area=AREA,
        title="CUDA finds no GPU",
        severity=FAIL,
        patterns=(
            r"No CUDA GPUs are available",
            r"no CUDA-capable device is detected",
            r"CUDA unknown error",
            r"Found no NVIDIA driver on your system",
        ),
        cause="The engine sees no GPU: the driver is not loaded, the device files are closed to it, or "
        "CUDA_VISIBLE_DEVICES names none.",
        remedies=(
            "See nvidia-smi on the host, and the checks of the host in this report.",
            "Look at gpus of the instance and at CUDA_VISIBLE_DEVICES in environment.",
            "Run deploy.yml again, if the unit was changed by hand: it allows the device files (DeviceAllow=).",
        ),
        sources=("torch/cuda/__init__.py",),
        sample="RuntimeError: No CUDA GPUs are available",
        explains=("device_unknown",),
    ),
    Signature(
        id="device_unknown",
        area=AREA,
        title="vLLM does not know what to run on",
        severity=FAIL,
        patterns=(r"Failed to infer device type",),
        cause="The release finds neither a GPU nor that it is a CPU build.",
        remedies=(
            "See whether the GPU's driver works (nvidia-smi), then restart the instance.",
            "Install the variant that fits the host: engine_variant cuda, rocm or cpu.",
        ),
        sources=("config/device.py:56", "platforms/__init__.py:174"),
        sample="RuntimeError: Failed to infer device type, please set the environment variable "
        "`VLLM_LOGGING_LEVEL=DEBUG` "
        "to turn on verbose logging to help debug the issue.",
    ),
    Signature(
        id="cuda_fault",
        area=AREA,
        title="A GPU program failed while it ran",
        severity=FAIL,
        patterns=(
            r"CUDA error: (?P<what>an illegal memory access was encountered|unspecified launch failure|device-side "
            r"assert "
            r"triggered|misaligned address|an illegal instruction was encountered)",
        ),
        cause="A kernel failed ({what}): a fault of the engine's code for this model, or of the GPU.",
        remedies=(
            "Look for Xid in the kernel's log: 13 and 31 are the program's fault, others the GPU's.",
            "Restart with enforce_eager: true, or another attention-backend in "
            "extra_args, to see whether it goes away.",
            "Use another engine_version.",
        ),
        sources=("CUDA errors 700, 719, 710", XID_SOURCE),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1512] torch.AcceleratorError: CUDA error: an "
        "illegal "
        "memory access was encountered",
    ),
    Signature(
        id="fabric_manager_version",
        area=AREA,
        title="The fabric manager is of another version than the driver",
        severity=FAIL,
        patterns=(
            r"fabric manager NVIDIA GPU driver interface version (?P<own>[\d.]+) (?:don't|doesn't) match with driver "
            r"version (?P<driver>[\d.]+)",
        ),
        cause="The fabric manager is {own} and the loaded driver {driver}: it ends, and CUDA fails with error 802.",
        remedies=(
            "Install nvidia-fabricmanager {driver}, exactly (role cuda does), or reboot if it was just updated.",
            "Hold both packages together (cuda_hold), so that updates do not part them again.",
        ),
        sources=("nvidia-fabricmanager's journal",),
        sample="Nov 05 13:55:26 node1 nv-fabricmanager[104230]: fabric manager NVIDIA GPU driver interface version "
        "550.127.05 don't match with driver version 550.120. Please update with matching NVIDIA driver package.",
        where=FABRIC,
    ),
    xid(
        "79",
        "xid_fallen_off",
        "Xid 79: a GPU fell off the bus",
        FAIL,
        "GPU {gpu} does not answer on PCIe any more.",
        (
            "Drain the host and power-cycle it; a reboot often does not bring the GPU back.",
            "Check power, heat, riser and the card's seat.",
            "Have it replaced if it comes again.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.",
    ),
    xid(
        "48|94|95|140|171|172",
        "xid_memory",
        "Xid 48, 94, 95: memory of a GPU is damaged",
        FAIL,
        "GPU {gpu} met an error of its memory that it could not correct (Xid {xid}).",
        (
            "Restart the engine after Xid 94 (contained); drain the host and reset the GPU (nvidia-smi -r) after 48 "
            "and 95.",
            "See nvidia-smi -q -d ROW_REMAPPER: a failed remapping means replacing the GPU.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 95, pid=2231, name=VLLM::Worker_TP, Uncontained: "
        "LTC "
        "TAG (0x2,0x0). RST: Yes, D-RST: No",
    ),
    xid(
        "63|64|92",
        "xid_row_remap",
        "Xid 63, 64: memory of a GPU is being repaired",
        WARN,
        "GPU {gpu} has taken a row of memory out of use (Xid {xid}; 64 is a repair that failed).",
        ("Reset the GPU when the host can be drained (nvidia-smi -r).", "After 64 have the GPU replaced."),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:83:00): 63, pid=2231, Row Remapper: New row (0x000a) marked "
        "for "
        "remapping, reset gpu to activate.",
    ),
    xid(
        "74|137|145|149",
        "xid_nvlink",
        "Xid 74: an NVLink failed",
        FAIL,
        "A link of GPU {gpu} has errors (Xid {xid}).",
        (
            "See nvidia-smi nvlink -e and -s for the link.",
            "Reset the GPUs, with the fabric manager on NVSwitch hosts; reseat the bridge or the baseboard if it comes "
            "again.",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:4f:00): 74, pid=3311, NVLink: fatal error detected on link "
        "7(0x0, "
        "0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
    ),
    xid(
        "119|120|61|62|109",
        "xid_gsp",
        "Xid 119, 120: the GPU's own processor hangs",
        FAIL,
        "GPU {gpu} does not answer the driver (Xid {xid}, GSP).",
        (
            "Reset the GPU or reboot the host.",
            "Update the driver; if it comes again, turn the GSP firmware off on data centre cards "
            "(NVreg_EnableGpuFirmware=0).",
        ),
        "Nov 12 17:59:27 gpu01 kernel: NVRM: Xid (PCI:0000:0f:00): 119, pid=2231, name=VLLM::Worker_TP, Timeout after "
        "6s of "
        "waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20802a02 0x8).",
    ),
    xid(
        "13|31|43|45|68|69",
        "xid_program",
        "Xid 13, 31, 43: a program did something that the GPU refused",
        WARN,
        "A program on GPU {gpu} was ended (Xid {xid}); mostly a fault of the program, not of the GPU.",
        (
            "See which instance died at that time, and the fault that its journal tells of.",
            "If it happens to different programs on the same GPU, let the GPU be tested (dcgmi diag -r 3).",
        ),
        "Sep 30 07:50:11 gpu01 kernel: NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr "
        "00000000. MMU "
        "Fault: ENGINE GRAPHICS GPC2 GPCCLIENT_T1_7 faulted @ 0x2b57_b3000000.",
    ),
    Signature(
        id="driver_not_loading",
        area=AREA,
        title="The kernel refuses the NVIDIA driver",
        severity=FAIL,
        patterns=(
            r"NVRM: API mismatch",
            r"NVRM: .*requires use of the NVIDIA open kernel modules",
            r"NVRM: RmInitAdapter failed",
            r"nvidia: module verification failed.*Key was rejected|Loading of module with unavailable key is rejected",
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
        area=AREA,
        title="An AMD GPU was reset",
        severity=FAIL,
        patterns=(r"amdgpu.*(?:GPU reset begin|ring \S+ timeout|uncorrectable hardware errors detected)",),
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
