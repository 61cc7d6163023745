# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about lengths, batches and the KV cache."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Case, Finding, Rule, listed

# Ampere has FlashInfer's kernels (v1/attention/backends/flashinfer.py:696-704); older GPUs have Triton's alone
FP8_CAPABILITY = 8.0
# v1/attention/backends/flashinfer.py:654-664
NVFP4_CAPABILITY = 10.0


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
    if asked is None or longest is None or asked <= longest:
        return None
    return Finding(
        f"max_model_len {asked} is longer than the {longest} tokens the model was made for",
        (f"write max_model_len: {longest} or less, or auto",),
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
    """NVFP4 in the KV cache: Blackwell, and no MLA."""
    asked = case.sizes.kv_cache_dtype
    if not asked.startswith("nvfp4"):
        return None
    if case.model.get("mla") and not asked.endswith("_ds_mla"):
        return Finding(f"kv_cache_dtype {asked} does not work with MLA", ("write kv_cache_dtype: fp8, or auto",))
    if case.capability is not None and case.capability < NVFP4_CAPABILITY:
        return Finding(
            f"kv_cache_dtype {asked} needs compute capability {NVFP4_CAPABILITY}, and {case.gpu_name} has "
            f"{case.capability:.1f}",
            ("write kv_cache_dtype: fp8, or auto",),
        )
    return None


RULES: Sequence[Rule] = (
    Rule("batched_tokens_below_seqs", batched_tokens, "config/scheduler.py:331-336"),
    Rule("max_model_len_too_long", length, "config/model.py:2545-2684"),
    Rule("block_size_unknown", block_size, "config/cache.py:185-190", until="0.18.0"),
    Rule("kv_cache_dtype_unknown", kv_name, "config/cache.py:44-67"),
    Rule("kv_cache_dtype_not_of_model", kv_float, "config/vllm.py:1492-1508", since="0.33.0"),
    Rule("kv_cache_fp8_needs_ampere", kv_fp8, "v1/attention/backends/triton_attn.py:512-526"),
    Rule("kv_cache_nvfp4", kv_nvfp4, "config/vllm.py:3423-3438"),
)
