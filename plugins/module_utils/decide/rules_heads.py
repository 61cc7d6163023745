# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about what tensor parallelism divides: heads, vocabulary, recurrent layers, the vision tower."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import WARN, Case, Finding, Rule

# model_executor/layers/vocab_parallel_embedding.py:36
VOCABULARY_PADDING = 64
# These compute the tower on every rank by themselves (models/vision.py:142, kimi_k25_vit.py:388, muse_glimmer.py:394,
# models/kimi_k3), or add heads (intern_vit.py:270-303)
VISION_DIVIDES_ITSELF = ("KimiK25", "KimiK3", "MuseGlimmer", "InternVL", "NVLM")

KV_ATTENTION = ("full", "sliding", "chunked")


def divided(case: Case, what: str, number: int | None, size: int | None = None) -> Finding | None:
    """Say that the tensor parallel size (or ``size``) does not divide a number, None when it does."""
    by = case.tp if size is None else size
    if number is None or number % by == 0:
        return None
    return Finding(f"tensor_parallel_size {case.tp} does not divide {what}", (), what)


def _first(findings: Iterable[Finding | None]) -> Finding | None:
    return next((finding for finding in findings if finding), None)


def heads(case: Case) -> Finding | None:
    """Query heads: each rank gets as many; every kind of attention has its own count."""
    counts = {case.number("num_attention_heads")} | {
        entry.get("num_heads") for entry in case.attention(*KV_ATTENTION, "mla")
    }
    return _first(
        divided(case, f"{count} attention heads", count) for count in sorted(count for count in counts if count)
    )


def _kv_heads(case: Case) -> list[int]:
    if case.model.get("attention"):
        counts = {entry.get("num_kv_heads") for entry in case.attention(*KV_ATTENTION)}
    else:
        # MLA has one latent head that all ranks share (config/model.py:1663-1683)
        counts = set() if case.model.get("mla") else {case.number("num_kv_heads")}
    return sorted(count for count in counts if count)


def kv_heads(case: Case) -> Finding | None:
    """KV heads: divided, or, when there are fewer than ranks, each on a whole number of ranks."""
    for count in _kv_heads(case):
        if count % case.tp and case.tp % count:
            what = f"{count} KV heads"
            return Finding(f"tensor_parallel_size {case.tp} neither divides {what} nor is a multiple of them", (), what)
    return None


def replicated_kv_heads(case: Case) -> Finding | None:
    """Fewer KV heads than ranks: each is kept several times, and the KV cache does not grow with more ranks."""
    for count in _kv_heads(case):
        if case.tp > count and case.tp % count == 0:
            times = case.tp // count // case.sizes.decode_context_parallel_size
            if times > 1:
                return Finding(
                    f"tensor_parallel_size {case.tp} keeps each of {count} KV heads on {times} ranks, so the KV cache "
                    "holds no more than with fewer ranks"
                )
    return None


def vocabulary(case: Case) -> Finding | None:
    """The vocabulary, padded to 64."""
    size = case.number("vocab_size")
    padded = None if size is None else -(-size // VOCABULARY_PADDING) * VOCABULARY_PADDING
    return divided(case, f"a vocabulary of {size} (padded to a multiple of {VOCABULARY_PADDING})", padded)


def linear_attention(case: Case) -> Finding | None:
    """Gated delta net and Kimi delta attention: key and value heads of the state."""
    found: list[Finding | None] = []
    for entry in case.attention("gdn"):
        found.append(
            divided(case, f"{entry.get('num_k_heads')} key heads of the linear attention", entry.get("num_k_heads"))
        )
        found.append(
            divided(case, f"{entry.get('num_v_heads')} value heads of the linear attention", entry.get("num_v_heads"))
        )
    for entry in case.attention("kda"):
        found.append(divided(case, f"{entry.get('num_heads')} heads of the linear attention", entry.get("num_heads")))
    return _first(found)


def mamba(case: Case) -> Finding | None:
    """Mamba 2: heads, and groups unless there is only one; Mamba 1: the intermediate size."""
    found: list[Finding | None] = []
    for entry in case.attention("mamba2"):
        found.append(divided(case, f"{entry.get('num_heads')} Mamba heads", entry.get("num_heads")))
        if entry.get("n_groups") != 1:
            found.append(divided(case, f"{entry.get('n_groups')} Mamba groups", entry.get("n_groups")))
    for entry in case.attention("mamba1"):
        size = entry.get("intermediate_size")
        found.append(divided(case, f"a Mamba intermediate size of {size}", size))
    return _first(found)


def vision(case: Case) -> Finding | None:
    """The vision tower, unless it is computed whole on every rank or not at all."""
    tower = case.model.get("vision") or {}
    itself = any(name.startswith(VISION_DIVIDES_ITSELF) for name in case.model.get("architectures") or [])
    if itself or case.sizes.mm_encoder_tp_mode == "data" or case.sizes.language_model_only:
        return None
    count, size = tower.get("num_attention_heads"), tower.get("intermediate_size")
    finding = _first(
        (
            divided(case, f"{count} heads of the vision tower", count),
            divided(case, f"a vision intermediate size of {size}", size),
        )
    )
    if finding is None:
        return None
    remedies = []
    if case.engine.at_least("0.10.2"):
        remedies.append("write 'mm-encoder-tp-mode: data' under extra_args, and each rank computes the tower whole")
    if case.engine.at_least("0.17.0"):
        remedies.append("write language_model_only: true, if only text is sent")
    return Finding(finding.reason, tuple(remedies), finding.what)


RULES: Sequence[Rule] = (
    Rule("heads_not_divisible", heads, "config/model.py:1557-1564", divides=True),
    Rule("kv_heads_not_divisible", kv_heads, "model_executor/layers/linear.py:1063-1071", divides=True),
    Rule("kv_heads_replicated", replicated_kv_heads, "model_executor/layers/linear.py:1063-1071", severity=WARN),
    Rule(
        "vocabulary_not_divisible",
        vocabulary,
        "model_executor/layers/vocab_parallel_embedding.py:95-97,286-306",
        divides=True,
    ),
    Rule(
        "linear_attention_not_divisible",
        linear_attention,
        "model_executor/layers/mamba/mamba_utils.py:272-300",
        divides=True,
    ),
    Rule("mamba_not_divisible", mamba, "model_executor/layers/mamba/mamba_mixer2.py:313-320", divides=True),
    Rule("vision_not_divisible", vision, "model_executor/models/siglip.py:377", divides=True),
)
