# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about models that earlier releases of vLLM do not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import release
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Case, Finding, Rule

# Architecture -> the last release known without it, the first with it, and the request that added it. Only those that
# the classes of Transformers cannot stand for, by their caches, experts or number formats.
ARCHITECTURES: Mapping[str, tuple[str, str, str]] = {
    "Llama4ForConditionalGeneration": ("0.8.2", "0.8.3", "vllm#16104"),
    "Qwen3MoeForCausalLM": ("0.8.3", "0.8.4", "vllm#15289"),
    "Qwen3NextForCausalLM": ("0.10.1.1", "0.10.2", "vllm#24526"),
    "DeepseekV32ForCausalLM": ("0.10.2", "0.11.0", "vllm#25896"),
    "Qwen3VLMoeForConditionalGeneration": ("0.10.2", "0.11.0", "vllm#24727"),
    "MiniMaxM2ForCausalLM": ("0.11.0", "0.11.1", "vllm#27535"),
    "KimiLinearForCausalLM": ("0.11.0", "0.11.1", "vllm#27809"),
    "MiMoV2FlashForCausalLM": ("0.12.0", "0.14.0", "vllm#30836, merged on 2025-12-19"),
    "KimiK25ForConditionalGeneration": ("0.14.1", "0.15.0", "vllm#33131"),
    "GlmMoeDsaForCausalLM": ("0.15.1", "0.16.0", "vllm#34124"),
    "Qwen3_5ForConditionalGeneration": ("0.15.1", "0.16.0", "vllm#34110"),
    "Qwen3_5MoeForConditionalGeneration": ("0.15.1", "0.16.0", "vllm#34110"),
    "DeepseekV4ForCausalLM": ("0.19.1", "0.20.0", "the release notes of 0.20.0"),
}


def architecture(case: Case) -> Finding | None:
    """Models that came with a later release."""
    for name in case.model.get("architectures") or ():
        if name in ARCHITECTURES and case.engine.release <= release(ARCHITECTURES[name][0]):
            return Finding(
                f"vLLM {case.engine.version} does not have {name} yet",
                (f"use vLLM {ARCHITECTURES[name][1]} or newer",),
            )
    return None


RULES: Sequence[Rule] = (Rule("architecture_unknown_yet", architecture, "model_executor/models/registry.py:841-903"),)
