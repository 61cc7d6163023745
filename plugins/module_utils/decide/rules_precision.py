# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about the number formats of weights and activations: what a GPU computes, a model stands, a release knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import release
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import (
    DTYPES,
    WARN,
    Case,
    Finding,
    Rule,
    listed,
)

AMPERE = 8.0
# config/model.py:2398-2403
NO_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
# get_supported_act_dtypes: model_executor/layers/quantization/mxfp4.py:80, modelopt.py:1228
BFLOAT16_ONLY = frozenset({"mxfp4", "gpt_oss_mxfp4", "modelopt_mxfp8"})

# Method, or method and format of the checkpoint -> (since, least compute capability); get_min_capability of the
# configurations and schemes below model_executor/layers/quantization of each release.
# Where a format has a fallback for older GPUs, the capability is that of the fallback.
CAPABILITIES: Mapping[str, Sequence[tuple[str, float]]] = {
    "awq": (("0.7.3", 7.5),),
    "gptq": (("0.7.3", 6.0),),
    "fp8": (("0.7.3", 8.0), ("0.14.0", 7.5)),
    "compressed-tensors": (("0.7.3", 7.0),),
    "compressed-tensors/float-quantized": (("0.7.3", 8.0), ("0.16.0", 7.5)),
    "compressed-tensors/naive-quantized": (("0.7.3", 8.0), ("0.16.0", 7.5)),
    "compressed-tensors/int-quantized": (("0.7.3", 7.5),),
    "compressed-tensors/pack-quantized": (("0.7.3", 8.0), ("0.12.0", 7.5)),
    "compressed-tensors/nvfp4-pack-quantized": (("0.9.0", 8.0), ("0.16.0", 7.5)),
    "compressed-tensors/mxfp4-pack-quantized": (("0.14.0", 8.0),),
    "compressed-tensors/mxfp8-quantized": (("0.20.0", 7.5),),
    "modelopt": (("0.7.3", 8.9), ("0.27.0", 8.0)),
    "modelopt_fp4": (("0.8.3", 10.0), ("0.9.0", 8.0), ("0.14.0", 7.5)),
    "modelopt_mxfp8": (("0.16.0", 10.0), ("0.20.0", 8.0)),
    "modelopt_mixed": (("0.17.0", 8.9), ("0.24.0", 7.5)),
    "mxfp4": (("0.10.1", 8.0),),
    "gpt_oss_mxfp4": (("0.20.0", 8.0),),
    "quark": (("0.7.3", 7.0),),
    "experts_int8": (("0.7.3", 8.0),),
    "fbgemm_fp8": (("0.7.3", 8.0),),
    "fp_quant": (("0.11.1", 10.0),),
    "moe_wna16": (("0.7.3", 7.0),),
    "torchao": (("0.8.4", 7.5),),
    "bitsandbytes": (("0.7.3", 7.0),),
    "gguf": (("0.7.3", 6.0),),
    "inc": (("0.15.0", 6.0),),
    "auto-round": (("0.9.0", 6.0),),
    "humming": (("0.20.0", 7.5),),
    **dict.fromkeys(
        ("online", "fp8_per_tensor", "fp8_per_block", "int8_per_channel_weight_only", "mxfp8"), (("0.20.0", 7.5),)
    ),
    "fp8_per_channel": (("0.24.0", 7.5),),
    "nvfp4_per_token": (("0.26.0", 7.5),),
}
# The names that vLLM takes for what a checkpoint calls by one of them (override_quantization_method of each)
ALIASES: Mapping[str, frozenset[str]] = {
    "awq": frozenset({"awq", "awq_marlin", "auto_awq", "marlin", "moe_wna16", "humming"}),
    "gptq": frozenset(
        {"gptq", "gptq_marlin", "auto_gptq", "marlin", "moe_wna16", "gptq_bitblas", "bitblas", "humming"}
    ),
    "modelopt": frozenset({"modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed"}),
    "mxfp4": frozenset({"mxfp4", "gpt_oss_mxfp4", "humming"}),
    "fp8": frozenset({"fp8", "deepseek_v4_fp8", "mxfp8", "humming"}),
    "auto-round": frozenset({"auto-round", "auto_round", "inc", "gptq", "awq", "auto_gptq", "auto_awq"}),
}
# Methods that read their settings from the checkpoint, so that an unquantized one will not do
OF_CHECKPOINTS = frozenset(
    {"awq", "awq_marlin", "auto_awq", "gptq", "gptq_marlin", "auto_gptq", "compressed-tensors", "quark"}
) | {"modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "fbgemm_fp8", "fp_quant", "gpt_oss_mxfp4"}
# platforms/rocm.py:668-692
ON_ROCM = frozenset(
    {"awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "fp8", "deepseek_v4_fp8", "compressed-tensors"}
) | {"fbgemm_fp8", "inc", "quark", "mxfp4", "mxfp8", "torchao", "modelopt", "modelopt_fp4", "modelopt_mxfp8"}
ON_ROCM |= {"modelopt_mixed", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "online", "gpt_oss_mxfp4"}

ANOTHER_GPU = "use a host with newer GPUs"
NO_QUANTIZATION = "leave quantization out: vLLM reads it from the checkpoint"


def capability(case: Case) -> Finding | None:
    """GPUs that the release was not built for."""
    least = case.engine.minimum_compute_capability
    if case.capability is None or case.capability >= float(least):
        return None
    return Finding(
        f"vLLM {case.engine.version} needs compute capability {least}, and {case.gpu_name} has {case.capability:.1f}",
        (ANOTHER_GPU,),
    )


def canonical(method: str) -> str:
    """Give the name that a method's checkpoints go by: "awq_marlin" is "awq"."""
    return next((name for name in ("awq", "gptq") if method in ALIASES[name] and method.find(name) >= 0), method)


def quantization_capability(case: Case) -> Finding | None:
    """GPUs too old for the number format of the weights."""
    method = case.method
    if method is None or case.capability is None:
        return None
    method = canonical(method)
    form = case.quantization.get("format")
    if method == "modelopt" and form:
        method = {"NVFP4": "modelopt_fp4", "MXFP8": "modelopt_mxfp8", "MIXED_PRECISION": "modelopt_mixed"}.get(
            str(form), method
        )
    history = CAPABILITIES.get(f"{method}/{form}") or CAPABILITIES.get(method)
    if history is None:
        return None
    # before its first entry a method is unknown, which is another rule's
    known = [least for since, least in history if release(since) <= case.engine.release]
    if not known or case.capability >= known[-1]:
        return None
    return Finding(
        f"quantization {method} needs compute capability {known[-1]:.1f}, and {case.gpu_name} has "
        f"{case.capability:.1f}",
        (ANOTHER_GPU, "use another quantization of the model"),
    )


def bfloat16_asked(case: Case) -> Finding | None:
    """An explicit bfloat16 on a GPU without it."""
    if case.capability is None or case.capability >= AMPERE or case.asked_dtype != "bfloat16":
        return None
    return _no_bfloat16(case)


def bfloat16_by_default(case: Case) -> Finding | None:
    """A bfloat16 model with dtype auto, before vLLM fell back by itself."""
    if case.capability is None or case.capability >= AMPERE or case.asked_dtype:
        return None
    return _no_bfloat16(case) if case.model.get("dtype") == "bfloat16" else None


def _no_bfloat16(case: Case) -> Finding:
    return Finding(
        f"dtype bfloat16 needs compute capability {AMPERE}, and {case.gpu_name} has {case.capability:.1f}",
        ("write dtype: float16", ANOTHER_GPU),
    )


def falls_back(case: Case) -> Finding | None:
    """The same since vLLM does: float16, or float32 where float16 does not work."""
    old = case.capability is not None and case.capability < AMPERE
    if not old or case.asked_dtype or case.model.get("dtype") != "bfloat16":
        return None
    if case.model.get("model_type") in NO_FLOAT16:
        return Finding(
            f"{case.gpu_name} has no bfloat16 and the model does not work in float16, so vLLM computes in float32: "
            "twice the memory, and slow",
            (ANOTHER_GPU,),
        )
    return Finding(f"{case.gpu_name} has no bfloat16, so the model is computed in float16")


def float16(case: Case) -> Finding | None:
    """Models that overflow in float16."""
    if case.asked_dtype != "float16" or case.model.get("model_type") not in NO_FLOAT16:
        return None
    return Finding(
        f"models of type {case.model.get('model_type')} do not work in float16",
        ("write dtype: bfloat16, or leave dtype out",),
    )


def dtype_unknown(case: Case) -> Finding | None:
    """A dtype that is none."""
    if case.sizes.dtype == "auto" or case.asked_dtype:
        return None
    return Finding(f"dtype {case.sizes.dtype} is none that vLLM knows", (f"write auto, {listed(sorted(DTYPES))}",))


def activation_dtype(case: Case) -> Finding | None:
    """Formats that compute in bfloat16 alone; GPUs without it are another rule's."""
    if case.capability is not None and case.capability < AMPERE:
        return None
    if case.method not in BFLOAT16_ONLY or case.dtype in (None, "bfloat16"):
        return None
    return Finding(
        f"quantization {case.method} computes in bfloat16, and the dtype is {case.dtype}",
        ("leave dtype out",) if case.asked_dtype else ("write dtype: bfloat16",),
    )


def by_auto_round(case: Case) -> bool:
    """Checkpoints of AutoRound are read by "inc", whatever name is written (quantization/inc/inc.py:361)."""
    own = str(case.quantization.get("method") or case.model.get("quantization") or "").replace("_", "-")
    return own == "auto-round" and bool({"inc", "auto-round"} & case.engine.quantizations)


def quantization_name(case: Case) -> Finding | None:
    """Methods that the release does not have; the checkpoint's own are judged as well."""
    method = case.sizes.quantization or case.method
    if method is None or method in case.engine.quantizations or by_auto_round(case):
        return None
    if not case.sizes.quantization and ALIASES.get(method, frozenset()) & case.engine.quantizations:
        return None
    if method in ("bitsandbytes", "gguf"):
        remedy = "use another quantization of the model: newer releases have it as a plugin"
    elif case.sizes.quantization:
        remedy = NO_QUANTIZATION
    else:
        remedy = "use another release of vLLM, or another quantization of the model"
    return Finding(f"vLLM {case.engine.version} does not know the quantization {method}", (remedy,))


def quantization_deprecated(case: Case) -> Finding | None:
    """Methods that are on their way out."""
    if case.method not in case.engine.deprecated_quantizations:
        return None
    return Finding(
        f"the quantization {case.method} is deprecated in vLLM {case.engine.version}",
        ("write 'allow-deprecated-quantization: true' under extra_args", "use another quantization of the model"),
    )


def quantization_of_checkpoint(case: Case) -> Finding | None:
    """A method that is not the checkpoint's."""
    asked = case.sizes.quantization
    own = case.quantization.get("method") or case.model.get("quantization")
    if asked is None or by_auto_round(case):
        return None
    if own is None:
        if asked not in OF_CHECKPOINTS or case.model.get("num_attention_heads") is None:
            return None
        return Finding(f"quantization {asked} is asked for, and the checkpoint is not quantized", ("leave it out",))
    if asked == own or asked in ALIASES.get(canonical(own), frozenset({own})) or asked == "humming":
        return None
    return Finding(f"quantization {asked} is asked for, and the checkpoint is quantized with {own}", (NO_QUANTIZATION,))


def quantization_on_rocm(case: Case) -> Finding | None:
    """Methods without kernels for AMD GPUs."""
    if case.gpu.get("accelerator") != "rocm" or case.method is None or case.method in ON_ROCM:
        return None
    return Finding(
        f"vLLM has no kernels of the quantization {case.method} for AMD GPUs",
        ("use another quantization of the model",),
    )


RULES: Sequence[Rule] = (
    Rule("capability_too_low", capability, "envs.py:625-627"),
    Rule("quantization_capability_too_low", quantization_capability, "config/vllm.py:925-943"),
    Rule("bfloat16_needs_ampere", bfloat16_asked, "platforms/cuda.py:638-656"),
    Rule("bfloat16_needs_ampere", bfloat16_by_default, "platforms/cuda.py:638-656", until="0.9.0"),
    Rule("bfloat16_falls_back", falls_back, "config/model.py:2423-2464", severity=WARN, since="0.9.0"),
    Rule("float16_refused_for_model", float16, "config/model.py:2398-2421", since="0.9.1"),
    Rule("dtype_unknown", dtype_unknown, "config/model.py:2380-2395"),
    Rule("activation_dtype_refused", activation_dtype, "config/vllm.py:936-942"),
    Rule("quantization_unknown", quantization_name, "config/model.py:1448-1453"),
    Rule("quantization_deprecated", quantization_deprecated, "config/model.py:1456-1470"),
    Rule("quantization_not_of_checkpoint", quantization_of_checkpoint, "config/model.py:1383-1447"),
    Rule("quantization_not_on_rocm", quantization_on_rocm, "platforms/rocm.py:668-692", since="0.33.0"),
)
