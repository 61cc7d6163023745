# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A model as an entry runs it: without the towers it switches off, quantized on load, with what drafts for it. Pure.

The answer is what model_info says, changed where an option of the entry changes what is loaded or kept, with a warning
for each option that changes memory in a way that is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import drafting, engine_versions, lora
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.option_values import option
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import LENGTH_INCLUDED
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import QUANTIZABLE

Model = Mapping[str, Any]

TOWERS = frozenset(("vision", "projector"))
EXPERTS = frozenset(("expert_gate_up", "expert_down"))
# Bytes of a weight that is quantized while it is loaded, scales included, and whether experts alone are
# (config/quantization.py:195-227, model_executor/layers/quantization/online/*.py of vLLM 0.33.0; bitsandbytes: 4
# bits and a 4-byte scale for each 64)
ON_LOAD: Mapping[str, tuple[float, bool]] = {
    "fp8": (1.0, False),
    "ptpc_fp8": (1.0, False),
    "fp8_per_tensor": (1.0, False),
    "fp8_per_channel": (1.0, False),
    "fp8_per_block": (1.0 + 4 / 128**2, False),
    "mxfp8": (1.0 + 1 / 32, False),
    "mxfp4": (0.5 + 1 / 32, False),
    "bitsandbytes": (0.5 + 4 / 64, False),
    "experts_int8": (1.0, True),
    "int8_per_channel_weight_only": (1.0, True),
    "nvfp4_per_token": (0.5 + 1 / 16, True),
}
# Before this release YaRN's length was its original one times its factor, whatever max_position_embeddings says
# (vllm#56446, merged after 0.28.0)
YARN_BY_FACTOR_UNTIL = "0.29.0"
# Towers are left out when nothing they serve is allowed since this release (model_executor/models/interfaces.py)
TOWERS_SKIPPED = "0.17.0"
# Vision models that take no video; the others need both limits to be 0
PICTURES_ALONE = ("gemma3", "gemma4", "mistral3", "llama4", "llava", "pixtral", "idefics3", "paligemma", "aya_vision")
# Options that change memory and are not counted: what the plan warns of
NOT_COUNTED = (
    "cpu-offload-params",
    "enable-dbo",
    "enable-eplb",
    "enable-mixed-moe-lora-format",
    "eplb-config",
    "kv-cache-dtype-skip-layers",
    "kv-sharing-fast-prefill",
    "kv-transfer-config",
    "mamba-block-size",
    "max-num-active-seqs",
    "model-impl",
    "num-gpu-blocks-override",
    "offload-backend",
    "offload-group-size",
    "prefill-context-parallel-size",
    "quantization-config",
    "skip-mm-profiling",
    "swa-bounded-replay",
    "use-replayssm",
)


def adapted(instance: Instance, model: Model) -> Model:
    """Return the model as an entry runs it; what cannot be read stays as it is."""
    if not model or model.get("problem"):
        return model
    for step in STEPS:
        model = step(instance, model)
    return model


def warned(model: Model, sentences: Iterable[str]) -> dict[str, Any]:
    """Return a model with more warnings."""
    return {**model, "warnings": [*(model.get("warnings") or ()), *sentences]}


def with_tensors(model: Model, tensors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a model with other weights."""
    return {**model, "weights": {**(model.get("weights") or {}), "tensors": list(tensors)}}


def _tensors(model: Model) -> Sequence[Mapping[str, Any]]:
    return (model.get("weights") or {}).get("tensors") or ()


def _overridden(instance: Instance, model: Model) -> Model:
    """Take a length from hf-overrides (config/model.py:2545-2684), and say what else of them is not read."""
    written = option(instance, "hf_overrides")
    scaling = option(instance, "rope_scaling")
    if not isinstance(written, Mapping) and not isinstance(scaling, Mapping):
        return model
    written = written if isinstance(written, Mapping) else {}
    inner = written.get("text_config")
    text = {**written, **inner} if isinstance(inner, Mapping) else dict(written)
    text.pop("text_config", None)
    length = text.pop("max_position_embeddings", None)
    found = int(length) if isinstance(length, int) and length > 0 else int(model.get("max_model_len") or 0)
    rope = text.pop("rope_parameters", None) or text.pop("rope_scaling", None) or scaling or {}
    kind = rope.get("rope_type") or rope.get("type") if isinstance(rope, Mapping) else None
    factor = rope.get("factor") if isinstance(rope, Mapping) else None
    if kind and kind not in LENGTH_INCLUDED and isinstance(factor, (int, float)) and factor > 0:
        found = int(found * factor)
    original = rope.get("original_max_position_embeddings") if isinstance(rope, Mapping) else None
    early = not engine_versions.of(instance.engine_version).at_least(YARN_BY_FACTOR_UNTIL)
    if kind == "yarn" and early and isinstance(original, int) and isinstance(factor, (int, float)):
        found = int(original * factor)
    for name in ("rope_scaling", "rope_theta"):
        text.pop(name, None)
    changed: Model = {**model, "max_model_len": found or None}
    if text:
        changed = warned(
            changed, [f"hf-overrides change {', '.join(sorted(text))}, and the plan reads lengths of them."]
        )
    return changed


def _allowed(limits: Mapping[str, Any], modality: str) -> bool:
    limit = limits.get(modality)
    count = limit.get("count") if isinstance(limit, Mapping) else limit
    return count != 0


def _without_towers(instance: Instance, model: Model) -> Model:
    """Leave the vision tower out where no picture is allowed (config/multimodal.py:690-710)."""
    limits = option(instance, "limit_mm_per_prompt") or {}
    if not model.get("vision"):
        return model
    pictures_alone = str(model.get("model_type")).startswith(PICTURES_ALONE)
    served = ("image",) if pictures_alone else ("image", "video")
    off = bool(option(instance, "language_model_only", False)) or not (
        any(_allowed(limits, name) for name in served) and _allowed(limits, "vision_chunk")
    )
    if not off:
        sized = [name for name, limit in limits.items() if isinstance(limit, Mapping) and set(limit) - {"count"}]
        said = "limit_mm_per_prompt gives sizes, and the account has those of the largest pictures."
        return warned(model, [said]) if sized else model
    changed: Model = {**model, "vision": None}
    if engine_versions.of(instance.engine_version).at_least(TOWERS_SKIPPED):
        changed = with_tensors(changed, [one for one in _tensors(model) if one["kind"] not in TOWERS])
    return changed


def _quantized_on_load(instance: Instance, model: Model) -> Model:
    """Quantize the linear layers of a checkpoint that is not quantized."""
    method = option(instance, "quantization")
    if not method or model.get("quantization"):
        return model
    if method not in ON_LOAD or not _tensors(model):
        return warned(model, [f"What quantization {method} makes of the weights is not counted: they are as stored."])
    size, experts_alone = ON_LOAD[method]
    kinds = EXPERTS if experts_alone else QUANTIZABLE
    if experts_alone and not model.get("is_moe"):
        return warned(model, [f"quantization {method} changes experts alone, and the model has none."])
    return with_tensors(
        model,
        [
            {**one, "bytes": round((one.get("parameters") or one["bytes"] / 2) * size)} if one["kind"] in kinds else one
            for one in _tensors(model)
        ],
    )


def _drafted(instance: Instance, model: Model) -> Model:
    found = drafting.of(option(instance, "speculative_config"), model)
    if found is None:
        return model
    changed = with_tensors(model, found.tensors) if _tensors(model) else model
    return warned({**changed, "draft": found.draft}, found.warnings)


def _with_adapters(instance: Instance, model: Model) -> Model:
    if not option(instance, "enable_lora", False):
        return model
    tensors, said = lora.slots(
        model,
        int(option(instance, "max_loras", 1)),
        int(option(instance, "max_lora_rank", lora.DEFAULT_RANK)),
        option(instance, "lora_target_modules"),
        bool(option(instance, "fully_sharded_loras", False)),
    )
    return warned(with_tensors(model, [*_tensors(model), *tensors]) if _tensors(model) else model, [said])


def _not_counted(instance: Instance, model: Model) -> Model:
    found = [name for name in NOT_COUNTED if option(instance, name.replace("-", "_")) not in (None, False, 1)]
    return warned(
        model,
        [f"{name} changes memory in a way that the account does not have: check the first start." for name in found],
    )


STEPS: Sequence[Callable[[Instance, Model], Model]] = (
    _overridden,
    _without_towers,
    _quantized_on_load,
    _drafted,
    _with_adapters,
    _not_counted,
)
