# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The language part of a config.json, with its numbers under one name each, as vLLM 0.33.0 reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model_defaults

# The names that vLLM accepts for one and the same number, in its order (transformers_utils/config.py:56-81 and
# model_arch_config_convertor.py:79-118), and those that the attribute_map of transformers' classes adds.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_kv_heads": (
        "n_head_kv",
        "num_kv_heads",
        "num_key_value_heads",
        "multi_query_group_num",
        "num_attention_groups",
    ),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim"),
    "moe_intermediate_size": ("moe_intermediate_size", "expert_intermediate_size"),
    "num_experts": ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"),
    "num_experts_per_tok": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "top_k_experts",
        "moe_topk",
        "moe_top_k",
        "top_k",
    ),
    "num_shared_experts": ("n_shared_experts", "moe_num_shared_experts", "num_shared_experts"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "head_dim": ("head_dim", "attention_head_dim", "hidden_size_per_head", "kv_channels"),
    "kv_lora_rank": ("kv_lora_rank",),
    "q_lora_rank": ("q_lora_rank",),
    "qk_nope_head_dim": ("qk_nope_head_dim",),
    "qk_rope_head_dim": ("qk_rope_head_dim",),
    "v_head_dim": ("v_head_dim",),
}
# The shortest of these is the longest sequence (model_arch_config_convertor.py:374-407); model_max_length beats them.
LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Where multimodal models keep the configuration of their language part.
NESTED = ("text_config", "thinker_config", "language_config", "llm_config")
# What vLLM assumes when no key says a length (config/model.py:2591-2599).
UNKNOWN_LENGTH = 2048
# RoPE scalings whose factor vLLM does not multiply the length by (config/model.py:2610-2625)
LENGTH_INCLUDED = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})
# Model types with multi-head latent attention (model_arch_config_convertor.py:294-322)
MLA_TYPES = frozenset(
    {
        "axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v41", "dots3_note", "glm5_next",
        "glm5_next_text", "glm_moe_dsa", "glm4_moe_lite", "kimi_k2", "kimi_linear", "longcat_flash",
        "pangu_ultra_moe", "bailing_hybrid", "hy_v4", "mistral4",
    }
)  # fmt: skip
# No model has more layers; a larger number is a slip of the pen.
MOST_LAYERS = 10_000
# Products of a few numbers below it can still be computed with as floats.
TOO_LARGE = 2**63
# Numbers that configurations of these families nest one level deeper.
INNER = ("attn_config", "ffn_config")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that describes the language model."""
    for key in NESTED:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return text_config(inner)
    return config


def whole(value: Any) -> int | None:
    """Return a number as a positive int, or None, also for one that no tensor has."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < TOO_LARGE else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def listing(value: Any) -> Sequence[Any]:
    """Return a JSON list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


class TextConfig:
    """The language part of a configuration, with the defaults of its model type filled in.

    ``config`` is a whole config.json. Numbers that are missing, not positive or of another type are None.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.root = config
        own = text_config(config)
        model_type = own.get("model_type") or config.get("model_type")
        self.model_type = model_type if isinstance(model_type, str) else ""
        root_type = config.get("model_type")
        self.root_type = root_type if isinstance(root_type, str) else ""
        names = config.get("architectures")
        self.architectures = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        self.own = own
        self.defaults = model_defaults.DEFAULTS.get(self.model_type, {})

    def value(self, name: str, default: Any = None) -> Any:
        """Return what the configuration says of ``name``, else its model type's default, else ``default``."""
        if self.own.get(name) is not None:
            return self.own[name]
        if name in self.own:
            return default
        return self.defaults.get(name, default)

    def number(self, *names: str) -> int | None:
        """Return the first positive number among ``names``; the first of a list when it is one.

        A name that is written as null or 0 has no default.
        """
        places = [self.own, *(mapping(self.own.get(key)) for key in INNER)]
        for name in names:
            written = any(name in place for place in places)
            for place in places if written else [self.defaults]:
                value = place.get(name)
                found = whole(value[0] if isinstance(value, list) and value else value)
                if found is not None:
                    return found
        return None

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean setting."""
        value = self.value(name)
        return value if isinstance(value, bool) else default

    def alias(self, name: str) -> int | None:
        """Return a number by the name this collection gives it (a key of ``ALIASES``)."""
        return self.number(*ALIASES[name])

    @property
    def hidden_size(self) -> int:
        """Size of the hidden state, 0 when unknown."""
        return self.alias("hidden_size") or 0

    @property
    def num_layers(self) -> int | None:
        """Number of layers; a list with an entry per layer counts where no number is written."""
        found = self.number("num_layers") if self.model_type == "longcat_flash" else self.alias("num_layers")
        if found is None:
            pattern = self.own.get("hybrid_override_pattern")
            found = len(listing(self.own.get("layers_block_type"))) or (
                len(pattern) if isinstance(pattern, str) else None
            )
        return found if found and found <= MOST_LAYERS else None

    @property
    def num_kv_heads(self) -> int | None:
        """Number of KV heads as the architecture's converter gives it; as many as attention heads when none is named.

        model_arch_config_convertor.py:500-540 (Falcon, DBRX, Nemotron-NAS).
        """
        heads = self.alias("num_attention_heads")
        if self.model_type in ("falcon", "RefinedWeb", "RefinedWebModel") and not self.flag("new_decoder_architecture"):
            return 1 if self.flag("multi_query") else self.alias("num_kv_heads") or heads
        inner = whole(mapping(self.own.get("attn_config")).get("kv_n_heads"))
        if inner is not None:
            return inner
        for block in listing(self.own.get("block_configs")):
            attention = mapping(mapping(block).get("attention"))
            group = whole(attention.get("n_heads_in_group"))
            if heads and group and not attention.get("no_op"):
                return heads // group
        return self.alias("num_kv_heads") or heads

    @property
    def head_dim(self) -> int | None:
        """Size of a query head, as the attention layers are built with it."""
        found = self.alias("head_dim")
        heads = self.alias("num_attention_heads")
        if found is None and self.hidden_size and heads:
            found = self.hidden_size // heads
        return found or None

    @property
    def compress_ratios(self) -> Sequence[Any]:
        """DeepSeek-V4's compression per layer, empty for other models (deepseek_v4_utils.py)."""
        return listing(self.own.get("compress_ratios"))

    @property
    def mla(self) -> bool:
        """Whether vLLM runs the model with multi-head latent attention (model_arch_config_convertor.py:294-342)."""
        if self.compress_ratios:
            return self.alias("head_dim") is not None
        known = self.model_type in MLA_TYPES or (not self.model_type and bool(self.alias("kv_lora_rank")))
        return known and self.alias("kv_lora_rank") is not None

    @property
    def tied(self) -> bool:
        """Whether the input table is the output head too."""
        for place in (self.own, self.root):
            if isinstance(place.get("tie_word_embeddings"), bool):
                return bool(place["tie_word_embeddings"])
        return self.model_type in model_defaults.TIED

    def rope_types(self) -> list[tuple[str, Any]]:
        """List type and factor of each RoPE setting; a model with two kinds of layers may have one for each."""
        return list(self._ropes())

    def _ropes(self) -> Iterator[tuple[str, Any]]:
        rope = mapping(self.own.get("rope_scaling")) or mapping(self.own.get("rope_parameters"))
        settings = [rope] if "rope_type" in rope or "type" in rope else [mapping(one) for one in rope.values()]
        for one in settings:
            kind = one.get("rope_type") or one.get("type")
            if isinstance(kind, str):
                yield kind, one.get("factor")

    @property
    def rope_scaling(self) -> str | None:
        """The type of the RoPE scaling."""
        kinds = [kind for kind, _ in self.rope_types()]
        return next((kind for kind in kinds if kind != "default"), kinds[0] if kinds else None)

    def derived_length(self) -> int | None:
        """The longest sequence in tokens that vLLM accepts; None when no key says one (then vLLM takes 2048).

        config/model.py:2545-2684.
        """
        known = [length for length in (self.number(key) for key in LENGTHS) if length]
        length = self.number("model_max_length") or (min(known) if known else None)
        if length is None:
            return None
        factor: Any = 1.0
        if "gemma3" not in self.model_type:
            for kind, scale in self.rope_types():
                if kind not in LENGTH_INCLUDED and scale is not None:
                    factor = scale
        return int(length * factor) if isinstance(factor, (int, float)) and 0 < factor < 1e6 else length

    def default_length(self) -> int | None:
        """The length that vLLM takes when none is asked for: less than the longest with LongRoPE."""
        if any(kind == "longrope" for kind, _ in self.rope_types()):
            return self.number("original_max_position_embeddings") or self.derived_length()
        return self.derived_length()

    @property
    def dtype(self) -> str | None:
        """Type that the weights are stored in (model_arch_config_convertor.py:201-239)."""
        for place in (self.own, self.root, mapping(self.root.get("vision_config"))):
            for key in ("dtype", "torch_dtype"):
                name = place.get(key)
                if isinstance(name, str):
                    return name[len("torch.") :] if name.startswith("torch.") else name
        return None
