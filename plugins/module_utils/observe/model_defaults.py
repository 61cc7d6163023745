# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a config.json may leave out because the configuration classes of transformers fill it in.

Values are those of transformers 5.20.2, models/<model_type>/configuration_<model_type>.py. Only what published
configurations really leave out is here, by the ``model_type`` of the language part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LLAMA: Mapping[str, Any] = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
_MISTRAL: Mapping[str, Any] = {
    **_LLAMA,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
}
_GEMMA3: Mapping[str, Any] = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "num_hidden_layers": 26,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": _LLAMA,
    "mistral": {**_MISTRAL, "sliding_window": 4096},
    "mixtral": {**_MISTRAL, "num_local_experts": 8, "num_experts_per_tok": 2},
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "sliding_window": 4096, "max_position_embeddings": 8192},
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma3n_text": {
        "vocab_size": 262400,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "max_position_embeddings": 32768,
        "sliding_window": 512,
        "sliding_window_pattern": 5,
        "vocab_size_per_layer_input": 262144,
        "hidden_size_per_layer_input": 256,
        "altup_num_inputs": 4,
        "num_kv_shared_layers": 15,
        "laurel_rank": 64,
    },
    "gemma4_text": {"head_dim": 256, "global_head_dim": 512, "sliding_window": 512, "sliding_window_pattern": 6},
    "qwen2": {"max_position_embeddings": 32768},
    "qwen3": {"head_dim": 128, "max_position_embeddings": 32768},
    "qwen2_moe": {"max_position_embeddings": 32768},
    "qwen3_moe": {"max_position_embeddings": 32768},
    "glm4_moe": {"max_position_embeddings": 131072},
    "phi3": {"max_position_embeddings": 4096},
    "glm4": {"head_dim": 128, "attention_bias": True},
    "glm": {"head_dim": 128, "attention_bias": True},
    "gpt_oss": {"head_dim": 64, "attention_bias": True, "sliding_window": 128, "sliding_window_pattern": 2},
    "cohere": {"max_position_embeddings": 8192},
    "cohere2": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "falcon": {"max_position_embeddings": 2048, "multi_query": True},
    "starcoder2": {"use_bias": True},
    "nemotron_h": {"head_dim": 128, "n_groups": 8, "ssm_state_size": 128, "conv_kernel": 4, "vocab_size": 131072},
    "llama4_text": {"attention_chunk_size": 8192, "interleave_moe_layer_step": 1},
    "gpt2": {"n_positions": 1024},
    "bert": {"type_vocab_size": 2},
    "xlm-roberta": {"type_vocab_size": 2},
}

# The vision towers of these are left to the classes' defaults by some copies of their configurations. Llama 4's
# class default is not what was published; both published models carry these numbers.
VISION_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama4": {
        "hidden_size": 1408,
        "num_hidden_layers": 34,
        "num_attention_heads": 16,
        "intermediate_size": 5632,
        "patch_size": 14,
        "image_size": 336,
        "vision_output_dim": 4096,
        "projector_input_dim": 4096,
        "projector_output_dim": 4096,
    },
}

# Language parts whose input table is also their output head unless the configuration says otherwise.
TIED = frozenset(
    {
        "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n_text", "gemma4_text", "cohere", "cohere2", "falcon",
        "starcoder2", "gpt2", "opt", "bloom", "mpt", "bert", "roberta", "xlm-roberta", "mamba", "gpt_bigcode",
    }
)  # fmt: skip
