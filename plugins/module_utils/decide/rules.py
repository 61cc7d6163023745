# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a rule is, what it is asked about, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import EngineVersion, release

REFUSE = "refuse"
WARN = "warn"

# The dtypes that vllm serve takes, and their one name (config/model.py:2380-2390)
DTYPES: Mapping[str, str] = {
    "half": "float16",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "float32": "float32",
}


@dataclass(frozen=True)
class Sizes:
    """What was decided or asked for: counts of ranks, tokens and sequences, and types as vLLM names them.

    None and "auto" stand for vLLM's own default. ``mm_encoder_tp_mode`` is "weights" or "data". ``allow_long`` says
    that VLLM_ALLOW_LONG_MAX_MODEL_LEN is set, ``stochastic_rounding`` that a recurrent state is rounded so.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    decode_context_parallel_size: int = 1
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    mm_encoder_tp_mode: str = "weights"
    language_model_only: bool = False
    allow_long: bool = False
    stochastic_rounding: bool = False


@dataclass(frozen=True)
class Case:
    """One model at one set of sizes, on one kind of GPU, with one release of vLLM.

    ``model`` is what model_info says. ``gpu`` has ``compute_capability`` ("9.0"), ``name``, ``accelerator`` ("cuda",
    "rocm" or "cpu") and, where it is known, ``fully_connected``: whether every pair of the GPUs has NVLink. Whatever
    is absent or None is not judged.
    """

    model: Mapping[str, Any]
    sizes: Sizes
    gpu: Mapping[str, Any]
    engine: EngineVersion

    def number(self, key: str) -> int | None:
        """Return a number of the model, None when it is not said or 0."""
        value = self.model.get(key)
        return int(value) if value else None

    @property
    def tp(self) -> int:
        """The tensor parallel size."""
        return self.sizes.tensor_parallel_size

    @property
    def moe(self) -> bool:
        """Whether the model has experts."""
        return bool(self.model.get("is_moe") or self.model.get("num_experts"))

    @property
    def expert_ranks(self) -> int:
        """The ranks that the experts are shared by, sliced or whole (fused_moe/config.py:1107-1114)."""
        return self.tp * self.sizes.data_parallel_size

    @property
    def moe_tp(self) -> int:
        """How many slices each expert is cut into: 1 with expert parallelism."""
        return 1 if self.sizes.enable_expert_parallel else self.expert_ranks

    @property
    def expert_size(self) -> int | None:
        """The intermediate size of one expert; models without a word for it use that of the dense layers."""
        if not self.moe:
            return None
        return self.number("moe_intermediate_size") or self.number("intermediate_size")

    @property
    def dense_size(self) -> int | None:
        """The intermediate size of the dense feed-forward layers, None where the model has no such layers."""
        layers = self.model.get("layers")
        if layers and not any(run.get("feed_forward") == "dense" for run in layers):
            return None
        return self.number("intermediate_size")

    @property
    def shared_expert_size(self) -> int | None:
        """The intermediate size of the shared experts, None where there are none or each rank has all of them.

        The latter is so with both kinds of parallelism under expert parallelism (config/parallel.py:768-785).
        """
        sizes = self.sizes
        both = sizes.enable_expert_parallel and self.tp > 1 and sizes.data_parallel_size > 1
        return None if both and self.engine.at_least("0.11.0") else self.number("shared_expert_intermediate_size")

    def attention(self, *types: str) -> Iterator[Mapping[str, Any]]:
        """Yield the kinds of attention of the model that are of these types."""
        for entry in (self.model.get("attention") or {}).values():
            if entry.get("type") in types:
                yield entry

    @property
    def capability(self) -> float | None:
        """The compute capability of an NVIDIA GPU as a number; None elsewhere or where it is unknown."""
        value = self.gpu.get("compute_capability")
        if self.gpu.get("accelerator", "cuda") != "cuda" or value in (None, ""):
            return None
        return float(str(value))

    @property
    def gpu_name(self) -> str:
        """How a sentence names the GPU."""
        return str(self.gpu.get("name") or "the GPU")

    @property
    def quantization(self) -> Mapping[str, Any]:
        """The checkpoint's quantization, empty when it has none or its details are unknown."""
        return self.model.get("quantization_config") or {}

    @property
    def method(self) -> str | None:
        """The quantization method of the checkpoint, or else the one asked for."""
        return self.quantization.get("method") or self.model.get("quantization") or self.sizes.quantization

    @property
    def asked_dtype(self) -> str | None:
        """The dtype asked for by its one name, None for auto."""
        return DTYPES.get(self.sizes.dtype.lower())

    @property
    def dtype(self) -> str | None:
        """The dtype that vLLM computes in (config/model.py:2423-2464), None when the model does not say."""
        if self.asked_dtype:
            return self.asked_dtype
        own = DTYPES.get(str(self.model.get("dtype")).lower())
        old = self.capability is not None and self.capability < 8.0
        if own == "float32":
            return "float16" if old else "bfloat16"
        if own == "bfloat16" and old:
            return "float16"
        return own


@dataclass(frozen=True)
class Finding:
    """Why a case does not pass. ``reason`` and each of ``remedies`` are clauses without a full stop.

    ``what`` names the number that is in the way ("52 attention heads"), for rules of divisibility.
    """

    reason: str
    remedies: tuple[str, ...] = ()
    what: str = ""


@dataclass(frozen=True)
class Rule:
    """One thing that vLLM refuses, or does slowly.

    ``source`` is the place in vLLM 0.33.0, below its package. The rule holds from ``since`` on, until (not with)
    ``until``. ``divides`` marks rules that a different tensor parallel size may satisfy.
    """

    rule_id: str
    find: Callable[[Case], Finding | None]
    source: str
    severity: str = REFUSE
    since: str | None = None
    until: str | None = None
    divides: bool = False

    def applies(self, engine: EngineVersion) -> bool:
        """Tell whether a release has this rule."""
        return (self.since is None or engine.at_least(self.since)) and (
            self.until is None or engine.release < release(self.until)
        )


@dataclass(frozen=True)
class Broken:
    """A rule that a case breaks; ``severity`` is "refuse" or "warn" (works, slower or with more memory)."""

    rule_id: str
    reason: str
    remedies: tuple[str, ...]
    severity: str
    source: str
    what: str = ""


def listed(numbers: Mapping[Any, Any] | tuple[Any, ...] | list[Any], word: str = "or") -> str:
    """Write a list as people do: "1, 2 or 4"."""
    texts = [str(number) for number in numbers]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {word} {texts[-1]}" if texts else ""
