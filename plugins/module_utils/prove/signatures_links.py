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
        cause="The ranks share buffers in /dev/shm, and it has no room for them[[: {wanted} wanted]][[, {free} free]].",
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
        near="OSError: [Errno 28] No space left on device: '/var/cache/vllm/chat/vllm/torch_compile_cache'\n"
        "gpu01:3663:4044 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via SHM/direct/direct",
        explains=("disk_full", "nccl_peer_lost"),
    ),
    Signature(
        id="nccl_timeout",
        area=AREA,
        title="A collective operation timed out",
        severity=FAIL,
        patterns=(
            r"Watchdog caught collective operation timeout: WorkNCCL\([^)]{0,60}?OpType=(?P<operation>\w+)[^)]*\) "
            r"ran for (?P<time>\d+) milliseconds",
            r"Watchdog caught collective operation timeout",
            r"Timed out waiting \d+ms for (?:recv|send) operation to complete",
            r"Some NCCL operations have failed or timed out",
            r"ncclAllReduce deadlock",
        ),
        cause="The ranks wait for one another and one of them does not come[[ ({operation})]]: P2P between the GPUs is "
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
        near="[rank1]:[I1218 20:17:21.433063423 ProcessGroupNCCL.cpp:981] [PG ID 0 PG GUID 0 Rank 1] ProcessGroupNCCL "
        "initialization options: size: 2, global rank: 1, TIMEOUT(ms): 600000",
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
        near="(APIServer pid=801) TimeoutError: The read operation timed out",
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
        near="(Worker_TP0 pid=815) INFO 11-23 20:31:07 [shm_broadcast.py:289] vLLM message queue communication handle:"
        " Handle(local_reader_ranks=[1], buffer_handle=(1, 4194304, 6, 'psm_3e1d8f2a'))",
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
        cause="A rank[[ ({peer})]] ended or its host went away; this one only saw it.",
        remedies=(
            "Read the journal of the other hosts of the engine: the first that died has the cause.",
            "See whether that host is up and the network between them holds.",
            "Restart the engine on all of its hosts together.",
        ),
        seen=True,
        sources=("NCCL src/include/nccl.h", "gloo/transport/tcp/pair.cc"),
        sample="RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
        "[10.0.0.12]:53422",
        near="(APIServer pid=801) ConnectionResetError: [Errno 104] Connection reset by peer",
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
        cause="This host cannot connect to [[{peer}||the host]], where the ranks meet.",
        remedies=(
            "See whether the instance runs on the other hosts: they have to be started together.",
            "Open all TCP ports between the hosts of the engine; vLLM chooses some of them itself.",
            "Correct network_interface and master_port; the role nccl_check says which of it is wrong.",
        ),
        sources=("torch TCPStore.cpp", "vLLM config/parallel.py:317"),
        sample="torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to "
        "connect "
        "to (10.0.0.11, 29501).",
        near="[W1218 20:27:21.433063423 socket.cpp:752] [c10d] The client socket has failed to connect to "
        "[gpu01]:29501 (errno: 97 - Address family not supported by protocol).",
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
        cause="NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names an interface[[ ({interface})]] that this host does "
        "not have.",
        remedies=("Correct network_interface of the instance (ip -brief address lists them).",),
        sources=("gloo/transport/tcp/device.cc", "NCCL src/bootstrap.cc"),
        sample="RuntimeError: [enforce fail at ../third_party/gloo/gloo/transport/tcp/device.cc:84] ifa != nullptr. "
        "Unable "
        "to find address for: eth7",
        near="gpu01:1:1 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.11<0>",
    ),
    Signature(
        id="nvls_failed",
        area=AREA,
        title="NVLink multicast cannot be used",
        severity=FAIL,
        patterns=(
            r"Failed to bind NVLink SHARP \(NVLS\) Multicast memory",
            r"transport/nvls\.cc.*(?:CUDA|Cuda) (?:failure|error)",
            r"cuMulticast.{0,100}(?:fail|error|not supported|not permitted)",
        ),
        cause="The fabric does not give NCCL multicast memory: the fabric manager was stopped or restarted while the "
        "GPUs "
        "were in use, or is of another version than the driver.",
        remedies=(
            "Drain the host, stop all engines, and reset the GPUs together with the fabric manager: systemctl stop "
            "nvidia-fabricmanager; nvidia-smi -r; systemctl start nvidia-fabricmanager. Or reboot the host. A restart "
            "of "
            "the fabric manager without a reset of the GPUs brings the fault back.",
            "Set NCCL_NVLS_ENABLE: '0' in environment until that can be done.",
            "See that the fabric manager is of exactly the driver's version.",
        ),
        sources=("NCCL src/transport/nvls.cc", "NVIDIA/nccl#1488", "NVIDIA/nccl#1562"),
        sample="gpu01:2311:2420 [3] transport/nvls.cc:259 NCCL WARN Failed to bind NVLink SHARP (NVLS) Multicast "
        "memory of "
        "size 2097152 : CUDA error 401 'the operation cannot be performed in the present state'",
        near="gpu01:2311:2420 [3] NCCL INFO NVLS multicast support is not available on dev 0",
    ),
    Signature(
        id="imex_missing",
        area=AREA,
        title="GPUs of several hosts share memory over NVLink, and no IMEX channel is open",
        severity=FAIL,
        patterns=(
            r"MNNVL .*(?:not working|not available|failed)",
            r"[Cc]heck the IMEX|nvidia-caps-imex-channels|IMEX "
            r"(?:channel|domain|daemon).{0,60}(?:not|fail|error|missing)",
            r"\bNCCL WARN Cuda failure 800\b",
            r"CUDA_ERROR_NOT_PERMITTED|cuMem\w{0,20}(?:Create|Export|Import).{0,80}operation not permitted",
        ),
        cause="Memory is shared over a multi-node NVLink fabric by IMEX: its service does not run, or its channel "
        "(/dev/nvidia-caps-imex-channels/channel0) is closed to the service's user.",
        remedies=(
            "Start nvidia-imex on all hosts of the NVLink domain (nvidia-imex-ctl -N shows them), and load the driver "
            "with "
            "NVreg_CreateImexChannel0=1.",
            "Set NCCL_MNNVL_ENABLE: '0' in environment: NCCL then uses the network between hosts.",
        ),
        sources=("NVIDIA/nccl#1925", "microsoft/mscclpp#467", "NVIDIA IMEX guide"),
        sample="gpu01:3769901:3769901 [1] mnnvl.cc:67 NCCL WARN MNNVL (cliqueSize 8) is available but not working on "
        "this "
        "system. Check the IMEX channel configuration (/dev/nvidia-caps-imex-channels). Set NCCL_MNNVL_ENABLE=0 to "
        "ignore this issue.",
        near="gpu01:1:1 [0] NCCL INFO MNNVL busId 0x1901000 fabric UUID 0.0 cliqueId 0x0 state 3 healthMask 0x0",
        explains=("nccl_failed",),
    ),
    Signature(
        id="memlock_too_low",
        area=AREA,
        title="Memory may not be pinned",
        severity=FAIL,
        patterns=(
            r"ibv_.{0,100}Cannot allocate memory",
            r"(?:RLIMIT_MEMLOCK|ulimit -l|memlock|[Ll]ocked memory|max locked memory).{0,80}"
            r"(?:too (?:low|small)|exceed|limit|unlimited|increase)",
            r"(?:mlock|cudaHostAlloc|cudaHostRegister|pin(?:ned)?[_ ]memory).{0,80}(?:Cannot allocate memory"
            r"|out of memory|resource)",
        ),
        cause="RDMA and copies to the GPU pin memory of the host, and the limit of locked memory is reached.",
        remedies=(
            "See systemctl show {unit} -p LimitMEMLOCK: the unit sets infinity, and a drop-in may lower it.",
            "In a container give --ulimit memlock=-1.",
            "See that the host has memory free (free -g).",
        ),
        sources=("ibv_reg_mr(3)", "NVIDIA/nccl#426"),
        sample="gpu01:76786:77145 [3] misc/ibvwrap.cc:160 NCCL WARN Call to ibv_reg_mr failed with error Cannot "
        "allocate "
        "memory",
        near="gpu01:76786:77145 [3] misc/ibvwrap.cc:284 NCCL WARN Call to ibv_modify_qp failed with error No such "
        "device",
        explains=("nccl_failed", "rdma_failed"),
    ),
    Signature(
        id="rdma_failed",
        area=AREA,
        title="RDMA between the hosts does not work",
        severity=FAIL,
        patterns=(
            r"NET/IB ?: (?:Got completion|.*(?:[Ff]ailed|error|Unable|No such|timed? ?out))",
            r"Call to ibv_\w+ failed(?: with error (?P<what>.+))?$",
            r"ibv_\w+ failed|ncclIbGid\w*|Failed to (?:find|get|query) (?:a )?(?:valid )?GID",
            r"ibv_modify_qp|No active IB device|local GID index .* not",
            r"mlx5_\w+\W.*(?:syndrome|failed|completion with error)",
        ),
        cause="NCCL uses InfiniBand or RoCE, and a queue pair cannot be set up or lost its peer[[ ({what})]]: a "
        "wrong GID "
        "index, "
        "an adapter of another network, or a fabric that does not route between the hosts.",
        remedies=(
            "See the adapters and their GIDs: ibdev2netdev, show_gids, ibstat. RoCE v2 needs the index whose GID holds "
            "the "
            "host's IPv4 address: NCCL_IB_GID_INDEX in environment.",
            "Name the adapters that connect the hosts: NCCL_IB_HCA (mlx5_0,mlx5_1).",
            "Set NCCL_IB_DISABLE: '1' to see whether TCP works: then it is RDMA and nothing else.",
            "The role nccl_check measures it between the hosts.",
        ),
        sources=("NVIDIA/nccl#925", "NVIDIA/nccl#799", "NVIDIA/nccl#769", "NCCL src/transport/net_ib.cc"),
        sample="gpu01:76786:77145 [3] transport/net_ib.cc:839 NCCL WARN NET/IB : Got completion from peer "
        "10.0.0.12<38081> with status=12 opcode=0 len=0 vendor err 129 (Recv)",
        near="gpu01:1:1 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/RoCE [RO]; OOB eth0:10.0.0.11<0>",
        explains=("nccl_failed", "nccl_peer_lost"),
    ),
    Signature(
        id="gpu_named_twice",
        area=AREA,
        title="Two ranks use one GPU",
        severity=FAIL,
        patterns=(
            r"Duplicate GPU detected\s*: rank (?P<one>\d+) and rank (?P<two>\d+) both on CUDA device (?P<gpu>\w+)",
        ),
        cause="Ranks {one} and {two} are both on GPU {gpu}: gpus or CUDA_VISIBLE_DEVICES names it twice, or two hosts "
        "of the "
        "engine are one.",
        remedies=("Name each GPU once in gpus, and each host once in nodes.",),
        sources=("NCCL src/init.cc",),
        sample="gpu01:1:1 [1] init.cc:943 NCCL WARN Duplicate GPU detected : rank 0 and rank 1 both on CUDA device "
        "1b000",
        near="INFO Detected 2 GPUs",
        explains=("nccl_failed",),
    ),
    Signature(
        id="nccl_versions_differ",
        area=AREA,
        title="The hosts of an engine have different versions of NCCL",
        severity=FAIL,
        patterns=(
            r"NCCL WARN .*(?:[Mm]ismatch\w* (?:NCCL )?version|version mismatch|NCCL versions? (?:differ|mismatch))",
        ),
        cause="Ranks of two versions of NCCL cannot form a group: the hosts run different releases, or one loads "
        "another "
        "NCCL (LD_LIBRARY_PATH, VLLM_NCCL_SO_PATH).",
        remedies=(
            "Run deploy.yml over all hosts of the engine with one engine_version.",
            "Take LD_LIBRARY_PATH and VLLM_NCCL_SO_PATH out of environment.",
        ),
        sources=("NCCL src/bootstrap.cc",),
        sample="gpu01:1:1 [1] bootstrap.cc:77 NCCL WARN Bootstrap : mismatch in NCCL versions, NCCL version mismatch "
        "22705 "
        "vs 22809",
        near="gpu01:1:1 [0] NCCL INFO NCCL version 2.28.9+cuda13.0",
        explains=("nccl_failed",),
    ),
    Signature(
        id="gloo_on_loopback",
        area=AREA,
        title="A host of the engine tells its peers the address of its loopback",
        severity=FAIL,
        patterns=(
            r"remote=\[?(?P<peer>127\.\d+\.\d+\.\d+|::1|localhost)",
            r"connectFullMesh failed.*?(?P<peer>127\.\d+\.\d+\.\d+|::1|localhost)",
            r"(?:gloo|Gloo).{0,80}(?:connect|refused|timeout)[^\d:]{0,40}\b(?P<peer>127\.\d+\.\d+\.\d+|::1)\b",
        ),
        cause="Ranks on several hosts were given {peer}, which every host takes for itself: its own name resolves to "
        "the "
        "loopback (/etc/hosts has 127.0.1.1), and gloo takes the address of the name.",
        remedies=(
            "Set network_interface of the instance, so that GLOO_SOCKET_IFNAME and VLLM_HOST_IP name the real network.",
            "Take the line '127.0.1.1 <name>' out of /etc/hosts, or give the name its real address there.",
        ),
        sources=("gloo/transport/tcp/device.cc", "vLLM envs.py, VLLM_HOST_IP"),
        sample="RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no "
        "error; "
        "connect: Connection refused, remote=[127.0.1.1]:41353",
        near="RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
        "[10.0.0.12]:53422",
        explains=("nccl_peer_lost", "hosts_do_not_meet"),
    ),
    Signature(
        id="custom_all_reduce_failed",
        area=AREA,
        title="vLLM's own all-reduce does not work between these GPUs",
        severity=FAIL,
        patterns=(
            r"custom_all_reduce\.cuh?:\d+ '(?P<what>[^']+)'",
            r"(?P<what>peer access is not supported between these two devices)",
            r"(?:custom_all_?reduce|CustomAllreduce|init_custom_ar|register_buffer|open_mem_handle|cudaIpc\w).{0,120}"
            r"(?:[Ee]rror|fail|invalid)",
            r"quick_?(?:all_)?reduce\S{0,20}:\d.{0,60}(?:[Ee]rror|fail)",
        ),
        cause="It writes to the memory of the other GPUs, and that fails[[ ({what})]]: no peer access between them, or "
        "memory "
        "that cannot be shared (expandable_segments).",
        remedies=(
            "Set disable-custom-all-reduce: true in extra_args; NCCL takes its place.",
            "Leave expandable_segments out of PYTORCH_CUDA_ALLOC_CONF.",
            "Run the role nccl_check, which says whether peer access works at all (ACS and the IOMMU break it).",
        ),
        sources=("vllm-project/vllm#406", "ai-dynamo/dynamo#1229", "csrc/custom_all_reduce.cuh"),
        sample="Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:307 'peer access is not supported between "
        "these two "
        "devices'",
        near="WARNING 07-12 08:11:31 [custom_all_reduce.py:137] Custom allreduce is disabled because your platform "
        "lacks GPU "
        "P2P capability or P2P test failed.",
        explains=("cuda_fault",),
    ),
    Signature(
        id="nccl_failed",
        area=AREA,
        title="NCCL could not set up the group",
        severity=FAIL,
        patterns=(
            r"NCCL error(?: in)?: .*(?:unhandled (?:cuda|system) error|internal error|invalid usage|invalid argument)",
            r"nccl(?:SystemError|UnhandledCudaError|InternalError|InvalidUsage|InvalidArgument)",
        ),
        cause="NCCL failed; its own line before that, with 'NCCL WARN', says with what.",
        remedies=(
            "Read the line 'NCCL WARN'. Where there is none, set NCCL_DEBUG: WARN in environment, restart the instance "
            "and "
            "run the doctor again.",
            "Run the role nccl_check on the instance: it says which of the links fails, and over which transport.",
        ),
        generic=True,
        sources=("torch ProcessGroupNCCL.cpp", "distributed/device_communicators/pynccl_wrapper.py"),
        sample="(Worker_TP1 pid=815) ERROR 05-26 01:59:07 [multiproc_executor.py:871] RuntimeError: NCCL error: "
        "unhandled "
        "system error (run with NCCL_DEBUG=INFO for details)",
        near="INFO NCCL error handling is asynchronous",
    ),
    Signature(
        id="compiled_while_serving",
        area=AREA,
        title="A request waited for a kernel to be compiled",
        severity=WARN,
        patterns=(r"\b(?P<backend>\w+) (?:kernel )?JIT compilation during inference: (?P<kernel>\S+)",),
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
        near="(EngineCore pid=812) INFO 11-23 20:31:07 [jit_monitor.py:60] Kernel JIT monitor activated; monitored JIT"
        " compilations during inference will use mode=warn.",
    ),
    Signature(
        id="kernels_not_prebuilt",
        area=AREA,
        title="Kernels are compiled at each first start",
        severity=WARN,
        patterns=(r"FlashInfer's precompiled kernels are missing or do not match",),
        cause="The release has no prebuilt FlashInfer kernels, so that a first start takes minutes longer.",
        remedies=(
            "Run deploy.yml with engine_download_kernels: true, which brings them while the release is installed.",
            "Or install the CUDA toolkit (role cuda, cuda_toolkit), and live with the longer first start.",
        ),
        sources=("utils/flashinfer.py:143",),
        sample="WARNING 11-23 20:31:07 [flashinfer.py:143] FlashInfer's precompiled kernels are missing or do not "
        "match "
        "flashinfer-python 0.7.2.post1 (no cubins). FlashInfer then downloads and compiles kernels at startup, which "
        "can "
        "take several minutes",
        near="INFO 11-23 20:31:07 [topk_topp_sampler.py:36] Using FlashInfer for top-p & top-k sampling.",
    ),
)
