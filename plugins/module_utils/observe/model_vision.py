# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Vision towers and projectors, from the configuration (vLLM 0.33.0's models of the same names)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import (
    TextConfig,
    listing,
    mapping,
    whole,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_defaults import VISION_DEFAULTS
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part, Parts

# The names that vision configurations use for the same number.
NAMES: Mapping[str, tuple[str, ...]] = {
    "num_attention_heads": ("num_attention_heads", "num_heads", "vt_num_attention_heads", "n_heads"),
    "hidden_size": ("hidden_size", "vt_hidden_size", "embed_dim", "width", "dim"),
    "num_layers": ("num_hidden_layers", "depth", "vt_num_hidden_layers", "n_layers", "layers"),
    "intermediate_size": ("intermediate_size", "vt_intermediate_size"),
}


class Tower:
    """The numbers of a vision tower; 0 where the configuration says none."""

    def __init__(self, config: Mapping[str, Any], text_hidden: int) -> None:
        self.config = config
        self.text_hidden = text_hidden
        self.hidden, self.layers, self.inner, self.heads = (
            self.number(*NAMES[name]) for name in ("hidden_size", "num_layers", "intermediate_size",
                                                   "num_attention_heads")
        )  # fmt: skip
        self.patch = self.number("patch_size", "spatial_patch_size")

    def number(self, *names: str) -> int:
        """Return the first positive number among ``names``, 0 without one."""
        return next((found for found in (whole(self.config.get(name)) for name in names) if found), 0)

    def positions(self) -> int:
        """Number of patches of an image of the tower's own size."""
        return (self.number("image_size") // self.patch) ** 2 if self.patch else 0


def config_of(text: TextConfig) -> Mapping[str, Any] | None:
    """Return the configuration of the vision tower, None without one."""
    for place in (text.root, mapping(text.root.get("thinker_config"))):
        found = mapping(place.get("vision_config")) or mapping(place.get("vision_tower_config"))
        if found:
            return found
    return VISION_DEFAULTS.get(text.root_type)


def summary(text: TextConfig) -> dict[str, int | None] | None:
    """Describe the vision tower: heads, hidden size, layers, intermediate size."""
    config = config_of(text)
    if config is None:
        return None
    tower = Tower(config, text.hidden_size)
    return {
        "num_attention_heads": tower.heads or None,
        "hidden_size": tower.hidden or None,
        "num_layers": tower.layers or None,
        "intermediate_size": tower.inner or None,
    }


def vision(text: TextConfig) -> list[Part]:
    """List the modules of the vision tower and of its projector; empty without a vision configuration."""
    config = config_of(text)
    if config is None:
        return []
    tower = Tower(config, text.hidden_size)
    parts = Parts("visual.")
    TOWERS.get(text.root_type, _plain)(parts, tower)
    return parts.items


def known(text: TextConfig) -> bool:
    """Whether the vision tower of this model type is computed from its own structure."""
    return config_of(text) is None or text.root_type in TOWERS


def _block(tower: Tower, attention_bias: bool, mlp_bias: bool, norm: int, gated: bool = False) -> int:
    """Number of weights of one block with four square projections, two norms of ``norm`` weights and an MLP."""
    hidden, inner = tower.hidden, tower.inner
    attention = 4 * hidden * hidden + (4 * hidden if attention_bias else 0)
    sides = 2 if gated else 1
    mlp = (sides + 1) * hidden * inner + (sides * inner + hidden if mlp_bias else 0)
    return attention + mlp + 2 * norm


def _plain(parts: Parts, tower: Tower) -> None:
    """A tower of an unknown kind, as a plain vision transformer."""
    size = 3 * tower.patch**2 * tower.hidden + tower.layers * _block(tower, True, True, 2 * tower.hidden)
    parts.vector("vision", "tower", size)
    parts.vector("projector", "projector", tower.hidden * tower.text_hidden + tower.text_hidden**2)


def _qwen2_5(parts: Parts, tower: Tower) -> None:
    hidden, merged = tower.hidden, tower.hidden * (tower.number("spatial_merge_size") or 2) ** 2
    patch = 3 * (tower.number("temporal_patch_size") or 2) * tower.patch**2 * hidden
    parts.vector("vision", "blocks", patch + tower.layers * _block(tower, True, True, hidden, gated=True))
    output = tower.number("out_hidden_size") or tower.text_hidden
    parts.vector("projector", "merger", hidden + merged * merged + merged + merged * output + output)


def _qwen3(parts: Parts, tower: Tower) -> None:
    hidden, merged = tower.hidden, tower.hidden * (tower.number("spatial_merge_size") or 2) ** 2
    patch = 3 * (tower.number("temporal_patch_size") or 2) * tower.patch**2 * hidden + hidden
    positions = (tower.number("num_position_embeddings")) * hidden
    blocks = tower.layers * _block(tower, True, True, 2 * hidden)
    parts.vector("vision", "blocks", patch + positions + blocks)
    output = tower.number("out_hidden_size") or tower.text_hidden
    merger = merged * merged + merged + merged * output + output
    deep = len(listing(tower.config.get("deepstack_visual_indexes")))
    parts.vector("projector", "merger", merger + 2 * hidden + deep * (merger + 2 * merged))


def _siglip(parts: Parts, tower: Tower) -> None:
    hidden = tower.hidden
    table = 3 * tower.patch**2 * hidden + hidden + tower.positions() * hidden
    parts.vector("vision", "tower", table + tower.layers * _block(tower, True, True, 2 * hidden) + 2 * hidden)
    parts.vector("projector", "mm", hidden * tower.text_hidden + hidden)


def _clip(parts: Parts, tower: Tower) -> None:
    hidden = tower.hidden
    table = 3 * tower.patch**2 * hidden + hidden + (tower.positions() + 1) * hidden
    parts.vector("vision", "tower", table + tower.layers * _block(tower, True, True, 2 * hidden) + 4 * hidden)
    text = tower.text_hidden
    parts.vector("projector", "multi_modal_projector", hidden * text + text + text * text + text)


def _pixtral(parts: Parts, tower: Tower) -> None:
    hidden, text = tower.hidden, tower.text_hidden
    patch = 3 * tower.patch**2 * hidden + hidden
    parts.vector("vision", "tower", patch + tower.layers * _block(tower, False, False, hidden, gated=True))
    parts.vector("projector", "multi_modal_projector", hidden + 4 * hidden * hidden + hidden * text + text * text)


def _moonvit(parts: Parts, tower: Tower) -> None:
    hidden = tower.hidden
    merged = 4 * hidden
    side = tower.number("init_pos_emb_height") or 64
    table = 3 * tower.patch**2 * hidden + hidden + side * (tower.number("init_pos_emb_width") or 64) * hidden
    parts.vector("vision", "tower", table + tower.layers * _block(tower, True, True, 2 * hidden) + 2 * hidden)
    text = tower.text_hidden
    parts.vector("projector", "mm", 2 * hidden + merged * merged + merged + merged * text + text)


def _kimi_k3(parts: Parts, tower: Tower) -> None:
    """MoonViT with a wider attention, RMS norms and no biases (models/kimi_k25_vit.py)."""
    hidden, wide, merged = tower.hidden, tower.number("qkv_hidden_size") or tower.hidden, 4 * tower.hidden
    side = tower.number("init_pos_emb_height") or 64
    table = 3 * tower.patch**2 * hidden + side * (tower.number("init_pos_emb_width") or 64) * hidden
    block = 4 * wide * hidden + 2 * hidden * tower.inner + 2 * hidden
    parts.vector("vision", "tower", table + tower.layers * block + hidden)
    parts.vector("projector", "mm", hidden + merged * merged + merged * tower.text_hidden + tower.text_hidden)


def _llama4(parts: Parts, tower: Tower) -> None:
    hidden = tower.hidden
    table = 3 * tower.patch**2 * hidden + hidden + (tower.positions() + 1) * hidden + 4 * hidden
    blocks = tower.layers * _block(tower, True, True, 2 * hidden)
    middle, output = tower.number("projector_input_dim"), tower.number("projector_output_dim")
    parts.vector("vision", "tower", table + blocks + tower.inner * middle + middle * output)
    parts.vector("projector", "multi_modal_projector", output * tower.text_hidden)


def _minimax_m3(parts: Parts, tower: Tower) -> None:
    """models/minimax_m3/common/vision_tower.py: a projector, then an MLP over merged patches."""
    hidden, text = tower.hidden, tower.text_hidden
    merge = mapping(tower.config.get("img_token_compression_config"))
    frames, side = whole(merge.get("temporal_patch_size")) or 2, whole(merge.get("spatial_merge_size")) or 2
    table = 3 * frames * tower.patch**2 * hidden + 2 * hidden
    parts.vector("vision", "tower", table + tower.layers * _block(tower, True, True, 2 * hidden))
    middle = tower.number("projection_dim") or text
    projector = hidden * middle + middle + middle * text + text
    merger = side * side * text * text + text + text * text + text
    parts.vector("projector", "multi_modal_projector", projector + merger)


def _gemma4(parts: Parts, tower: Tower) -> None:
    hidden, head_dim = tower.hidden, tower.number("head_dim")
    table = 3 * tower.patch**2 * hidden + 2 * tower.number("position_embedding_size") * hidden
    block = 4 * tower.heads * head_dim * hidden + 2 * head_dim + 4 * hidden + 3 * hidden * tower.inner
    scale = 2 * hidden if tower.config.get("standardize") else 0
    parts.vector("vision", "tower", table + tower.layers * block + scale)
    parts.vector("projector", "embed_vision", hidden * tower.text_hidden)


TOWERS: Mapping[str, Callable[[Parts, Tower], None]] = {
    "qwen2_5_vl": _qwen2_5,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "qwen3_5": _qwen3,
    "qwen3_5_moe": _qwen3,
    "gemma3": _siglip,
    "llava": _clip,
    "mistral3": _pixtral,
    "kimi_vl": _moonvit,
    "kimi_k25": _moonvit,
    "kimi_k3": _kimi_k3,
    "llama4": _llama4,
    "gemma4": _gemma4,
    "minimax_m3_vl": _minimax_m3,
}
