# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: how a model is spread over GPUs. Data; lines of vLLM 0.33 where not said otherwise."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, NOTE, WARN, Signature

AREA = "Layout"
SIGNATURES = (
    Signature(
        id="heads_not_divisible",
        area=AREA,
        title="The attention heads cannot be split over the GPUs",
        severity=FAIL,
        patterns=(
            r"attention heads(?: \((?P<heads>\d+)\))? must be divisible by tensor parallel size(?: \((?P<size>\d+)\))?",
        ),
        cause="The model has {heads} attention heads, which tensor_parallel_size {size} does not divide.",
        remedies=(
            "Set tensor_parallel_size to a number that divides {heads}, fewer GPUs rather than more.",
            "Use the GPUs that are left for replicas, or pipeline_parallel_size.",
        ),
        sources=("config/model.py:1557", "vllm-project/vllm#414", "vllm-project/vllm#2652", "gpustack/gpustack#2259"),
        sample="  Value error, Total number of attention heads (52) must be divisible by tensor parallel size (3). "
        "[type=value_error, input_value=ArgsKwargs((), {'model_co...}), input_type=ArgsKwargs]",
        near="ValueError: embed_dim must be divisible by num_heads (got `embed_dim`: 1152 and `num_heads`: 14).",
    ),
    Signature(
        id="quantization_not_divisible",
        area=AREA,
        title="The blocks of a quantized model cannot be split over the GPUs",
        severity=FAIL,
        patterns=(
            r"(?:size|partition|weight) ?(?:\(?=? ?\(?(?P<part>\d+)\)?)?.* is not divisible by (?:the )?"
            r"(?:weight quantization block|min_thread|group_size| min_thread)",
            r"(?:put_size_per_partition|output_size|input_size)\D{0,12}(?P<part>\d+)?.* is not divisible",
            r"The (?:in|out)put size is not aligned with the quantized weight shape",
            r"size_k must (?:be )?divisible by BLOCK_SIZE_K",
            r"(?P<part>\d+) not divisible by the Marlin tile",
            r"moe_intermediate_size.*not divisible by",
        ),
        cause="tensor_parallel_size cuts a quantized weight in the middle of a block or group[[ (part of {part})]].",
        remedies=(
            "Lower tensor_parallel_size: half of it, then a quarter.",
            "For a mixture of experts set enable_expert_parallel: true, which gives each GPU whole experts.",
            "Use a checkpoint with another block or group size, or one that pads the intermediate size.",
        ),
        sources=(
            "quantization/utils/fp8_utils.py:1296",
            "quantization/utils/marlin_utils.py:306",
            "vllm-project/vllm#54178",
            "vllm-project/vllm#17604 (the server starts and the first request fails)",
            "QwenLM/Qwen3-VL#831",
        ),
        sample="ValueError: The output_size of gate's and up's weight = 192 is not divisible by weight quantization "
        "block_n = 128.\n"
        "ValueError: Weight input_size_per_partition = 14784 is not divisible by min_thread_k = 128. Consider reducing "
        "tensor_parallel_size or running with --quantization gptq.",
        near="AssertionError: 151936 is not divisible by 5",
        explains=("size_not_divisible",),
    ),
    Signature(
        id="size_not_divisible",
        area=AREA,
        title="A size of the model cannot be split over the GPUs",
        severity=FAIL,
        patterns=(r"AssertionError: (?P<number>\d+) is not divisible by (?P<size>\d+)",),
        cause="{number} (the vocabulary, an intermediate size or the KV heads) is not divisible by {size}.",
        remedies=(
            "Set tensor_parallel_size to a number that divides it; powers of two divide most models.",
            "Use pipeline_parallel_size for the rest of the GPUs.",
        ),
        sources=("distributed/utils.py:51", "Qwen3-14B with tensor_parallel_size 5, vLLM 0.19"),
        sample="(Worker_TP0 pid=815) ERROR 04-02 12:20:11 [multiproc_executor.py:871] AssertionError: 151936 is not "
        "divisible by 5",
        near="ValueError: Weight input_size_per_partition = 10944 is not divisible by min_thread_k = 128.",
    ),
    Signature(
        id="more_ranks_than_gpus",
        area=AREA,
        title="The layout asks for more GPUs than there are",
        severity=FAIL,
        patterns=(
            r"World size \((?P<ranks>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
            r"world_size \((?P<ranks>\d+)\) is less than than max local gpu count \((?P<gpus>\d+)\)",
            r"local_world_size \((?P<ranks>\d+)\) must be less than or equal to the number of visible devices "
            r"\((?P<gpus>\d+)\)",
            r"local[_ ]rank (?P<ranks>\d+) is out of bounds",
            r"CUDA error: invalid device ordinal",
            r"Current node has no GPU available",
        ),
        cause="[[The layout needs {ranks} ranks on this host, and {gpus} GPUs are visible to it||The layout needs more "
        "GPUs than are visible to it on this host]].",
        remedies=(
            "Set tensor_parallel_size x pipeline_parallel_size x data_parallel_size to the number of GPUs of the host.",
            "See whether CUDA_VISIBLE_DEVICES or gpus hides some, or a GPU fell off (the checks of the host say it).",
            "For an engine over several hosts write nodes, so that each host gets its own ranks.",
        ),
        sources=(
            "config/parallel.py:1054",
            "v1/worker/gpu_worker.py:484",
            "vllm-project/vllm#15217",
            "vllm-project/vllm#28873",
            "vllm-project/vllm#22677",
            "vllm-project/vllm#29265",
        ),
        sample="  Value error, World size (4) is larger than the number of available GPUs (2) in this node. If this is "
        "intentional and you are using:\n"
        "AssertionError: DP adjusted local rank 1 is out of bounds.",
        near="(Worker pid=815) INFO 11-23 20:31:07 [parallel_state.py:1208] world_size=4 rank=0 local_rank=0 "
        "distributed_init_method=tcp://127.0.0.1:43211 backend=nccl",
    ),
    Signature(
        id="tensor_parallel_over_hosts",
        area=AREA,
        title="Tensor parallelism goes over the network",
        severity=WARN,
        patterns=(
            r"tensor_parallel_size=(?P<size>\d+) is bigger than a reserved number of GPUs \((?P<gpus>\d+) GPUs?\)",
        ),
        cause="tensor_parallel_size {size} is more than the {gpus} GPUs of a host, so every layer waits for the "
        "network.",
        remedies=(
            "Set tensor_parallel_size to the GPUs of one host and pipeline_parallel_size to the number of hosts.",
        ),
        sources=("v1/executor/ray_utils.py", "vLLM 0.10.1.1 on A100s"),
        sample="WARNING 08-30 10:01:02 [ray_utils.py:339] tensor_parallel_size=4 is bigger than a reserved number of "
        "GPUs (1 GPUs) in a node a1b2c3. Tensor parallel workers can be spread out to 2+ nodes which can degrade the "
        "performance unless you have fast interconnect across nodes, like Infiniband.",
        near="(APIServer pid=801) INFO 11-23 20:31:07 [utils.py:253] non-default args: {'tensor_parallel_size': 4, "
        "'distributed_executor_backend': 'ray'}",
    ),
    Signature(
        id="different_gpus",
        area=AREA,
        title="GPUs of several kinds, in an order of their own",
        severity=WARN,
        patterns=(r"Detected different devices in the system: (?P<names>.+?)\. Please|Detected different devices",),
        cause="The host has GPUs of several kinds ({names}), and CUDA counts them otherwise than nvidia-smi does.",
        remedies=(
            "Set CUDA_DEVICE_ORDER: PCI_BUS_ID in environment.",
            "Name GPUs of one kind in gpus: in a group of several kinds the smallest and the oldest decide.",
        ),
        sources=("platforms/cuda.py:990",),
        sample="WARNING 08-02 17:20:15 [cuda.py:437] Detected different devices in the system: NVIDIA GeForce RTX "
        "3090, "
        "NVIDIA GeForce RTX 3060. Please make sure to set `CUDA_DEVICE_ORDER=PCI_BUS_ID` to avoid unexpected behavior.",
        near="INFO 08-02 17:20:15 [__init__.py:216] Automatically detected platform cuda.",
    ),
    Signature(
        id="no_pipeline_parallelism",
        area=AREA,
        title="The model cannot be run as a pipeline",
        severity=FAIL,
        patterns=(r"Pipeline parallelism is not supported for this model",),
        cause="vLLM's code for this model knows no stages (SupportsPP).",
        remedies=("Use tensor_parallel_size in place of pipeline_parallel_size.",),
        sources=("config/model.py:1569",),
        sample="NotImplementedError: Pipeline parallelism is not supported for this model. Supported models implement "
        "the "
        "`SupportsPP` interface.",
        near="(APIServer pid=801) INFO 11-23 20:31:07 [utils.py:253] non-default args: {'model': '/srv/models/llama', "
        "'pipeline_parallel_size': 2}",
    ),
    Signature(
        id="cpu_ranks_unbound",
        area=AREA,
        title="More CPU ranks than NUMA nodes",
        severity=FAIL,
        patterns=(r"Not enough allowed NUMA nodes to bind threads of (?P<ranks>\d+) local CPUWorkers",),
        cause="{ranks} CPU ranks want a NUMA node each.",
        remedies=(
            "Name the cores of each rank in environment: VLLM_CPU_OMP_THREADS_BIND: '0-3|4-7'.",
            "Lower tensor_parallel_size.",
        ),
        sources=("utils/ompmultiprocessing.py:219",),
        sample="ValueError: Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers. Allowed NUMA nodes "
        "are "
        "[0]. Please try to bind threads manually or decrease DP/TP/PP.",
        near="(Worker_TP0 pid=815) INFO 11-24 04:06:04 [cpu_worker.py:236] OMP threads binding of Process 30934:",
    ),
    Signature(
        id="no_custom_all_reduce",
        area=AREA,
        title="vLLM's own all-reduce is off",
        severity=NOTE,
        patterns=(r"Custom allreduce is disabled (?:because|due to) (?P<why>[^.:]+)",),
        cause="NCCL is used in its place ({why}); it works, a little slower.",
        remedies=("Nothing has to be done; a tensor_parallel_size of 2, 4, 6, 8 or 16 on NVLink uses it.",),
        sources=("distributed/device_communicators/custom_all_reduce.py:118", "Kimi-K2.6 on 16 GPUs"),
        sample="WARNING 07-12 08:11:31 [custom_all_reduce.py:137] Custom allreduce is disabled due to an unsupported "
        "world size: 16. Supported world sizes: [2, 4, 6, 8]. To silence this warning, specify "
        "disable_custom_all_reduce=True explicitly.",
        near="INFO 10-07 10:20:09 config.py:904] Disabled the custom all-reduce kernel because it is not supported on "
        "AMD GPUs.",
    ),
)
