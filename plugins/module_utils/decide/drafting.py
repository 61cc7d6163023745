# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What speculative decoding loads and keeps: layers for multi-token prediction, an EAGLE head, or a draft model. Pure.

config/speculative.py and v1/spec_decode/*.py of vLLM 0.33.0.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Model = Mapping[str, Any]

# Methods that look drafts up in the text
WITHOUT_WEIGHTS = frozenset(("ngram", "ngram_gpu", "suffix"))
EAGLE = frozenset(("eagle", "eagle3"))
# config/speculative.py: SpeculativeMethod, without each family's own name of "mtp"
METHODS = (*sorted(WITHOUT_WEIGHTS), *sorted(EAGLE), "mtp", "draft_model", "medusa", "mlp_speculator", "dflash")
# Models whose checkpoint repeats table and head for the drafting layer, which then uses the model's own
# (v1/spec_decode/eagle.py, "share embedding")
REPEAT_TABLES = frozenset(("deepseek_v3", "deepseek_v32", "kimi_k2"))
# config/speculative.py:821-843: drafts of this model type look at a window
WINDOWED = frozenset(("mimo_v2_flash",))
# Features of EAGLE's input: the hidden state and the token, three hidden states for EAGLE-3 (models/llama_eagle3.py)
INPUTS = {"eagle": 2, "eagle3": 3}
# Tokens that most EAGLE-3 heads know (draft_vocab_size of their config.json)
EAGLE3_WORDS = 32000
GIB = 1024**3


@dataclass(frozen=True)
class Drafting:
    """``tensors`` are all weights of the model with those that draft, ``draft`` what they keep of each token."""

    tensors: Sequence[Mapping[str, Any]]
    draft: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def tokens(config: object) -> int:
    """Count the tokens that are drafted for each step, 0 without speculative decoding."""
    if not isinstance(config, Mapping):
        return 0
    written = config.get("num_speculative_tokens")
    return written if isinstance(written, int) and written > 0 else 1


def method_of(config: Mapping[str, Any]) -> str:
    """Name the method: "mtp" for each family's own name of it."""
    method = str(config.get("method") or ("draft_model" if config.get("model") else "mtp"))
    return "mtp" if method.endswith("mtp") else method


def misspelt(method: str) -> str | None:
    """The method that is meant by a name that none has; None for a known one, and for what may be a newer one."""
    near = difflib.get_close_matches(method, METHODS, n=1, cutoff=0.75)
    if method in METHODS or method.endswith("mtp") or not near:
        return None
    # another number at the end is another generation
    return None if re.sub(r"\d", "", method) == re.sub(r"\d", "", near[0]) else near[0]


def needs_model(config: object) -> str | None:
    """Name the model that drafts, by path or hub id; None where there is none of its own."""
    if not isinstance(config, Mapping) or method_of(config) in WITHOUT_WEIGHTS | {"mtp"}:
        return None
    named = config.get("model")
    return named if isinstance(named, str) and named else None


def of(config: object, model: Model) -> Drafting | None:
    """Say what speculative decoding adds to a model; None without it."""
    if not isinstance(config, Mapping):
        return None
    method = method_of(config)
    own = list((model.get("weights") or {}).get("tensors") or ())
    if method in WITHOUT_WEIGHTS:
        return Drafting(own)
    if method == "mtp":
        return _mtp(model, own)
    facts = model.get("draft_model")
    if isinstance(facts, Mapping) and facts.get("layers"):
        return _by_model(method, facts, own)
    if method in EAGLE:
        return _assumed_head(method, model, own)
    named = needs_model(config) or f"method {method}"
    why = f" ({facts['problem']})" if isinstance(facts, Mapping) and facts.get("problem") else ""
    return Drafting(
        own,
        warnings=(
            f"Speculative decoding: weights and KV cache of the draft model {named} are not in the account, because "
            f"its configuration is not known{why}. Leave room for them with a lower gpu_memory_utilization, or "
            "write speculative_model_config, the path of its config.json.",
        ),
    )


def _mtp(model: Model, own: Sequence[Mapping[str, Any]]) -> Drafting:
    held = sum(int(one["bytes"]) for one in own if one["kind"] == "mtp")
    count = int(model.get("num_mtp_layers") or 0)
    if not held or not count:
        return Drafting(
            own,
            warnings=(
                "Speculative decoding with MTP: the checkpoint names no layers for multi-token prediction, so none are "
                "in the account; vLLM may not start.",
            ),
        )
    tables = 0
    if model.get("model_type") in REPEAT_TABLES:
        tables = 2 * count * int(model.get("vocab_size") or 0) * int(model.get("hidden_size") or 0) * 2
    share = max(0.0, 1 - tables / held)
    tensors = [
        {**one, "bytes": round(one["bytes"] * share), "loaded": True} if one["kind"] == "mtp" else one for one in own
    ]
    key = _last(model, ("sliding",) if model.get("model_type") in WINDOWED else ("full", "mla"))
    kinds = model.get("attention") or {}
    # DeepSeek-V4 drafts with a window alone (models/deepseek_v4/nvidia/mtp.py)
    key = next((name for name, one in kinds.items() if one.get("compress_ratio") == 1), key)
    layers = [{"count": count, "attention": key}] if key else []
    said = (
        f"Speculative decoding with MTP: {held * share / GIB:.2f} GiB of weights and {count} more layer"
        f"{'s' if count > 1 else ''} in the KV cache are in the account."
    )
    return Drafting(tensors, {"layers": layers, "attention": {}}, (said,))


def _last(model: Model, types: Sequence[str]) -> str | None:
    kinds = model.get("attention") or {}
    keys = [str(run["attention"]) for run in model.get("layers") or () if run.get("attention")]
    fitting = [key for key in keys if (kinds.get(key) or {}).get("type") in types]
    found = fitting or keys
    return found[-1] if found else None


def _by_model(method: str, facts: Model, own: Sequence[Mapping[str, Any]]) -> Drafting:
    """A head of EAGLE has the model's table of tokens; a draft model has its own."""
    shared = {"eagle": ("embedding", "lm_head"), "eagle3": ("embedding",)}.get(method, ())
    entries = (facts.get("weights") or {}).get("tensors") or ()
    held = sum(int(one["bytes"]) for one in entries if one["kind"] not in (*shared, "mtp"))
    held = held or int(facts.get("weight_bytes") or 0)
    attention = {f"draft_{key}": entry for key, entry in (facts.get("attention") or {}).items()}
    layers = [
        {**run, "attention": f"draft_{run['attention']}" if run.get("attention") else None}
        for run in facts.get("layers") or ()
    ]
    count = sum(int(run["count"]) for run in layers)
    said = (
        f"Speculative decoding with {method}: {held / GIB:.2f} GiB of weights and {count} more layers in the KV cache "
        "are in the account."
    )
    tensor = {"kind": "draft", "layer": None, "bytes": held, "parameters": held // 2}
    return Drafting([*own, tensor], {"layers": layers, "attention": attention}, (said,))


def _assumed_head(method: str, model: Model, own: Sequence[Mapping[str, Any]]) -> Drafting:
    """Without its configuration a head is taken for one layer of the model's own size."""
    hidden = int(model.get("hidden_size") or 0)
    inner = int(model.get("intermediate_size") or 4 * hidden)
    key = _last(model, ("full", "mla", "sliding"))
    entry = (model.get("attention") or {}).get(key) or {}
    heads, size = int(entry.get("num_heads") or 0), int(entry.get("head_dim") or 0)
    keys = int(entry.get("num_kv_heads") or 0)
    weights = INPUTS[method] * hidden * hidden + hidden * size * (2 * heads + 2 * keys) + 3 * hidden * inner
    weights += EAGLE3_WORDS * hidden if method == "eagle3" else 0
    tensor = {"kind": "draft", "layer": None, "bytes": 2 * weights, "parameters": weights}
    said = (
        f"Speculative decoding with {method}: {2 * weights / GIB:.2f} GiB of weights and one more layer in the KV "
        "cache are assumed, as of one layer of the model; write speculative_model_config, the path of its config.json."
    )
    layers = [{"count": 1, "attention": key}] if key else []
    return Drafting([*own, tensor], {"layers": layers, "attention": {}}, (said,))
