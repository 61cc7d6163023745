# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about feed-forward layers, experts, pipeline stages, decode context parallelism and links."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import release
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import WARN, Case, Finding, Rule, listed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules_heads import divided

USE_EXPERT_PARALLEL = "write enable_expert_parallel: true, and each rank holds whole experts"

# models/qwen3_moe.py:154-158 and the like: "Tensor parallel size is greater than the number of experts"
AT_LEAST_AN_EXPERT_EACH = frozenset(
    {
        "AliceAIForCausalLM",
        "Cohere2MoeForCausalLM",
        "Ernie4_5_MoeForCausalLM",
        "Ernie4_5_VLMoeForConditionalGeneration",
        "ExaoneMoEForCausalLM",
        "ExaoneMoeForCausalLM",
        "HYV3ForCausalLM",
        "HYV4ForCausalLM",
        "InternS1ProForConditionalGeneration",
        "InternS2MobiusForConditionalGeneration",
        "K2HorizonForCausalLM",
        "LagunaForCausalLM",
        "Lfm2MoeForCausalLM",
        "MiMoV2FlashForCausalLM",
        "MiMoV2ForCausalLM",
        "MiniMaxM2ForCausalLM",
        "MiniMaxM3SparseForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM",
        "Step3TextForCausalLM",
        "Step5ForCausalLM",
        "Step3p5ForCausalLM",
    }
)
# models/deepseek_v4/nvidia/model.py:357: as many experts on each rank
EVEN_EXPERTS = frozenset({"DeepseekV4ForCausalLM"})


def _architectures(case: Case) -> frozenset[str]:
    return frozenset(case.model.get("architectures") or ())


def intermediate(case: Case) -> Finding | None:
    """Dense feed-forward layers."""
    return divided(case, f"an intermediate size of {case.dense_size}", case.dense_size)


def shared_experts(case: Case) -> Finding | None:
    """Shared experts are dense layers beside the routed ones."""
    size = case.shared_expert_size
    return divided(case, f"a shared expert intermediate size of {size}", size)


def experts_sliced(case: Case) -> Finding | None:
    """Without expert parallelism each expert is cut by tensor times data parallel ranks."""
    size, ranks = case.expert_size, case.moe_tp
    if size is None or size % ranks == 0:
        return None
    what = f"an expert intermediate size of {size}"
    by = f"tensor_parallel_size {case.tp}"
    if case.sizes.data_parallel_size > 1:
        by += f" times data_parallel_size {case.sizes.data_parallel_size}"
    return Finding(f"{by} does not divide {what}", (USE_EXPERT_PARALLEL,), what)


def fewer_experts_than_ranks(case: Case) -> Finding | None:
    """Some models want an expert for each tensor parallel rank, sliced or not."""
    experts = case.number("num_experts")
    if experts is None or case.tp <= experts or not _architectures(case) & AT_LEAST_AN_EXPERT_EACH:
        return None
    return Finding(f"tensor_parallel_size {case.tp} is more than the {experts} experts of the model")


def expert_parallel_without_experts(case: Case) -> Finding | None:
    """Expert parallelism of a dense model."""
    if not case.sizes.enable_expert_parallel or case.moe or case.model.get("num_attention_heads") is None:
        return None
    return Finding("the model has no experts, and enable_expert_parallel is written", ("leave it out",))


def _uneven(case: Case) -> Finding | None:
    experts = case.number("num_experts")
    if experts is None or not case.sizes.enable_expert_parallel or experts % case.expert_ranks == 0:
        return None
    return Finding(
        f"{case.expert_ranks} expert parallel ranks (tensor times data parallel) do not divide {experts} experts",
        (f"use a number of ranks that divides {experts}",),
    )


def experts_not_even(case: Case) -> Finding | None:
    """Models that want as many experts on each rank."""
    return _uneven(case) if _architectures(case) & EVEN_EXPERTS else None


def experts_uneven(case: Case) -> Finding | None:
    """Other models spread them unevenly; every rank waits for the one with most."""
    if _architectures(case) & EVEN_EXPERTS:
        return None
    return _uneven(case)


def pipeline(case: Case) -> Finding | None:
    """Models that cannot be cut into stages."""
    if case.sizes.pipeline_parallel_size <= 1 or case.model.get("supports_pipeline") is not False:
        return None
    return Finding(
        f"vLLM cannot cut {listed(case.model.get('architectures') or ['this model'])} into pipeline stages",
        ("write pipeline_parallel_size: 1",),
    )


# Architectures that were not cut into stages at first: the last release known without, and the first with it.
# vllm#45455 (0.22.1rc1.dev490) for MiniMax-M3
PIPELINE_SINCE = {
    "MiniMaxM3SparseForCausalLM": ("0.22.1", "0.33.0"),
    "MiniMaxM3SparseForConditionalGeneration": ("0.22.1", "0.33.0"),
    "MiniMaxM3VLForConditionalGeneration": ("0.22.1", "0.33.0"),
}


def pipeline_later(case: Case) -> Finding | None:
    """Models that earlier releases could not cut into stages."""
    if case.sizes.pipeline_parallel_size <= 1:
        return None
    for name in _architectures(case) & set(PIPELINE_SINCE):
        without, first = PIPELINE_SINCE[name]
        if case.engine.release <= release(without):
            return Finding(
                f"vLLM {case.engine.version} cannot cut {name} into pipeline stages yet",
                (f"use vLLM {first}", "write pipeline_parallel_size: 1"),
            )
    return None


def stages(case: Case) -> Finding | None:
    """More stages than layers; vLLM gives the rest no layer, which no model is written for."""
    layers, count = case.number("num_layers"), case.sizes.pipeline_parallel_size
    if layers is None or count <= layers:
        return None
    return Finding(
        f"pipeline_parallel_size {count} is more than the {layers} layers of the model",
        (f"write pipeline_parallel_size: {layers} or less",),
    )


DCP_OFF = "write decode_context_parallel_size: 1"


def context_divides(case: Case) -> Finding | None:
    """The ranks of decode context parallelism are those of tensor parallelism."""
    size = case.sizes.decode_context_parallel_size
    if case.tp % size == 0:
        return None
    return Finding(
        f"decode_context_parallel_size {size} does not divide tensor_parallel_size {case.tp}",
        (f"write a divisor of {case.tp}",),
    )


def context_of_kv_heads(case: Case) -> Finding | None:
    """Models with KV heads: tokens are spread over the ranks that would hold copies of one head."""
    size, kv = case.sizes.decode_context_parallel_size, case.number("num_kv_heads")
    if size <= 1 or case.model.get("mla") or kv is None:
        return None
    if case.tp <= kv:
        return Finding(
            f"decode_context_parallel_size {size} needs more tensor parallel ranks than the {kv} KV heads of the "
            f"model, and there are {case.tp}",
            (DCP_OFF, f"write a tensor_parallel_size above {kv}"),
        )
    if size > case.tp // kv:
        return Finding(
            f"decode_context_parallel_size {size} is more than the {case.tp // kv} ranks that share a KV head",
            (f"write decode_context_parallel_size: {case.tp // kv}", DCP_OFF),
        )
    heads = (case.number("num_attention_heads") or 0) // kv
    if heads % size:
        return Finding(
            f"decode_context_parallel_size {size} does not divide the {heads} attention heads of each KV head",
            (f"write a divisor of {heads}", DCP_OFF),
        )
    return None


def context_of_windows(case: Case) -> Finding | None:
    """Sliding-window layers cannot be spread over ranks by tokens."""
    if case.sizes.decode_context_parallel_size <= 1 or not any(case.attention("sliding")):
        return None
    return Finding("decode context parallelism does not work with sliding-window layers", (DCP_OFF,))


def all_reduce_size(case: Case) -> Finding | None:
    """Sizes that vLLM's own all-reduce kernel does not know."""
    known = case.engine.custom_all_reduce_sizes
    if case.tp == 1 or case.tp in known or case.gpu.get("accelerator", "cuda") == "cpu":
        return None
    return Finding(
        f"vLLM's custom all-reduce works for {listed(known)} GPUs, so tensor_parallel_size {case.tp} uses NCCL, which "
        "is slower for small batches"
    )


def all_reduce_links(case: Case) -> Finding | None:
    """More than two GPUs without NVLink between all of them."""
    if case.tp <= 2 or case.gpu.get("fully_connected") is not False or case.gpu.get("accelerator", "cuda") != "cuda":
        return None
    return Finding(
        f"the {case.tp} GPUs are not all joined by NVLink, so vLLM turns its custom all-reduce off and uses NCCL over "
        "PCIe",
        ("cut the model into pipeline stages in place of tensor parallel ranks, for throughput",),
    )


RULES: Sequence[Rule] = (
    Rule("intermediate_not_divisible", intermediate, "model_executor/layers/linear.py:497-503,731,1708", divides=True),
    Rule("shared_expert_not_divisible", shared_experts, "model_executor/layers/linear.py:731,1708", divides=True),
    Rule(
        "experts_not_divisible",
        experts_sliced,
        "model_executor/layers/fused_moe/config.py:1351-1353",
        divides=True,
    ),
    Rule(
        "experts_fewer_than_ranks",
        fewer_experts_than_ranks,
        "model_executor/models/qwen3_moe.py:154-158",
        divides=True,
    ),
    Rule("ep_needs_moe", expert_parallel_without_experts, "config/model.py:1498-1503"),
    Rule("ep_experts_not_even", experts_not_even, "models/deepseek_v4/nvidia/model.py:357"),
    Rule(
        "ep_experts_uneven",
        experts_uneven,
        "model_executor/layers/fused_moe/expert_map_manager.py:62-79",
        severity=WARN,
    ),
    Rule("pipeline_not_supported", pipeline, "config/model.py:1569-1576"),
    Rule("pipeline_not_supported_yet", pipeline_later, "config/model.py:1569-1576"),
    Rule("pipeline_more_than_layers", stages, "distributed/utils.py:198-241"),
    Rule("dcp_not_divisible", context_divides, "config/parallel.py:594-600"),
    Rule("dcp_kv_heads", context_of_kv_heads, "config/model.py:1578-1607"),
    Rule("dcp_sliding_window", context_of_windows, "v1/kv_cache_interface.py:947-950"),
    Rule(
        "custom_all_reduce_size",
        all_reduce_size,
        "distributed/device_communicators/custom_all_reduce.py:118",
        severity=WARN,
    ),
    Rule("custom_all_reduce_links", all_reduce_links, "platforms/cuda.py:818-838", severity=WARN),
)
