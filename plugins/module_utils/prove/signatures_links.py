# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: NCCL, gloo, shared memory, the first request. Data; vLLM's lines are those of 0.33."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, WARN, Signature

AREA = "Links between ranks"
P2P = (
    "Run the role nccl_check on the instance: it measures the links with P2P on and off and says which it is.",
    "Turn off ACS (BIOS, or setpci ECAP_ACS+6.w=0000 on the bridges) and the IOMMU's translation (iommu=pt).",
    "Set NCCL_P2P_DISABLE: '1' in environment and disable-custom-all-reduce: true in extra_args, and live with the "
    "loss.",
)
SIGNATURES = (
    Signature(
        id="shm_too_small",
        area=AREA,
        title="/dev/shm is too small",  # noqa: S108 - a title
        severity=FAIL,
        patterns=(
            r"Insufficient space in /dev/shm for .+?: (?P<wanted>\d+ MiB) required, (?P<free>\d+ MiB) free",
            r"Error while creating shared memory segment /dev/shm/nccl-\S+ \(size (?P<wanted>\d+)\)",
            r"failed to extend /dev/shm/nccl-\S+ to (?P<wanted>\d+ bytes)",
            r"No space left on device.*/dev/shm|/dev/shm.*No space left on device",
            r"NCCL shared memory error",
            r"unable to (?:write to|mmap|allocate) .*shared memory|Bus error.*shm",
        ),
        cause="The ranks share buffers in /dev/shm, and it has no room for them ({wanted} wanted, {free} free).",
        remedies=(
            "Remove what dead engines left there (ls /dev/shm; files named nccl-* and psm_*), when no engine runs.",
            "Make it larger: mount -o remount,size=8G /dev/shm, and in /etc/fstab; 160 MiB for each engine, 240 MiB "
            "for "
            "each rank and NCCL's part have to fit.",
            "In a container give --shm-size 8g, or --ipc=host.",
        ),
        sources=(
            "distributed/device_communicators/shm_broadcast.py:239",
            "MiniMax-AI/MiniMax-01#42",
            "vllm-project/vllm#1393",
            "llm-d/llm-d#352",
        ),
        sample="[2025-10-13 09:06:25] host:3663:4044 [0] misc/shmutils.cc:129 NCCL WARN Error while creating shared "
        "memory segment /dev/shm/nccl-Ewjreo (size 33030528), error: No space left on device (28)",
        explains=("disk_full", "nccl_peer_lost"),
    ),
    Signature(
        id="nccl_timeout",
        area=AREA,
        title="A collective operation timed out",
        severity=FAIL,
        patterns=(
            r"Watchdog caught collective operation timeout: WorkNCCL\(.*?OpType=(?P<operation>\w+).*?ran for "
            r"(?P<time>\d+) milliseconds",
            r"Watchdog caught collective operation timeout",
            r"Timed out waiting \d+ms for (?:recv|send) operation to complete",
            r"Some NCCL operations have failed or timed out",
            r"ncclAllReduce deadlock",
        ),
        cause="The ranks wait for one another and one of them does not come ({operation}): P2P between the GPUs is "
        "broken, a rank died, or hosts cannot talk.",
        remedies=(
            "Look at what other ranks printed before, and at the kernel's log for Xid: a rank that died first is the "
            "cause.",
            *P2P,
            "Over several hosts open all TCP ports between them, and name network_interface.",
            "Where a host only loads its weights more slowly, raise distributed-timeout-seconds in extra_args.",
        ),
        sources=(
            "torch ProcessGroupNCCL.cpp",
            "config/parallel.py:364",
            "vllm-project/vllm#9920",
            "NVIDIA/nccl#2079",
            "vllm-project/vllm#51513",
        ),
        sample="[rank1]:[E1218 20:27:21.433063423 ProcessGroupNCCL.cpp:629] [Rank 1] Watchdog caught collective "
        "operation "
        "timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, NumelIn=131072000, NumelOut=131072000, Timeout(ms)=600000) ran "
        "for 600081 milliseconds before timing out.",
    ),
    Signature(
        id="rank_hangs",
        area=AREA,
        title="A rank does not answer the engine",
        severity=FAIL,
        patterns=(r"TimeoutError: RPC call to (?P<method>\w+) timed out",),
        cause="A step ({method}) took longer than VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS (300 s): a rank hangs in a "
        "collective operation or in a kernel.",
        remedies=(
            "Look at the kernel's log for Xid, and at nvidia-smi: one GPU at 0 % and the others at 100 % is a hang.",
            *P2P,
        ),
        sources=("v1/executor/multiproc_executor.py:442", "vllm-project/vllm#14025", "ROCm/vllm#390"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1512] TimeoutError: RPC call to execute_model timed "
        "out.",
        explains=("rank_waits",),
    ),
    Signature(
        id="rank_waits",
        area=AREA,
        title="Ranks wait for one another",
        severity=WARN,
        patterns=(r"No available shared memory broadcast block found in (?P<time>\d+) seconds",),
        cause="For {time} s a rank has taken nothing of what it was told: it compiles, or it hangs.",
        remedies=(
            "Wait, if the engine is still starting or has just met a new shape: compiling takes minutes.",
            "If it comes again and again, a rank hangs: see the fault 'A collective operation timed out'.",
        ),
        sources=("distributed/device_communicators/shm_broadcast.py:109",),
        sample="(EngineCore pid=812) INFO 11-23 20:33:07 [shm_broadcast.py:498] No available shared memory broadcast "
        "block "
        "found in 60 seconds. This typically happens when some processes are hanging or doing some time-consuming work "
        "(e.g. compilation, weight/kv cache quantization).",
    ),
    Signature(
        id="nccl_peer_lost",
        area=AREA,
        title="Another rank went away",
        severity=FAIL,
        patterns=(
            r"ncclRemoteError: A call failed possibly due to a network error or a remote process exiting",
            r"remote process exited or there was a network error",
            r"Connection closed by peer \[(?P<peer>[^\]]+)\]",
            r"Connection reset by peer.*(?:gloo|nccl|TCPStore)",
        ),
        cause="A rank ({peer}) ended or its host went away; this one only saw it.",
        remedies=(
            "Read the journal of the other hosts of the engine: the first that died has the cause.",
            "See whether that host is up and the network between them holds.",
            "Restart the engine on all of its hosts together.",
        ),
        sources=("NCCL src/include/nccl.h", "gloo/transport/tcp/pair.cc"),
        sample="RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
        "[10.0.0.12]:53422",
    ),
    Signature(
        id="hosts_do_not_meet",
        area=AREA,
        title="The hosts of an engine do not find one another",
        severity=FAIL,
        patterns=(
            r"client socket has timed out after (?P<time>\w+) while trying to connect to \((?P<peer>[^)]+)\)",
            r"client socket has failed to connect to any network address of \((?P<peer>[^)]+)\)",
            r"DistStoreError: Timed out after \d+ seconds waiting for clients",
        ),
        cause="This host cannot connect to {peer}, where the ranks meet.",
        remedies=(
            "See whether the instance runs on the other hosts: they have to be started together.",
            "Open all TCP ports between the hosts of the engine; vLLM chooses some of them itself.",
            "Correct network_interface and master_port; the role nccl_check says which of it is wrong.",
        ),
        sources=("torch TCPStore.cpp", "vLLM config/parallel.py:317"),
        sample="torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to "
        "connect "
        "to (10.0.0.11, 29501).",
    ),
    Signature(
        id="interface_missing",
        area=AREA,
        title="The network interface for the ranks does not exist",
        severity=FAIL,
        patterns=(
            r"Unable to find address for: (?P<interface>\S+)",
            r"Bootstrap : no socket interface found",
            r"No interface found in the same subnet",
            r"ifa != nullptr\. Unable to find interface (?P<interface>\S+)",
        ),
        cause="NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names an interface ({interface}) that this host does not have.",
        remedies=("Correct network_interface of the instance (ip -brief address lists them).",),
        sources=("gloo/transport/tcp/device.cc", "NCCL src/bootstrap.cc"),
        sample="RuntimeError: [enforce fail at ../third_party/gloo/gloo/transport/tcp/device.cc:84] ifa != nullptr. "
        "Unable "
        "to find address for: eth7",
    ),
    Signature(
        id="nvls_failed",
        area=AREA,
        title="NVLink multicast cannot be used",
        severity=FAIL,
        patterns=(
            r"Failed to bind NVLink SHARP \(NVLS\) Multicast memory",
            r"transport/nvls\.cc.*(?:CUDA|Cuda) failure",
        ),
        cause="The fabric does not give NCCL multicast memory: the fabric manager was restarted, or is of another "
        "version.",
        remedies=(
            "Restart nvidia-fabricmanager with no engine running, then the engines.",
            "Set NCCL_NVLS_ENABLE: '0' in environment until that is done.",
        ),
        sources=("NCCL src/transport/nvls.cc",),
        sample="gpu01:2311:2420 [3] transport/nvls.cc:259 NCCL WARN Failed to bind NVLink SHARP (NVLS) Multicast "
        "memory of "
        "size 2097152 : CUDA error 401 'the operation cannot be performed in the present state'",
    ),
    Signature(
        id="nccl_failed",
        area=AREA,
        title="NCCL could not set up the group",
        severity=FAIL,
        patterns=(r"NCCL error(?: in)?: .*(?:unhandled (?:cuda|system) error|internal error|invalid usage)",),
        cause="NCCL failed; the lines before it with 'NCCL WARN' say with what.",
        remedies=(
            "Set NCCL_DEBUG: WARN in environment, restart the instance and run the doctor again.",
            "Two ranks on one GPU ('Duplicate GPU detected') need gpus without repetition.",
            *P2P,
        ),
        generic=True,
        sources=("torch ProcessGroupNCCL.cpp", "distributed/device_communicators/pynccl_wrapper.py"),
        sample="(Worker_TP1 pid=815) ERROR 05-26 01:59:07 [multiproc_executor.py:871] RuntimeError: NCCL error: "
        "unhandled "
        "system error (run with NCCL_DEBUG=INFO for details)",
    ),
    Signature(
        id="compiled_while_serving",
        area=AREA,
        title="A request waited for a kernel to be compiled",
        severity=WARN,
        patterns=(r"(?P<backend>\w+) (?:kernel )?JIT compilation during inference: (?P<kernel>\S+)",),
        cause="The first request of a shape had to wait while {backend} compiled {kernel}: the warm-up did not use "
        "that "
        "shape.",
        remedies=(
            "Run deploy.yml again after a restart, so that the role warmup sends its requests before users do.",
            "Raise warmup_prompt_tokens and warmup_concurrency to what traffic uses.",
            "Keep the cache of the instance (/var/cache/vllm): compiled kernels are found there again.",
        ),
        sources=("utils/jit_monitor.py:124", "vllm-project/vllm#19824"),
        sample="(EngineCore pid=812) WARNING 11-23 20:41:07 [jit_monitor.py:140] Triton kernel JIT compilation during "
        "inference: _fwd_kernel. This causes a latency spike; consider extending warmup to cover this shape/config.",
    ),
    Signature(
        id="kernels_not_prebuilt",
        area=AREA,
        title="Kernels are compiled at each first start",
        severity=WARN,
        patterns=(r"FlashInfer's precompiled kernels are missing or do not match",),
        cause="The release has no prebuilt FlashInfer kernels, so that a first start takes minutes longer.",
        remedies=("Run 'vllm download-kernels' with the release's Python.",),
        sources=("utils/flashinfer.py:143",),
        sample="WARNING 11-23 20:31:07 [flashinfer.py:143] FlashInfer's precompiled kernels are missing or do not "
        "match "
        "flashinfer-python 0.7.2.post1 (no cubins). FlashInfer then downloads and compiles kernels at startup, which "
        "can "
        "take several minutes",
    ),
)
