# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read how a checkpoint is quantized, from config.json or from the file beside it that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import (
    TextConfig,
    listing,
    mapping,
    whole,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_patterns import Patterns, ancestors, plain
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_schemes import Scheme

# Files that say it when config.json does not, in vLLM's order (config/model.py:1383-1470).
FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
# ModelOpt's algorithms as vLLM's methods (model_arch_config_convertor.py:241-292)
MODELOPT_METHODS: Mapping[str, str] = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "FP8_PB_WO": "modelopt",
    "NVFP4": "modelopt_fp4",
    "MXFP8": "modelopt_mxfp8",
    "MIXED_PRECISION": "modelopt_mixed",
}
FP8_BLOCK = (128, 128)
_ATTENTION = frozenset({"qkv_q", "qkv_kv", "attention_output", "mla_down", "mla_up", "linear_attention", "mamba"})


@dataclass
class Quantization:
    """How a checkpoint is quantized; ask :meth:`scheme` for a module."""

    method: str
    default: Scheme | None
    ignored: list[str] = field(default_factory=list)
    format: str | None = None
    symmetric: bool | None = None
    kv_cache_dtype: str | None = None
    lm_head: bool = False
    listed: Mapping[str, Scheme] = field(default_factory=dict)
    only_listed: bool = False
    targeted: list[tuple[Patterns, Scheme]] = field(default_factory=list)
    patterns: Patterns = field(default_factory=lambda: Patterns(()))
    experts: Scheme | None = None
    draft_experts: Scheme | None = None

    def scheme(self, part: Part, kind: str = "") -> Scheme | None:
        """Return how a module is quantized, or None when it is not. ``kind`` stands in for the part's own."""
        kind = kind or part.kind
        if kind == "lm_head":
            return (self._listed("lm_head") or self.default) if self.lm_head else None
        if not part.quantizable:
            return None
        if self.only_listed:
            return self._listed(part.name)
        if self.patterns.meant(part.name):
            return None
        if self.experts is not None and ".experts." in part.name:
            return self.draft_experts if self.draft_experts and part.name.startswith("mtp.") else self.experts
        for patterns, scheme in self.targeted:
            if patterns.meant(part.name):
                return scheme
        return self._listed(part.name) or self.default

    def public(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Return the fact ``quantization_config``; ``parts`` are the model's, to say which of them are quantized."""
        scheme = self.default or self.experts
        attention = [part for part in parts if part.quantizable and part.kind in _ATTENTION]
        shared = [part for part in parts if part.quantizable and part.kind.startswith("shared_expert")]
        return {
            "method": self.method,
            "bits": scheme.bits if scheme else None,
            "group_size": scheme.group if scheme else None,
            "block": list(scheme.block) if scheme and scheme.block else None,
            "format": self.format,
            "activation_bits": scheme.activation_bits if scheme else None,
            "zero_point": bool(scheme and scheme.zero_point),
            "symmetric": self.symmetric,
            "desc_act": bool(scheme and scheme.desc_act),
            "lm_head": self.lm_head,
            "ignored": self.ignored,
            "kv_cache_dtype": self.kv_cache_dtype,
            "attention": any(self.scheme(part) for part in attention),
            "shared_experts": any(self.scheme(part) for part in shared),
            "experts_bits": self.experts.bits if self.experts else None,
        }

    def _listed(self, name: str) -> Scheme | None:
        return next((self.listed[place] for place in ancestors(name) if place in self.listed), None)


def raw_config(config: Mapping[str, Any], text: TextConfig, files: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the quantization part of a configuration, or the first of the files beside it; empty without any."""
    for place in (config, text.own):
        for key in ("quantization_config", "compression_config"):
            if mapping(place.get(key)):
                return mapping(place[key])
    return next((mapping(files[name]) for name in FILES if mapping(files.get(name))), {})


def read(config: Mapping[str, Any], text: TextConfig, files: Mapping[str, Any] | None = None) -> Quantization | None:
    """Read the quantization of a checkpoint; ``files`` maps names of ``FILES`` to their content. None without any."""
    raw = raw_config(config, text, files or {})
    if not raw:
        return None
    method = _method(raw)
    if method.startswith("modelopt"):
        return _modelopt(raw, method)
    if method == "compressed-tensors":
        return _compressed_tensors(raw)
    if method in ("awq", "gptq", "auto-round", "autoround", "inc"):
        return _packed(raw, method)
    if method in ("mxfp4", "gpt_oss_mxfp4"):
        return _listing_left_out(raw, method, Scheme("mxfp4", 4, group=32), symmetric=True)
    if method in ("fp8", "fbgemm_fp8"):
        return _fp8(raw, method, text)
    if method == "bitsandbytes":
        eight = raw.get("load_in_8bit") is True
        scheme = Scheme("plain_bits", 8) if eight else Scheme("plain_bits", 4, group=256)
        return _listing_left_out(raw, method, scheme)
    bits = whole(raw.get("bits")) or whole(raw.get("w_bit")) or 8
    scheme = Scheme("plain_bits", bits, group=whole(raw.get("group_size")))
    return _listing_left_out(raw, method or "unknown", scheme)


def _algorithm(raw: Mapping[str, Any]) -> str:
    for place in (mapping(raw.get("quantization")), raw):
        if isinstance(place.get("quant_algo"), str):
            return str(place["quant_algo"]).upper()
    return ""


def _method(raw: Mapping[str, Any]) -> str:
    written = raw.get("quant_method")
    method = written.lower().replace("compressed_tensors", "compressed-tensors") if isinstance(written, str) else ""
    producer = mapping(raw.get("producer")).get("name")
    algorithm = _algorithm(raw)
    if method in ("", "modelopt") and (producer == "modelopt" or algorithm):
        return MODELOPT_METHODS.get(algorithm, "modelopt")
    if not method and isinstance(raw.get("bits"), int):
        # quantize_config.json of AutoGPTQ, quant_config.json of AutoAWQ
        return "gptq" if "desc_act" in raw else "awq"
    if not method and isinstance(raw.get("w_bit"), int):
        return "awq"
    return method


def _left_out(raw: Mapping[str, Any]) -> list[str]:
    keys = ("ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules", "exclude")
    found: list[str] = []
    for place in (raw, mapping(raw.get("quantization"))):
        for key in keys:
            found += [name for name in listing(place.get(key)) if isinstance(name, str)]
    return found


def _listing_left_out(raw: Mapping[str, Any], method: str, scheme: Scheme, **more: Any) -> Quantization:
    ignored = _left_out(raw)
    return Quantization(method, scheme, ignored, patterns=Patterns(ignored), **more)


def _fp8(raw: Mapping[str, Any], method: str, text: TextConfig) -> Quantization:
    static = raw.get("activation_scheme") == "static"
    block = listing(raw.get("weight_block_size"))
    if len(block) == 2 and all(whole(side) for side in block):
        scale = "f8_e8m0" if text.model_type.startswith("deepseek_v4") else "f32"
        sides = (int(block[0]), int(block[1]))
        scheme = Scheme("fp8_block", 8, block=sides, static=static, scale=scale, activation_bits=8)
    else:
        name = "fp8_channel" if method == "fbgemm_fp8" else "fp8_tensor"
        scheme = Scheme(name, 8, static=static, scale="f32", activation_bits=8)
    result = _listing_left_out(raw, method, scheme, format=raw.get("fmt") if isinstance(raw.get("fmt"), str) else None)
    if text.model_type.startswith("deepseek_v4"):
        # models/deepseek_v4/quant_config.py: the experts' type is a setting of the model, MXFP4 unless written
        nvfp4 = raw.get("moe_quant_algo") == "NVFP4"
        published = Scheme("mxfp4", 4, group=32)
        four_bit = Scheme("nvfp4", 4, group=16, static=True) if nvfp4 else published
        result.experts = four_bit if text.value("expert_dtype", "fp4") == "fp4" else None
        if nvfp4:
            # What it leaves out stays as it was published: FP8, and MXFP4 for the experts of the MTP layer.
            result.patterns, result.ignored, result.draft_experts = Patterns(()), [], published
    return result


def _packed(raw: Mapping[str, Any], method: str) -> Quantization:
    bits = whole(raw.get("bits")) or whole(raw.get("w_bit")) or 4
    group = raw.get("group_size", raw.get("q_group_size"))
    group = group if isinstance(group, int) and not isinstance(group, bool) else 128
    kind = "awq" if method == "awq" else "gptq"
    zero_point = raw.get("zero_point") is not False if kind == "awq" else True
    symmetric = not zero_point if kind == "awq" else raw.get("sym") is not False
    desc_act = raw.get("desc_act") is True
    scheme = Scheme(kind, bits, group=group, zero_point=zero_point, desc_act=desc_act, scale="f16")
    result = _listing_left_out(raw, method, scheme, symmetric=symmetric, lm_head=raw.get("lm_head") is True)
    for pattern in mapping(raw.get("dynamic")):
        # GPTQModel: "-:" leaves a module out, "+:" or nothing changes its settings (auto_gptq.py)
        if isinstance(pattern, str) and pattern.startswith("-:"):
            result.patterns.add_expression(pattern[2:])
            result.ignored.append(pattern)
    return result


def _weights_scheme(group: Mapping[str, Any], written: str) -> Scheme:
    """The scheme of a group of compressed-tensors (compressed_tensors/compressed_tensors.py:_get_scheme_from_parts)."""
    weights, inputs = mapping(group.get("weights")), mapping(group.get("input_activations"))
    bits, size = whole(weights.get("num_bits")) or 8, weights.get("group_size")
    static = bool(inputs) and inputs.get("dynamic") is False
    activation = whole(inputs.get("num_bits"))
    common: dict[str, Any] = {"static": static, "activation_bits": activation}
    style = str(group.get("format") or written)
    floating = weights.get("type") == "float"
    if floating and bits == 4:
        name = "mxfp4" if size == 32 or "mxfp4" in style else "nvfp4"
        return Scheme(name, 4, group=32 if name == "mxfp4" else 16, **common)
    if bits == 8 and (floating or activation == 8):
        block = listing(weights.get("block_structure"))
        if weights.get("strategy") == "block":
            given = len(block) == 2 and all(whole(side) for side in block)
            sides = (int(block[0]), int(block[1])) if given else FP8_BLOCK
            return Scheme("fp8_block", 8, block=sides, scale="bf16", **common)
        if weights.get("strategy") == "tensor":
            return Scheme("fp8_tensor", 8, **common)
        return Scheme("fp8_channel" if floating else "int8_channel", 8, **common)
    group_size = whole(size) or (-1 if weights.get("strategy") else 128)
    return Scheme(
        "packed", bits, group=group_size, zero_point=weights.get("symmetric") is False,
        desc_act=weights.get("actorder") in ("group", True), activation_bits=activation,
    )  # fmt: skip


def _compressed_tensors(raw: Mapping[str, Any]) -> Quantization:
    written = raw.get("format") if isinstance(raw.get("format"), str) else ""
    result = _listing_left_out(raw, "compressed-tensors", Scheme("plain_bits", 16), format=written or None)
    result.default = None
    for group in mapping(raw.get("config_groups")).values():
        scheme = _weights_scheme(mapping(group), str(written))
        if not mapping(mapping(group).get("weights")):
            continue
        targets = [target for target in listing(mapping(group).get("targets")) if isinstance(target, str)]
        result.symmetric = mapping(mapping(group)["weights"]).get("symmetric") is not False
        result.format = result.format or mapping(group).get("format")
        if not targets or "Linear" in targets:
            result.default = scheme
        else:
            result.targeted.append((Patterns(targets), scheme))
    if mapping(raw.get("kv_cache_scheme")):
        result.kv_cache_dtype = "fp8"
    return result


def _modelopt_scheme(algorithm: str) -> Scheme:
    if algorithm in ("NVFP4", "W4A16_NVFP4", "NVFP4_AWQ", "W4A8_NVFP4_FP8"):
        only_weights = algorithm == "W4A16_NVFP4"
        return Scheme("nvfp4", 4, group=16, static=not only_weights, activation_bits=None if only_weights else 4)
    if algorithm == "MXFP8":
        return Scheme("mxfp8", 8, group=32, activation_bits=8)
    if algorithm == "FP8_PB_WO":
        return Scheme("fp8_block", 8, block=FP8_BLOCK, scale="f32", activation_bits=8)
    if algorithm == "FP8_PER_CHANNEL_PER_TOKEN":
        return Scheme("fp8_channel", 8, scale="f32", activation_bits=8)
    return Scheme("fp8_tensor", 8, static=True, scale="f32", activation_bits=8)


def _modelopt(raw: Mapping[str, Any], method: str) -> Quantization:
    algorithm = _algorithm(raw)
    result = _listing_left_out(raw, method, _modelopt_scheme(algorithm), format=algorithm or None, symmetric=True)
    inner = mapping(raw.get("quantization"))
    layers = mapping(inner.get("quantized_layers")) or mapping(raw.get("quantized_layers"))
    if layers:
        schemes = {name: _modelopt_scheme(str(mapping(one).get("quant_algo")).upper()) for name, one in layers.items()}
        result.listed = {plain(name): scheme for name, scheme in schemes.items()}
        result.only_listed = True
        result.lm_head = "lm_head" in result.listed
        fewest = min((scheme.bits for scheme in schemes.values()), default=8)
        result.default = next(scheme for scheme in schemes.values() if scheme.bits == fewest)
    scheme = raw.get("kv_cache_scheme")
    written = inner.get("kv_cache_quant_algo") or raw.get("kv_cache_quant_algo") or scheme
    if written == "FP8" or whole(mapping(scheme).get("num_bits")) == 8:
        result.kv_cache_dtype = "fp8"
    return result
