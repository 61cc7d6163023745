"""Models as model_info describes them, made from the few numbers of their configurations."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model


def llama_like(architecture: str, **config: Any) -> dict[str, Any]:
    """Facts of a model with the given configuration."""
    return model.facts({"architectures": [architecture], "torch_dtype": "bfloat16", **config})


def _llama(layers: int, hidden: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return llama_like(
        "LlamaForCausalLM",
        model_type="llama",
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=8,
        intermediate_size=inner,
        vocab_size=128256,
        max_position_embeddings=131072,
        **more,
    )


def _qwen3(layers: int, hidden: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return llama_like(
        more.pop("architecture", "Qwen3ForCausalLM"),
        **{
            "model_type": "qwen3",
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": inner,
            "vocab_size": 151936,
            "max_position_embeddings": 40960,
            **more,
        },
    )


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}

LLAMA_1B = _llama(16, 2048, 32, 8192, head_dim=64, tie_word_embeddings=True)
LLAMA_8B = _llama(32, 4096, 32, 14336)
LLAMA_70B = _llama(80, 8192, 64, 28672)
LLAMA_70B_AWQ = _llama(80, 8192, 64, 28672, quantization_config=AWQ)
QWEN3_06B = _qwen3(28, 1024, 16, 3072, tie_word_embeddings=True)
QWEN3_8B = _qwen3(36, 4096, 32, 12288)
QWEN3_8B_FP8 = _qwen3(36, 4096, 32, 12288, quantization_config=FP8)
QWEN3_8B_AWQ = _qwen3(36, 4096, 32, 12288, quantization_config=AWQ)
QWEN3_14B = _qwen3(40, 5120, 40, 17408)
QWEN3_32B_FP8 = _qwen3(64, 5120, 64, 25600, quantization_config=FP8)
QWEN25_72B = _qwen3(80, 8192, 64, 29568, architecture="Qwen2ForCausalLM", model_type="qwen2", vocab_size=152064)


def qwen3_235b(**more: Any) -> dict[str, Any]:
    """A mixture of 128 experts, of which a token takes 8."""
    return _qwen3(
        94,
        4096,
        64,
        12288,
        architecture="Qwen3MoeForCausalLM",
        model_type="qwen3_moe",
        num_key_value_heads=4,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=1536,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        **more,
    )


QWEN3_235B = qwen3_235b()
QWEN3_235B_FP8 = qwen3_235b(quantization_config=FP8)
