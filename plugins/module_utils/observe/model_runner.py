# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What vLLM runs an architecture as: text generation or pooling, with images, over pipeline stages or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import (
    TextConfig,
    listing,
    mapping,
    whole,
)

# Where sentence-transformers writes a length of its own (transformers_utils/config.py:1110-1170)
SENTENCE_FILES = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")
# Files beside config.json that this module reads
FILES = ("modules.json", "tokenizer_config.json", *SENTENCE_FILES)

# Generative architectures whose classes do not implement SupportsPP (model_executor/models, static reading).
WITHOUT_PIPELINE = frozenset(
    {
        "AliceAIForCausalLM", "DomynEdgeForCausalLM", "DoryForCausalLM", "Gemma3nForCausalLM",
        "Gemma3nForConditionalGeneration", "HrmTextForCausalLM", "IQuestLoopCoderForCausalLM", "Mamba2ForCausalLM",
        "Zamba2ForCausalLM", "AriaForConditionalGeneration", "FireRedASR2ForConditionalGeneration",
        "FunASRForConditionalGeneration", "DiffusionGemmaForBlockDiffusion", "Idefics3ForConditionalGeneration",
        "SmolVLMForConditionalGeneration", "NemotronH_Nano_VL_V2", "NemotronH_Nano_Omni_Reasoning_V3",
        "NemotronH_Super_Omni_Reasoning_V3", "NemotronH_Omni_Reasoning_V3", "PaddleOCRVLForConditionalGeneration",
        "Phi4MMForCausalLM", "CohereAsrForConditionalGeneration", "NemotronParseForConditionalGeneration",
        "RadioMBartPrefixForCausalLM", "WhisperForConditionalGeneration",
    }
)  # fmt: skip
# Architectures that take more than text although their names do not say so (registry.py, _MULTIMODAL_MODELS).
MULTIMODAL = frozenset(
    {
        "DeepseekVLV2ForCausalLM", "DeepseekOCRForCausalLM", "DeepseekOCR2ForCausalLM", "DeepseekV41ForCausalLM",
        "Dots3NoteForCausalLM", "UnlimitedOCRForCausalLM", "DotsOCRForCausalLM", "GLM4VForCausalLM", "H2OVLChatModel",
        "InternVLChatModel", "MoonshotKimiaForCausalLM", "Llama_Nemotron_Nano_VL", "MiDashengLMModel",
        "MiMoV2OmniForCausalLM", "MiniCPMO", "MiniCPMV", "MolmoForCausalLM", "Moondream3ForCausalLM", "MossAudioModel",
        "HfMoondream", "NemotronH_Nano_VL_V2", "NVLM_D", "Ovis", "Ovis2_5", "Ovis2_6ForCausalLM", "Phi3VForCausalLM",
        "Ovis2_6_MoeForCausalLM", "Phi4ForCausalLMV", "Phi4MMForCausalLM", "Qwen2_5OmniModel", "SkyworkR1VChatModel",
        "UltravoxModel",
    }
)  # fmt: skip
# Names that end in Model and generate all the same (registry.py, _TEXT_GENERATION_MODELS and the above).
GENERATING_MODELS = frozenset({"ChatGLMModel", "InternVLChatModel", "H2OVLChatModel", "SkyworkR1VChatModel",
                               "UltravoxModel", "MiDashengLMModel", "MossAudioModel", "Qwen2_5OmniModel"})  # fmt: skip
# The ends of names that vLLM pools (config/model.py:2337-2360).
POOLING_ENDS = ("ForTextEncoding", "EmbeddingModel", "ForSequenceClassification", "ForTokenClassification",
                "ForAudioClassification", "ForImageClassification", "ForVideoClassification", "ClassificationModel",
                "ForRewardModeling", "RewardModel", "ForProcessRewardModel", "ForMaskedLM", "ForRetrieval",
                "ForRanking", "ForJointSchema", "_ColBERT", "Model")  # fmt: skip


def runner(text: TextConfig, files: Mapping[str, Any]) -> str:
    """Return "generate" or "pooling", as vLLM's ``--runner auto`` does (config/model.py:1283-1305).

    ``files`` is the content of small files beside config.json: a modules.json with pooling makes a model of any
    architecture pool; else the architecture's name decides.
    """
    for one in listing(files.get("modules.json")):
        if str(mapping(one).get("type")).endswith(".Pooling"):
            return "pooling"
    name = text.architectures[0] if text.architectures else ""
    return "pooling" if name.endswith(POOLING_ENDS) and name not in GENERATING_MODELS else "generate"


def longest(text: TextConfig, files: Mapping[str, Any]) -> int | None:
    """Return the longest sequence in tokens, None when nothing says it.

    Encoders take less than their configuration when their tokenizer or sentence-transformers says so
    (config/model.py:2137-2165, 2583-2589, 2634-2636).
    """
    length = text.derived_length()
    if runner(text, files) != "pooling":
        return length
    limit = whole(mapping(files.get("tokenizer_config.json")).get("model_max_length"))
    if text.value("position_embedding_type") == "absolute" and limit and length:
        length = min(length, limit)
    for name in SENTENCE_FILES:
        length = whole(mapping(files.get(name)).get("max_seq_length")) or length
    return length


def facts(text: TextConfig, files: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts ``runner``, ``multimodal`` and ``supports_pipeline``; ``files`` as for :func:`runner`."""
    names = text.architectures
    found = runner(text, files)
    parts = any(mapping(text.root.get(key)) for key in ("vision_config", "audio_config"))
    named = any(name.endswith("ForConditionalGeneration") or name in MULTIMODAL for name in names)
    return {
        "runner": found,
        "multimodal": bool(parts or named),
        "supports_pipeline": found == "generate" and not any(name in WITHOUT_PIPELINE for name in names),
    }
