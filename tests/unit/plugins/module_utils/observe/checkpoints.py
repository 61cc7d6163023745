"""Small configurations, and safetensors files with headers and no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LLAMA: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "vocab_size": 320,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
# One layer of it, by the names of its checkpoint.
LLAMA_LAYER: Mapping[str, tuple[int, ...]] = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (128, 64),
    "mlp.up_proj": (128, 64),
    "mlp.down_proj": (64, 128),
    "input_layernorm": (64,),
    "post_attention_layernorm": (64,),
}
BYTES = {"BF16": 2, "F32": 4, "F16": 2, "I32": 4, "U8": 1, "F8_E4M3": 1, "I64": 8}

Headers = dict[str, dict[str, Any]]


def llama_headers(dtype: str = "BF16", head: bool = True) -> Headers:
    """The tensors of ``LLAMA``."""
    shapes: dict[str, Sequence[int]] = {"model.embed_tokens.weight": (320, 64), "model.norm.weight": (64,)}
    if head:
        shapes["lm_head.weight"] = (320, 64)
    for index in range(2):
        shapes.update({f"model.layers.{index}.{name}.weight": shape for name, shape in LLAMA_LAYER.items()})
    return {name: {"dtype": dtype, "shape": list(shape)} for name, shape in shapes.items()}


def safetensors(headers: Headers) -> bytes:
    """A safetensors file with these tensors, all zero."""
    offset, described = 0, {}
    for name, header in headers.items():
        size = BYTES[header["dtype"]]
        for side in header["shape"]:
            size *= side
        described[name] = {**header, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **described}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(offset)


def write_checkpoint(folder: Path, config: Mapping[str, Any], shards: Mapping[str, Headers], **files: Any) -> Path:
    """Make a model's folder; more than one shard has an index. ``files``: JSON, with ``__`` for a dot in the name."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, headers in shards.items():
        (folder / name).write_bytes(safetensors(headers))
    if len(shards) > 1:
        places = {tensor: name for name, headers in shards.items() for tensor in headers}
        total = sum((folder / name).stat().st_size for name in shards)
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(json.dumps(content), encoding="utf-8")
    return folder
