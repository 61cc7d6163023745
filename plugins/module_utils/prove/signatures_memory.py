# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: memory of GPUs and of the host. Data; lines of vLLM 0.33 where not said otherwise."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, WARN, Signature

AREA = "Memory"
SIGNATURES = (
    Signature(
        id="kv_cache_too_small",
        area=AREA,
        title="The KV cache does not hold one request of full length",
        severity=FAIL,
        patterns=(
            r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+) GiB KV cache is needed, which is larger than the "
            r"available KV cache memory \((?P<available>-?[\d.]+) GiB\)(?:.*estimated maximum model length is "
            r"(?P<fits>\d+))?",
            r"max seq len \((?P<length>\d+)\) is larger than the maximum number of tokens that can be stored in KV "
            r"cache \((?P<fits>\d+)\)",
            r"KV cache (?:is )?needed\b.{0,40}larger than (?:the )?available.{0,30}\((?P<available>-?[\d.]+) GiB\)",
        ),
        cause="One request of max_model_len[[ {length}]] needs [[{needed} GiB of KV cache||more KV cache than there "
        "is]]"
        "[[, and {available} GiB are left]][[ (enough for {fits} tokens)]].",
        remedies=(
            "Lower max_model_len, to the estimated length that the line names or less (or write max_model_len: auto).",
            "Raise gpu_memory_utilization (default 0.92), or kv_cache_memory_gib where that is set, if the GPU has "
            "room.",
            "Set kv_cache_dtype: fp8, which halves it.",
            "Use a quantized version of the model, or more GPUs (tensor_parallel_size).",
            "With pipeline_parallel_size, give the fullest stage fewer layers (VLLM_PP_LAYER_PARTITION): the poorest "
            "rank decides.",
        ),
        sources=("v1/core/kv_cache_planning.py:50", "vllm-project/vllm#27508", "vllm-project/vllm#34076"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] ValueError: To serve at least one request "
        "with "
        "the model's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache "
        "memory (9.31 GiB). Based on the available memory, the estimated maximum model length is 76272. Try increasing "
        "`gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or decreasing `max_model_len` "
        "when initializing the engine.",
        near="(EngineCore pid=812) INFO 11-23 20:31:07 [kv_cache_utils.py:1592] Auto-fit max_model_len: reduced from "
        "131072 to 76272 to fit in available GPU memory (9.31 GiB available for KV cache)",
    ),
    Signature(
        id="no_kv_cache",
        area=AREA,
        title="The weights leave no memory for the KV cache",
        severity=FAIL,
        patterns=(r"No available memory for the cache blocks",),
        cause="After the weights and the largest step nothing of the memory budget is left for the KV cache.",
        remedies=(
            "Raise kv_cache_memory_gib where that is set; else raise gpu_memory_utilization if the GPU has room.",
            "Lower max_num_batched_tokens, which the largest step is measured with.",
            "Use a quantized version of the model.",
            "Use more GPUs (tensor_parallel_size), or GPUs with more memory; plan.yml says how many.",
        ),
        sources=("v1/core/kv_cache_planning.py:57", "vllm-project/vllm#23278"),
        sample="(EngineCore pid=812) ERROR 08-21 09:14:02 [core.py:700] ValueError: No available memory for the cache "
        "blocks. "
        "Try increasing `gpu_memory_utilization` when initializing the engine.",
        near="(Worker_TP0 pid=815) INFO 08-21 09:14:02 [gpu_worker.py:391] Available KV cache memory: 0.61 GiB",
    ),
    Signature(
        id="gpu_memory_taken",
        area=AREA,
        title="Somebody else holds memory of the GPU",
        severity=FAIL,
        patterns=(
            r"Free memory on device (?:(?P<device>\S+) )?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less "
            r"than desired GPU memory utilization \((?P<share>[\d.]+), (?P<wanted>[\d.]+) GiB\)",
            r"Free memory (?P<free>[\d.]+)/(?P<total>[\d.]+) GiB < (?P<wanted>[\d.]+) GiB \((?P<share>[\d.]+)\)",
        ),
        cause="[[{device}||A GPU]] has {free} of {total} GiB free, and gpu_memory_utilization {share} asks for "
        "{wanted} "
        "GiB. One busy GPU stops the whole group.",
        remedies=(
            "See who holds it (nvidia-smi; a worker of an engine that died may be left over) and stop that.",
            "Give the instance other GPUs (gpus: a list of indexes).",
            "Lower gpu_memory_utilization below {free} / {total}: on cards with a display, and where CPU and GPU share "
            "the memory (GB10, GH200), the default is too high.",
        ),
        sources=("v1/worker/utils.py:757", "vllm-project/vllm#20305", "vllm-project/vllm#46307"),
        sample="(Worker_TP1 pid=815) ERROR 04-02 11:05:44 [multiproc_executor.py:871] ValueError: Free memory on "
        "device "
        "cuda:1 (60.85/79.19 GiB) on startup is less than desired GPU memory utilization (0.95, 75.23 GiB). Decrease "
        "GPU memory utilization or reduce GPU memory used by other processes.",
        near="(Worker_TP1 pid=815) INFO 10-23 15:14:56 [gpu_worker.py:391] Free memory on device (78.70/79.19 GiB) on "
        "startup. Desired GPU memory utilization is (0.92, 72.85 GiB).",
        explains=("gpu_out_of_memory",),
    ),
    Signature(
        id="cpu_memory_taken",
        area=AREA,
        title="The host has less memory free than the CPU engine wants",
        severity=FAIL,
        patterns=(
            r"Available memory on node (?P<node>\S+) "
            r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on (?:startup|kv cache)",
        ),
        cause="NUMA node {node} has {free} of {total} GiB free, less than the engine asks for.",
        remedies=(
            "Set kv_cache_memory_gib: without it the CPU engine takes a share of all of the host's memory.",
            "Stop what else holds the memory, or lower kv_cache_memory_gib.",
        ),
        sources=("v1/worker/cpu_worker.py:84",),
        sample="(Worker pid=815) ERROR 11-23 20:31:07 [multiproc_executor.py:871] ValueError: Available memory on node "
        "0 (3.90/24.00 GiB) on startup is less than desired CPU memory utilization (0.92, 22.08 GiB).",
        near="(Worker_TP0 pid=815) INFO 11-24 04:06:04 [cpu_worker.py:260] Explicitly set (0.5/21.21) GiB for KV cache"
        " on node 0.",
    ),
    Signature(
        id="sampler_out_of_memory",
        area=AREA,
        title="Out of GPU memory after the KV cache was allocated",
        severity=FAIL,
        patterns=(
            r"CUDA out of memory occurred when warming up (?:sampler|pooler).*?with (?P<requests>\d+) dummy requests",
        ),
        cause="The buffers of {requests} requests at once do not fit beside the KV cache: gpu_memory_utilization "
        "leaves "
        "too little outside of it.",
        remedies=(
            "Lower max_num_seqs.",
            "Lower gpu_memory_utilization (0.90 where 0.95 failed).",
        ),
        sources=("v1/worker/gpu_model_runner.py:5990", "openai/gpt-oss-20b at 0.95 on H100, vLLM 0.19"),
        sample="(EngineCore pid=812) ERROR 04-02 12:20:11 [core.py:1108] RuntimeError: CUDA out of memory occurred "
        "when "
        "warming up sampler with 1024 dummy requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization` "
        "when initializing the engine.",
        near="(EngineCore pid=812) ERROR 04-02 12:20:11 [core.py:1108] torch.OutOfMemoryError: CUDA out of memory. "
        "Tried to allocate 2.00 GiB.",
        explains=("gpu_out_of_memory",),
    ),
    Signature(
        id="gpu_out_of_memory",
        area=AREA,
        title="Out of GPU memory",
        severity=FAIL,
        patterns=(
            r"(?:CUDA|HIP) out of memory\. Tried to allocate (?P<wanted>[\d.]+ \w+)\.(?: GPU (?P<gpu>\d+) has a total "
            r"capacity of (?P<total>[\d.]+ \w+)(?: of which (?P<free>[\d.]+ \w+) is free)?)?",
            r"CUDA error: out of memory",
            r"CUDA out of memory",
        ),
        cause="[[GPU {gpu}||A GPU]] has [[{free} of {total} left and {wanted} were asked for||no room for what was "
        "asked "
        "for]].",
        remedies=(
            "See who else holds memory of the GPU (nvidia-smi) and stop that.",
            "Lower max_num_batched_tokens, and max_model_len where it is long: both make the largest step smaller.",
            "Lower gpu_memory_utilization, if it happened after the KV cache was allocated: graphs and NCCL need room.",
            "Use a quantized version of the model, or more GPUs with tensor_parallel_size; data parallelism repeats "
            "the "
            "attention weights, and the last stage of a pipeline holds the head.",
        ),
        sources=("torch.OutOfMemoryError", "vllm-project/vllm#36861", "LMCache/LMCache#2521", "gpustack/gpustack#1249"),
        sample="01-19 23:55:19 [core.py:866] torch._inductor.exc.InductorError: RuntimeError: Failed to run autotuning "
        "code block: CUDA out of memory. Tried to allocate 1.02 GiB. GPU 0 has a total capacity of 15.47 GiB of which "
        "412.00 MiB is free.",
        near="numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.02 GiB for an array with shape (131072, "
        "2048)",
    ),
    Signature(
        id="memory_changed_while_measured",
        area=AREA,
        title="Memory of the GPU was freed while the engine measured it",
        severity=FAIL,
        patterns=(r"Error in memory profiling\. Initial free memory (?P<before>[\d.]+) GiB, current free memory",),
        cause="Another process of the GPU came or went while this one measured what is free: two instances on one GPU "
        "were started together.",
        remedies=(
            "Start the instance again, now that the other one has settled.",
            "Give each instance GPUs of its own.",
            "Set kv_cache_memory_gib, which needs no measurement.",
        ),
        sources=("v1/worker/gpu_worker.py:730", "vllm-project/vllm#55827"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] AssertionError: Error in memory profiling. "
        "Initial free memory 44.12 GiB, current free memory 60.80 GiB. This happens when other processes sharing the "
        "same container release GPU memory while vLLM is profiling during initialization.",
        near="(Worker pid=815) INFO 11-23 20:31:07 [gpu_worker.py:276] Memory profiling takes 4.41 seconds. Total non "
        "KV cache memory: 16.30GiB; torch peak memory increase: 1.22GiB",
    ),
    Signature(
        id="state_cache_too_small",
        area=AREA,
        title="A hybrid model has fewer state blocks than sequences",
        severity=FAIL,
        patterns=(r"max_num_seqs \((?P<sequences>\d+)\) exceeds available Mamba cache blocks \((?P<blocks>\d+)\)",),
        cause="Each sequence of a hybrid model needs a block of state: {sequences} were asked for, {blocks} fit.",
        remedies=(
            "Set max_num_seqs: {blocks} or less.",
            "Raise gpu_memory_utilization, if the GPU has room; it seldom makes up for it.",
        ),
        sources=("config/compilation.py:1519", "vllm-project/recipes#831"),
        sample="ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (939). Each decode sequence "
        "requires one Mamba cache block, so CUDA graph capture cannot proceed.",
        near="(EngineCore pid=812) INFO 11-23 20:31:07 [config.py:497] Setting attention block size to 544 tokens to "
        "ensure that attention page size is >= mamba page size.",
    ),
    Signature(
        id="max_model_len_too_long",
        area=AREA,
        title="max_model_len is more than the model was made for",
        severity=FAIL,
        patterns=(
            r"User-specified max_model_len \((?P<length>\d+)\) is greater than the derived max_model_len "
            r"\((?:[\w.]+=)?(?P<most>\d+)?",
        ),
        cause="max_model_len is {length}, and the model's config.json says {most}.",
        remedies=(
            "Set max_model_len: {most} or less.",
            "Give the rope scaling of the model's card in extra_args (hf-overrides), if the model is meant for more.",
        ),
        sources=("config/model.py:2545",),
        sample="  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len "
        "(max_position_embeddings=2048.0 or model_max_length=None in model's config.json). To allow overriding this "
        "maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1.",
        near="WARNING 11-23 20:31:07 [model.py:2551] User-specified max_model_len (99999) is greater than the derived "
        "max_model_len (max_position_embeddings=2048.0 or model_max_length=None in model's config.json). "
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN must be used with extreme caution.",
    ),
    Signature(
        id="batch_smaller_than_request",
        area=AREA,
        title="max_num_batched_tokens is too small",
        severity=FAIL,
        patterns=(
            r"max_num_batched_tokens \((?P<tokens>\d+)\) (?:is smaller than max_model_len|must be greater than or "
            r"equal to max_num_seqs)",
        ),
        cause="max_num_batched_tokens is {tokens}, less than a request or than one token for each sequence.",
        remedies=("Raise max_num_batched_tokens, or lower max_num_seqs or max_model_len.",),
        sources=("config/scheduler.py:320",),
        sample="  Value error, max_num_batched_tokens (64) must be greater than or equal to max_num_seqs (128). "
        "[type=value_error, input_value=ArgsKwargs((), {'max_num...}), input_type=ArgsKwargs]",
        near="WARNING 11-23 20:31:07 [scheduler.py:290] max_num_batched_tokens (8192) exceeds max_num_seqs * "
        "max_model_len (4096). This may lead to unexpected behavior.",
    ),
    Signature(
        id="host_out_of_memory",
        area=AREA,
        title="The kernel killed the engine for want of host memory",
        severity=FAIL,
        patterns=(
            r"killed by the OOM killer",
            r"Failed with result 'oom-kill'",
        ),
        cause="The host, or the unit's limit, had no memory left, and the kernel killed a process of the engine.",
        remedies=(
            "See what the kernel's log says (journalctl -k | grep -i 'out of memory'): a limit of the unit (MemoryMax) "
            "or "
            "the whole host.",
            "Raise or remove MemoryMax of the unit, where that is the limit.",
            "Lower kv_cache_memory_gib on CPUs, cpu_offload_gb and swap of the KV cache on GPUs.",
            "Load one instance after the other, or give the host more memory: while weights are read the host holds a "
            "part of them.",
        ),
        sources=("systemd.service(5), Result=oom-kill",),
        sample="vllm@chat.service: A process of this unit has been killed by the OOM killer.\n"
        "vllm@chat.service: Failed with result 'oom-kill'.",
        near="vllm@chat.service: Failed with result 'signal'.",
    ),
    Signature(
        id="preempted",
        area=AREA,
        title="Requests are thrown out of a full KV cache and computed again",
        severity=WARN,
        patterns=(r"Sequence group \S+ is preempted", r"is preempted by PreemptionMode"),
        cause="The KV cache is too small for the requests that run at once.",
        remedies=(
            "Lower max_num_seqs.",
            "Raise gpu_memory_utilization, or set kv_cache_dtype: fp8.",
            "Add a replica.",
        ),
        sources=("vLLM before 0.9; later the counter vllm:num_preemptions_total",),
        sample="WARNING 05-09 00:49:33 scheduler.py:1057] Sequence group 0 is preempted by PreemptionMode.RECOMPUTE "
        "mode "
        "because there is not enough KV cache space.",
        near="INFO 05-09 00:49:33 metrics.py:345] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 27.3"
        " tokens/s, Running: 1 reqs, Swapped: 0 reqs, Pending: 0 reqs, GPU KV cache usage: 97.2%, CPU KV cache "
        "usage: 0.0%.",
    ),
)
