# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about lengths, batches and the KV cache."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import WARN, Case, Finding, Rule, listed

# Ampere has FlashInfer's kernels (v1/attention/backends/flashinfer.py:696-704); older GPUs have Triton's alone
FP8_CAPABILITY = 8.0
# Families that keep NVFP4 (v1/attention/backends/flashinfer.py:114,654-664): 10.x by TRT-LLM's kernels, since 0.33.0
# (the first release read with it; 0.25.1 refused 12.x, vllm#49011) others by fa2
NVFP4_FAMILY = 10
NVFP4_FA2_FAMILIES = frozenset((8, 9, 12))
NVFP4_FA2 = "0.33.0"
# Models with attention sinks (models/gpt_oss.py, models/mimo_v2_flash.py)
SINKS = frozenset(("gpt_oss", "mimo_v2_flash"))
# Family -> first release with a kernel of sparse MLA for it (v1/attention/backends/mla/*sparse*.py); 12.x after 0.13
SPARSE_MLA = {9: "0.11.0", 10: "0.11.0", 12: "0.14.0"}


def batched_tokens(case: Case) -> Finding | None:
    """A step computes at least a token of each sequence."""
    tokens, sequences = case.sizes.max_num_batched_tokens, case.sizes.max_num_seqs
    if tokens is None or sequences is None or tokens >= sequences:
        return None
    return Finding(
        f"max_num_batched_tokens {tokens} is below max_num_seqs {sequences}",
        (f"write max_num_batched_tokens: {sequences} or more", f"write max_num_seqs: {tokens} or less"),
    )


def length(case: Case) -> Finding | None:
    """Longer sequences than the model was made for, as vLLM derives it from its configuration."""
    asked, longest = case.sizes.max_model_len, case.number("max_model_len")
    if asked is None or longest is None or asked <= longest or case.sizes.allow_long:
        return None
    return Finding(
        f"max_model_len {asked} is longer than the {longest} tokens the model was made for",
        (
            f"write max_model_len: {longest} or less, or auto",
            "with a RoPE scaling in extra_args.hf-overrides, write VLLM_ALLOW_LONG_MAX_MODEL_LEN: 1 in environment",
        ),
    )


def length_allowed(case: Case) -> Finding | None:
    """The same where a person takes it upon himself."""
    asked, longest = case.sizes.max_model_len, case.number("max_model_len")
    if asked is None or longest is None or asked <= longest or not case.sizes.allow_long:
        return None
    return Finding(
        f"max_model_len {asked} is longer than the {longest} tokens the model was made for, which "
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN allows: without a matching RoPE scaling its answers beyond them are garbage"
    )


def block_size(case: Case) -> Finding | None:
    """Older releases take a few block sizes only."""
    known, asked = case.engine.block_sizes, case.sizes.block_size
    if asked is None or known is None or asked in known:
        return None
    return Finding(f"vLLM {case.engine.version} knows no block_size {asked}", (f"write {listed(known)}",))


def kv_name(case: Case) -> Finding | None:
    """KV cache formats that the release does not have."""
    if case.sizes.kv_cache_dtype in case.engine.kv_cache_dtypes:
        return None
    return Finding(
        f"vLLM {case.engine.version} does not know kv_cache_dtype {case.sizes.kv_cache_dtype}",
        (f"write {listed(sorted(case.engine.kv_cache_dtypes))}",),
    )


def kv_float(case: Case) -> Finding | None:
    """An unquantized KV cache in another format than the model's."""
    asked = case.sizes.kv_cache_dtype
    if asked not in ("float16", "bfloat16") or case.dtype in (None, asked):
        return None
    return Finding(
        f"kv_cache_dtype {asked} is not the dtype of the model, which is {case.dtype}", ("write kv_cache_dtype: auto",)
    )


def kv_fp8(case: Case) -> Finding | None:
    """FP8 in the KV cache before Ampere, where the only attention kernels are Triton's, which want Ada."""
    if not case.sizes.kv_cache_dtype.startswith("fp8") or case.capability is None or case.capability >= FP8_CAPABILITY:
        return None
    return Finding(
        f"kv_cache_dtype {case.sizes.kv_cache_dtype} needs compute capability {FP8_CAPABILITY}, and {case.gpu_name} "
        f"has {case.capability:.1f}",
        ("write kv_cache_dtype: auto",),
    )


def kv_nvfp4(case: Case) -> Finding | None:
    """NVFP4 in the KV cache: by family of GPUs and release, and no MLA."""
    asked = case.sizes.kv_cache_dtype
    if not asked.startswith("nvfp4"):
        return None
    if case.model.get("mla") and not asked.endswith("_ds_mla"):
        return Finding(f"kv_cache_dtype {asked} does not work with MLA", ("write kv_cache_dtype: fp8, or auto",))
    if case.capability is None:
        return None
    family = int(case.capability)
    by_fa2 = family in NVFP4_FA2_FAMILIES and case.engine.at_least(NVFP4_FA2) and asked == "nvfp4"
    if family != NVFP4_FAMILY and not by_fa2:
        families = "8.x, 9.x, 10.x or 12.x" if asked == "nvfp4" and case.engine.at_least(NVFP4_FA2) else "10.x"
        return Finding(
            f"kv_cache_dtype {asked} needs compute capability {families} with vLLM {case.engine.version}, and "
            f"{case.gpu_name} has {case.capability:.1f}",
            ("write kv_cache_dtype: fp8, or auto",),
        )
    if by_fa2 and any(entry.get("head_dim") == 64 for entry in case.attention("full", "sliding", "chunked")):
        return Finding(
            f"kv_cache_dtype {asked} on compute capability {case.capability:.1f} does not work with heads of 64",
            ("write kv_cache_dtype: fp8, or auto",),
        )
    if by_fa2 and case.model.get("model_type") in SINKS:
        return Finding(
            f"kv_cache_dtype {asked} on compute capability {case.capability:.1f} does not work with attention sinks",
            ("write kv_cache_dtype: fp8, or auto",),
        )
    return None


def kv_of_sparse_mla(case: Case) -> Finding | None:
    """Formats that kernels of sparse MLA alone read (DeepSeek-V3.2, DeepSeek-V4, GLM-5)."""
    asked, kinds = case.sizes.kv_cache_dtype, (case.model.get("attention") or {}).values()
    if not asked.endswith("_ds_mla") or not kinds:
        return None
    if any(entry.get("index_head_dim") or entry.get("type") in ("compressed", "other") for entry in kinds):
        return None
    return Finding(
        f"kv_cache_dtype {asked} is for sparse MLA, which the model does not have",
        ("write kv_cache_dtype: fp8, or auto",),
    )


def sparse_attention(case: Case) -> Finding | None:
    """Sparse MLA (DeepSeek-V3.2, GLM-5): kernels for some families of GPUs alone."""
    if case.capability is None or not any(entry.get("index_head_dim") for entry in case.attention("mla")):
        return None
    families = [family for family, since in SPARSE_MLA.items() if case.engine.at_least(since)]
    if int(case.capability) in families:
        return None
    return Finding(
        f"no attention kernel of vLLM {case.engine.version} for sparse MLA runs on compute capability "
        f"{case.capability:.1f} ({case.gpu_name}); they need {listed([f'{family}.x' for family in families])}",
        ("use a host with newer GPUs", "use a model without sparse attention"),
    )


def rounding(case: Case) -> Finding | None:
    """Stochastic rounding of a recurrent state takes an instruction of data center Blackwell."""
    if not case.sizes.stochastic_rounding or case.capability is None or int(case.capability) == 10:
        return None
    return Finding(
        f"enable-mamba-cache-stochastic-rounding needs compute capability 10.0, and {case.gpu_name} has "
        f"{case.capability:.1f}",
        ("leave it out of extra_args", "write 'mamba-backend: flashinfer' under extra_args"),
    )


RULES: Sequence[Rule] = (
    Rule("batched_tokens_below_seqs", batched_tokens, "config/scheduler.py:331-336"),
    Rule("max_model_len_too_long", length, "config/model.py:2545-2684"),
    Rule("max_model_len_beyond_model", length_allowed, "config/model.py:2660-2684", severity=WARN),
    Rule("block_size_unknown", block_size, "config/cache.py:185-190", until="0.18.0"),
    Rule("kv_cache_dtype_unknown", kv_name, "config/cache.py:44-67"),
    Rule("kv_cache_dtype_not_of_model", kv_float, "config/vllm.py:1492-1508", since="0.33.0"),
    Rule("kv_cache_fp8_needs_ampere", kv_fp8, "v1/attention/backends/triton_attn.py:512-526"),
    Rule("kv_cache_nvfp4", kv_nvfp4, "v1/attention/backends/flashinfer.py:114,654-688"),
    Rule("kv_cache_of_sparse_mla", kv_of_sparse_mla, "model_executor/layers/attention/mla_attention.py:359-378"),
    Rule("sparse_attention_capability", sparse_attention, "platforms/cuda.py:95-150", since="0.11.0"),
    Rule("stochastic_rounding", rounding, "config/mamba.py:85-108"),
)
