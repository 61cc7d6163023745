# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: driver, CUDA, fabric manager, the GPUs themselves. Data."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import (
    FABRIC,
    FAIL,
    Signature,
)

AREA = "Driver and GPUs"
XID_SOURCE = "NVIDIA, XID Errors (docs.nvidia.com/deploy/xid-errors)"


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
        near="RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 101: invalid device ordinal",
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
        near="RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted"
        " on non supported HW",
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
        near="RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
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
        cause="The engine was built for a newer CUDA than the driver knows[[ ({found})]].",
        remedies=(
            "Install driver 580 or newer (CUDA 13, vLLM 0.33): role cuda with cuda_driver: nvidia.",
            "On data centre cards cuda-compat bridges it: VLLM_ENABLE_CUDA_COMPATIBILITY: '1' in environment.",
            "Use an older engine_version.",
        ),
        sources=("torch/cuda/__init__.py", "vLLM envs.py:97", "dstackai/dstack#4007"),
        sample="RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please update your "
        "GPU "
        "driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx",
        near="RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and "
        "installed a driver",
        explains=("no_cuda_device", "device_unknown"),
    ),
    Signature(
        id="ecc_error",
        area=AREA,
        title="Memory of a GPU returned a wrong value",
        severity=FAIL,
        patterns=(r"uncorrectable ECC error encountered", r"cudaErrorECCUncorrectable"),
        cause="A GPU found data in its memory that it could not correct.",
        remedies=(
            "See nvidia-smi -q -d ECC,ROW_REMAPPER and the kernel's log for the GPU.",
            "Drain the host, reset the GPU (nvidia-smi -r) or reboot; if it comes again, have the GPU replaced.",
        ),
        sources=("CUDA error 214", XID_SOURCE),
        sample="torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        near="torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected during the execution",
        explains=("cuda_fault",),
    ),
    Signature(
        id="nvlink_error",
        area=AREA,
        title="An NVLink failed while the engine used it",
        severity=FAIL,
        patterns=(r"uncorrectable NVLink error", r"cudaErrorNvlinkUncorrectable"),
        cause="A transfer between GPUs was damaged or lost on an NVLink (CUDA error 220); the memory of the GPUs is "
        "fine.",
        remedies=(
            "See which link: nvidia-smi nvlink -e, and Xid 74 or 144 to 150 in the kernel's log.",
            "Drain the host and reset the GPUs together with the fabric manager (systemctl stop nvidia-fabricmanager; "
            "nvidia-smi -r; systemctl start nvidia-fabricmanager), or reboot.",
            "If it comes again, have the bridge, the baseboard or the GPU replaced.",
        ),
        sources=("CUDA error 220", "NVIDIA/open-gpu-kernel-modules#1355"),
        sample="torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected during the execution",
        near="torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        explains=("cuda_fault",),
    ),
    Signature(
        id="gpu_busy",
        area=AREA,
        title="A GPU does not take another program",
        severity=FAIL,
        patterns=(r"CUDA-capable device\(s\) is/are busy or unavailable", r"cudaErrorDevicesUnavailable"),
        cause="CUDA says that a GPU is busy or unavailable: its compute mode lets one process in (Exclusive_Process) "
        "or none, "
        "it waits for a reset, or it is a vGPU without a licence.",
        remedies=(
            "See nvidia-smi -q -d COMPUTE: nvidia-smi -c 0 sets the mode Default; in the mode Exclusive_Process stop "
            "the "
            "process that holds the GPU.",
            "See whether it waits for a reset (nvidia-smi -q | grep -i -A2 recovery; Xid in the kernel's log): drain "
            "the "
            "host and nvidia-smi -r, or reboot.",
            "On a vGPU see the licence: nvidia-smi -q | grep -i license; nvidia-gridd's journal.",
        ),
        sources=("CUDA error 46", "Azure/AKS#4870", "scitix/sichek#121"),
        sample="torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        near="RuntimeError: No CUDA GPUs are available",
    ),
    Signature(
        id="gpu_lost",
        area=AREA,
        title="A GPU is lost",
        severity=FAIL,
        patterns=(
            r"NVMLError_GpuIsLost|GPU is lost|Unable to determine the device handle for GPU",
            r"NVMLError_ResetRequired|GPU requires reset",
            r"CUDA error: (?:device not ready|the device is lost)",
        ),
        cause="The driver no longer reaches a GPU, or keeps programs off it until it is reset.",
        remedies=(
            "See nvidia-smi, and Xid 79, 119 or 154 in the kernel's log.",
            "Drain the host and reset the GPU (nvidia-smi -r), or reboot; power-cycle the host if it does not come "
            "back.",
        ),
        sources=("NVML return values", XID_SOURCE),
        sample="pynvml.NVMLError_GpuIsLost: GPU is lost",
        near="RuntimeError: No CUDA GPUs are available",
        explains=("no_cuda_device", "device_unknown"),
    ),
    Signature(
        id="graph_capture_failed",
        area=AREA,
        title="A CUDA graph could not be captured",
        severity=FAIL,
        patterns=(
            r"operation (?:not permitted when stream is capturing|failed due to a previous error during capture"
            r"|would result in a merge|would have caused)",
            r"cudaErrorStreamCapture\w+",
            r"CUDA ?graph.{0,40}(?:capture (?:failed|error)|cannot be captured)",
            r"Cannot copy between CPU and CUDA tensors during CUDA graph capture",
        ),
        cause="Something was computed while a graph was recorded that graphs do not allow: a kernel of this model or "
        "backend, "
        "or another thread that used the GPU.",
        remedies=(
            "Set enforce-eager: true in extra_args, to see whether it serves without graphs.",
            "Choose another attention-backend, or fewer sizes (cudagraph_capture_sizes in compilation-config).",
            "Use another engine_version.",
        ),
        sources=("CUDA errors 900 to 908", "vllm/compilation/cuda_graph.py"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] torch.AcceleratorError: CUDA error: operation "
        "not "
        "permitted when stream is capturing",
        near="INFO 11-23 20:31:07 [gpu_model_runner.py:6534] Graph capturing finished in 12 secs, took 0.60 GiB",
        explains=("cuda_fault",),
    ),
    Signature(
        id="gpu_named_by_uuid",
        area=AREA,
        title="A GPU is named by its UUID",
        severity=FAIL,
        patterns=(r"invalid literal for int\(\) with base 10: '(?P<uuid>(?:MIG|GPU)-[^']*)'",),
        cause="CUDA_VISIBLE_DEVICES holds {uuid}, and this release of vLLM takes numbers only: it cannot use a MIG "
        "device or "
        "a GPU by UUID. What it says of the model's architecture follows from that.",
        remedies=(
            "Name GPUs by number: gpus of the instance, and no CUDA_VISIBLE_DEVICES in environment.",
            "For a slice of MIG use an engine_version that knows UUIDs, or turn MIG off (nvidia-smi -mig 0, no program "
            "running).",
        ),
        sources=("vllm-project/vllm#41848", "vllm-project/vllm#20939", "vllm/platforms/cuda.py"),
        sample="(APIServer pid=801) ValueError: invalid literal for int() with base 10: "
        "'MIG-00000000-0000-0000-0000-000000000002'",
        near="ValueError: invalid literal for int() with base 10: 'eight'",
        explains=("architecture_not_supported",),
    ),
    Signature(
        id="cuda_unknown_error",
        area=AREA,
        title="CUDA cannot start, and does not say why",
        severity=FAIL,
        patterns=(r"CUDA unknown error", r"cudaErrorUnknown"),
        cause="Most often the module nvidia-uvm is not loaded: nothing loads it at boot on some hosts, and a service "
        "that "
        "may not gain rights cannot do so (NoNewPrivileges). nvidia-smi does not need it and looks fine.",
        remedies=(
            "Load it: nvidia-modprobe -c0 -u (or modprobe nvidia_uvm), then restart {unit}: device files that come "
            "later "
            "are closed to a unit that runs.",
            "Let it be loaded at boot: write nvidia_uvm to /etc/modules-load.d/nvidia-uvm.conf.",
            "After a suspend: rmmod nvidia_uvm and load it again, with no engine running.",
        ),
        sources=("pytorch/pytorch#49081", "NVIDIA/enroot#106", "CUDA error 999"),
        sample="(APIServer pid=801) RuntimeError: CUDA unknown error - this may be due to an incorrectly set up "
        "environment, "
        "e.g. changing env variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be "
        "zero.",
        near="RuntimeError: No CUDA GPUs are available",
        explains=("no_cuda_device", "device_unknown"),
    ),
    Signature(
        id="rocm_fault",
        area=AREA,
        title="A program failed on an AMD GPU",
        severity=FAIL,
        patterns=(
            r"Memory access fault by GPU (?P<gpu>node-\d+)",
            r"HW Exception by GPU (?P<gpu>node-\d+)",
            r"aborting with error ?: ?(?P<what>HSA_STATUS_ERROR_\w+)",
            r"HIP error: (?P<what>an illegal memory access was encountered|unspecified launch failure"
            r"|device-side assert triggered)",
        ),
        cause="A kernel on [[GPU {gpu}||a GPU]] touched memory that is not there, or hung[[ ({what})]]: a fault of "
        "the engine's code "
        "for "
        "this model, of ROCm, or of the GPU's firmware.",
        remedies=(
            "Set enforce-eager: true in extra_args, or another attention-backend, to see whether it goes away.",
            "Update ROCm, the driver and the GPU's firmware; on RDNA and MI300 with hangs try amdgpu.cwsr_enable=0.",
            "Use another engine_version. See the kernel's log for 'GPU reset' of amdgpu.",
        ),
        sources=("ROCm/legacy-rocm-build#6023", "ROCm/legacy-rocm-build#6157", "ROCR-Runtime"),
        sample="Memory access fault by GPU node-1 (Agent handle: 0x58935a90) on address 0x7fbe6a804000. Reason: Page "
        "not "
        "present or supervisor privilege.",
        near="INFO 11-23 20:31:07 [rocm.py:1] GPU node-1 has 192 GiB of memory",
    ),
    Signature(
        id="rocm_not_usable",
        area=AREA,
        title="ROCm cannot use the GPUs",
        severity=FAIL,
        patterns=(
            r"/dev/(?:kfd|dri/\w{1,20})\b.{0,80}(?:Permission denied|No such file|not permitted|denied|failed)",
            r"(?:Unable to open|open of|opening|Could not open|Can't open) /dev/(?:kfd|dri)",
            r"No HIP GPUs are available",
            r"hsa_init.{0,40}(?:fail|HSA_STATUS_ERROR)|ROCk module is NOT loaded",
            r"HIP error: (?:no ROCm-capable device is detected|initialization error)",
        ),
        cause="/dev/kfd or /dev/dri cannot be opened by the service's user, or the module amdgpu is not loaded.",
        remedies=(
            "Put the user into the groups that own the devices: serve_groups: [render, video]; run deploy.yml.",
            "See ls -l /dev/kfd /dev/dri, rocminfo as root, and dmesg | grep amdgpu.",
            "In a container pass --device /dev/kfd --device /dev/dri.",
        ),
        sources=("ROCm installation guide", "torch/cuda/__init__.py"),
        sample="Unable to open /dev/kfd read-write: Permission denied",
        near="RuntimeError: No CUDA GPUs are available",
        explains=("device_unknown", "no_cuda_device"),
    ),
    Signature(
        id="no_kernel_for_gpu",
        area=AREA,
        title="The release has no code for this GPU",
        severity=FAIL,
        patterns=(
            r"no kernel image is available for execution on the device",
            r"cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU",
            r"with CUDA capability (?P<has>sm_\w+) is not compatible with the current PyTorch",
            r"HIP error: (?:invalid device function|device kernel image is invalid)|hipErrorNoBinaryForGpu",
        ),
        cause="The kernels of the release were built for other GPUs: this one is newer than the release, as a "
        "Blackwell card "
        "with wheels of CUDA 12.6, or older than what it still supports.",
        remedies=(
            "See how new the GPU is: nvidia-smi --query-gpu=name,compute_cap --format=csv.",
            "For a new GPU (compute capability 10.0, 10.3, 12.0, 12.1, or newer than the release): use a newer "
            "engine_version; 12.x needs wheels of CUDA 12.8 or newer.",
            "For an old GPU (below 7.5): use the last release that still supports it, or another host.",
        ),
        sources=("vllm-project/vllm#18995", "vllm-project/vllm#14452", "vllm-project/vllm#1284"),
        sample="RuntimeError: CUDA error: no kernel image is available for execution on the device",
        near="INFO 11-23 20:31:07 [cuda.py:1] kernel images are loaded",
        explains=("cuda_fault",),
    ),
    Signature(
        id="gpu_too_old",
        area=AREA,
        title="The GPU is too old for this release",
        severity=FAIL,
        patterns=(
            r"GPU compute capability below (?P<least>[\d.]+) unsupported",
            r"GPUs? with (?:CUDA|compute) capability (?:below|less than|lower than) (?P<least>[\d.]+)",
            r"requires device with capability >=? \((?P<least>[\d., ]+)\)",
            r"(?:requires|needs|only supports?) (?:GPUs? with )?(?:compute )?capability (?:of )?(?:at least |>= ?)"
            r"(?P<least>\d+(?:\.\d)?)",
        ),
        cause="The release, or the backend that was chosen, needs compute capability {least} or newer.",
        remedies=(
            "Leave the attention-backend and the quantization to vLLM, if extra_args name them.",
            "Serve from a newer GPU, or use an older engine_version that still knows this one.",
        ),
        sources=("vllm/platforms/cuda.py", "xformers"),
        sample="ValueError: GPU compute capability below 7.5 unsupported",
        near="RuntimeError: CUDA error: no kernel image is available for execution on the device",
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
        cause="dtype does not fit the GPU or the model[[ ({gpu})]][[ ({model})]].",
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
        near="INFO 11-26 12:54:37 config.py:1854] Downcasting torch.float32 to torch.bfloat16.",
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
        cause="The quantization[[ {method}]] needs [[compute capability {least}, and this GPU has {has}||another "
        "compute "
        "capability than this GPU has]].",
        remedies=(
            "Use another version of the model: AWQ and GPTQ run from compute capability 7.5.",
            "Serve from a newer GPU (FP8 from 8.9, NVFP4 natively from 10.0).",
        ),
        sources=("config/vllm.py:925",),
        sample="ValueError: The quantization method modelopt is not supported for the current GPU. Minimum capability: "
        "80. "
        "Current capability: 75.",
        near="WARNING 09-24 15:46:11 config.py:335] gptq quantization is not fully optimized yet. The speed can be "
        "slower than non-quantized models.",
    ),
    Signature(
        id="no_cuda_device",
        area=AREA,
        title="CUDA finds no GPU",
        severity=FAIL,
        patterns=(
            r"No CUDA GPUs are available",
            r"no CUDA-capable device is detected",
            r"CUDA driver initialization failed",
            r"CUDA error: initialization error",
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
        near="RuntimeError: The NVIDIA driver on your system is too old (found version 12040).",
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
        near="(EngineCore pid=812) INFO 11-23 20:31:07 [core.py:93] Initializing a V1 LLM engine (v0.33.0) with "
        "config: model='/srv/m', device_config=cuda, seed=0",
    ),
    Signature(
        id="cuda_fault",
        area=AREA,
        title="A GPU program failed while it ran",
        severity=FAIL,
        patterns=(
            r"CUDA error: (?P<what>an illegal memory access was encountered|unspecified launch failure|device-side "
            r"assert "
            r"triggered|misaligned address|an illegal instruction was encountered|invalid program counter|hardware "
            r"stack "
            r"error|operation not supported on global/shared address space|the launch timed out and was terminated)",
            r"CUBLAS_STATUS_(?P<what>EXECUTION_FAILED|INTERNAL_ERROR)",
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
        near="RuntimeError: CUDA error: no kernel image is available for execution on the device",
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
        near="Nov 05 13:55:26 node1 nv-fabricmanager[104230]: Successfully configured all the available GPUs and "
        "NVSwitches to route NVLink traffic.",
        where=FABRIC,
    ),
    Signature(
        id="fabric_needs_nvlsm",
        area=AREA,
        title="The fabric manager lacks what NVLink 5 needs",
        severity=FAIL,
        patterns=(
            r"Kernel module \"?(?P<module>[\w-]+)\"? has not been loaded",
            r"(?:nvlsm|NVLSM|NVLink Subnet Manager)\b.{0,80}(?:not (?:found|installed|running)|No such "
            r"file|fail|cannot)",
            r"(?:No|no) Infiniband device|Infiniband device.{0,40}not found",
            r"(?P<module>libibumad|libibumad\.so\.3|ibstat|infiniband-diags).{0,60}(?:not found|No such file"
            r"|cannot open shared)",
        ),
        cause="On HGX B200 and B300 the NVSwitches are reached as InfiniBand devices[[ ({module} is missing)]]: the "
        "fabric manager "
        "needs "
        "NVIDIA's subnet manager (nvlsm), infiniband-diags, and the kernel modules ib_umad and mlx5_ib.",
        remedies=(
            "Load the modules: modprobe ib_umad mlx5_ib, and write both to /etc/modules-load.d/nvlink5.conf; on Ubuntu "
            "they "
            "are part of linux-modules-extra of the kernel that runs.",
            "Install nvlsm and infiniband-diags (role cuda does on such hosts), then: systemctl restart "
            "nvidia-fabricmanager, with no engine running.",
        ),
        sources=("NVIDIA/gpu-operator#2781", "spectrocloud/CanvOS#700", "NVIDIA Fabric Manager guide"),
        sample="Jul 20 16:15:36 gpu01 nvidia-fabricmanager-start.sh[4753]: Kernel module "
        '"ib_umad" has not been loaded, fabric manager cannot be started',
        near="Jul 20 16:15:36 gpu01 nvidia-fabricmanager-start.sh[4753]: Polling for at least one Infiniband device "
        "before "
        "starting Fabric Manager...",
        where=FABRIC,
    ),
)
