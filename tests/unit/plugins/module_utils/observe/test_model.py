"""What is read of a model's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import ALIASES, NESTED
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.conftest import CONFIG, write_model
from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA as CHECKPOINT
from tests.unit.plugins.module_utils.observe.checkpoints import llama_headers, write_checkpoint

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def test_facts_of_a_llama() -> None:
    found = model.facts(LLAMA, 141107412992)
    weights = found.pop("weights")
    assert weights["source"] == "stated"
    assert abs(sum(one["bytes"] for one in weights["tensors"]) - 141107412992) < 10
    assert found == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_layers": 80,
        "num_attention_heads": 64,
        "num_kv_heads": 8,
        "head_dim": 128,
        "head_dim_v": 128,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "moe_intermediate_size": None,
        "num_experts": None,
        "num_experts_per_tok": None,
        "num_shared_experts": None,
        "shared_expert_intermediate_size": None,
        "is_moe": False,
        "vocab_size": 128256,
        "kv_lora_rank": None,
        "q_lora_rank": None,
        "qk_nope_head_dim": None,
        "qk_rope_head_dim": None,
        "v_head_dim": None,
        "index_head_dim": None,
        "index_n_heads": None,
        "mla": False,
        "tie_word_embeddings": False,
        "num_mtp_layers": 0,
        "max_model_len": 131072,
        "default_max_model_len": 131072,
        "rope_scaling": None,
        "dtype": "bfloat16",
        "quantization": None,
        "quantization_config": None,
        "weight_bytes": 141107412992,
        "runner": "generate",
        "multimodal": False,
        "supports_pipeline": True,
        "vision": None,
        "layers": [{"count": 80, "attention": "full", "feed_forward": "dense"}],
        "attention": {"full": {"type": "full", "num_heads": 64, "num_kv_heads": 8, "head_dim": 128, "head_dim_v": 128}},
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        ({"n_layer": 12}, "num_layers", 12),
        ({"n_head": 12}, "num_attention_heads", 12),
        ({"n_head": 12}, "num_kv_heads", 12),
        ({"n_embd": 768, "n_head": 12}, "head_dim", 64),
        ({"head_dim": 128, "hidden_size": 5120, "num_attention_heads": 32}, "head_dim", 128),
        ({"multi_query_group_num": 2, "num_attention_heads": 32}, "num_kv_heads", 2),
        ({"n_positions": 1024}, "max_model_len", 1024),
        ({"n_routed_experts": 256}, "num_experts", 256),
        ({"n_heads": 48, "attn_config": {"kv_n_heads": 8}}, "num_kv_heads", 8),
        ({"model_type": "falcon", "num_attention_heads": 71}, "num_kv_heads", 1),
        ({"model_type": "falcon", "num_kv_heads": 8, "new_decoder_architecture": True}, "num_kv_heads", 8),
        (
            {"num_attention_heads": 64, "block_configs": [{"attention": {"n_heads_in_group": 8}}]},
            "num_kv_heads",
            8,
        ),
        ({"kv_channels": 128}, "head_dim", 128),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}, "head_dim", 576),
        ({"model_type": "deepseek_v3", "kv_lora_rank": 512}, "mla", True),
        ({"model_type": "llama", "kv_lora_rank": 512}, "mla", False),
        ({"kv_lora_rank": 512}, "mla", True),
        ({"kv_lora_rank": None}, "mla", False),
        ({"model_type": "gemma2"}, "tie_word_embeddings", True),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, "tie_word_embeddings", False),
        ({"tie_word_embeddings": True, "text_config": {"model_type": "qwen2"}}, "tie_word_embeddings", True),
        ({"n_routed_experts": 8, "intermediate_size": 64}, "moe_intermediate_size", 64),
        (
            {"n_routed_experts": 8, "moe_intermediate_size": 64, "n_shared_experts": 2},
            "shared_expert_intermediate_size",
            128,
        ),
        ({"num_nextn_predict_layers": 1}, "num_mtp_layers", 1),
        ({"model_type": "minimax_m2", "num_nextn_predict_layers": 3}, "num_mtp_layers", 0),
        ({"num_hidden_layers": 10**12}, "num_layers", None),
        ({"num_hidden_layers": 12.0}, "num_layers", 12),
        (
            {"vision_config": {"depth": 2, "num_heads": 4, "hidden_size": 8, "intermediate_size": 16}},
            "vision",
            {"num_attention_heads": 4, "hidden_size": 8, "num_layers": 2, "intermediate_size": 16},
        ),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization", "fp8"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "quantization", "awq"),
        ({"dtype": "float16"}, "dtype", "float16"),
        ({"dtype": "bfloat16", "text_config": {"torch_dtype": "float32"}}, "dtype", "float32"),
        ({"dtype": "bfloat16", "text_config": {}}, "dtype", "bfloat16"),
        ({"text_config": {"num_hidden_layers": 4}, "num_hidden_layers": 27}, "num_layers", 4),
        ({"thinker_config": {"text_config": {"num_hidden_layers": 4}}}, "num_layers", 4),
        ({"num_hidden_layers": "12"}, "num_layers", None),
        ({"num_hidden_layers": True}, "num_layers", None),
        ({"num_attention_heads": 0}, "num_attention_heads", None),
        ({"architectures": None}, "architectures", []),
        ({"architectures": 5}, "architectures", []),
        ({"architectures": "LlamaForCausalLM"}, "architectures", []),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling", "yarn"),
    ],
)
def test_one_fact(config: dict[str, Any], key: str, value: Any) -> None:
    assert model.facts(config, None)[key] == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [name for names in ALIASES.values() for name in names]
KEYS += [*NESTED, "architectures", "dtype", "torch_dtype", "quantization_config", "rope_scaling", "model_type"]
KEYS += ["layer_types", "sliding_window", "vision_config", "block_configs", "compress_ratios", "linear_attn_config"]
KEYS += [
    "hybrid_override_pattern",
    "moe_layer_freq",
    "sparse_attention_config",
    "rope_parameters",
    "tie_word_embeddings",
]
TYPES = st.sampled_from(["llama", "deepseek_v3", "deepseek_v4", "qwen3_5_text", "nemotron_h", "gemma3n_text", "falcon"])


@given(
    st.recursive(
        JSON | TYPES | st.integers(1, 8),
        lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=8) | st.lists(inner, max_size=3),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused_with_a_sentence(config: Any) -> None:
    try:
        parsed = model.parse_config(json.dumps(config), "config.json")
    except InputError as error:
        assert str(error) == "config.json holds no JSON object; fetch the model again."
        assert not isinstance(config, dict)
        return
    facts = model.facts(parsed, 1)
    assert all(facts[key] is None or facts[key] > 0 for key in (*ALIASES, "weight_bytes"))
    assert sum(run["count"] for run in facts["layers"]) == (facts["num_layers"] or 0)
    json.dumps(facts)


DEEP = 100_000 * '{"text_config":' + "1" + 100_000 * "}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (100_000 * "[", "config.json is not JSON ("),
        (DEEP, "config.json is not JSON ("),
        (60 * '{"a":' + "1" + 60 * "}", "config.json holds more than 50 levels;"),
        ('{"dtype": "\\ud800"}', "config.json holds a character that is none"),
        ('{"a": [{"\\udfff": 1}]}', "config.json holds a character that is none"),
    ],
)
def test_what_nothing_later_could_take_is_refused_at_once(text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        model.parse_config(text, "config.json")
    assert str(raised.value).startswith(said)
    assert str(raised.value).endswith("; fetch the model again.")


@pytest.mark.parametrize(
    "odd",
    [
        {"hidden_size": 10**200},
        {"num_experts": 1e308, "moe_intermediate_size": 10**100},
        {"model_type": "nemotron_h", "layers_block_type": [["mamba"], {"a": 1}]},
        {"model_type": float("inf")},
        {"model_type": ["llama"]},
        {"block_configs": [{"ffn": {"ffn_mult": float("inf")}}]},
        {"block_configs": [{"ffn": {"ffn_mult": 1e300}}]},
        {"intermediate_size": [10**200, -1]},
        {"quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": ["a", None]},
            }},
        }},
    ],
)  # fmt: skip
def test_odd_numbers_and_kinds_make_no_odd_facts(odd: dict[str, Any]) -> None:
    facts = model.facts(model.model_config(json.dumps({**LLAMA, **odd}), "config.json"), 10**9)
    json.dumps(facts, allow_nan=False)


@given(st.text())
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        model.parse_config(text, "config.json")
    except InputError as error:
        assert str(error).startswith("config.json ")
        assert str(error).endswith("; fetch the model again.")


class TestFolder:
    def test_a_good_one(self, tmp_path: Path) -> None:
        folder = write_checkpoint(tmp_path / "m", CHECKPOINT, {"model.safetensors": llama_headers()})
        size = (folder / "model.safetensors").stat().st_size
        assert model.read_folder(str(folder)) == model.facts(CHECKPOINT, size, llama_headers())

    def test_weights_without_a_header(self, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m")
        expected = model.facts(CONFIG, 1000)
        said = (
            f"{folder}/model.safetensors does not begin with a safetensors header; fetch the model again. "
            "The bytes of each kind of weight are computed from config.json instead."
        )
        assert model.read_folder(str(folder)) == {**expected, "warnings": [said, *expected["warnings"]]}

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"pytorch_model__bin": b"345"}, "The weights are pickles (*.bin, *.pt)"),
            ({"m__gguf": b"1"}, "The weights are GGUF, which vLLM 0.33 reads only with the plugin vllm-gguf-plugin."),
        ],
    )
    def test_what_stands_against_the_weights_is_said(self, tmp_path: Path, files: dict[str, bytes], said: str) -> None:
        folder = write_model(tmp_path / "m", "model.safetensors", **files)
        assert model.read_folder(str(folder))["warnings"][0].startswith(said)

    def test_quantization_beside_the_configuration(self, tmp_path: Path) -> None:
        content = b'{"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}'
        folder = write_model(tmp_path / "m", hf_quant_config__json=content)
        assert model.read_folder(str(folder))["quantization"] == "modelopt"

    def test_quantization_that_is_not_json(self, tmp_path: Path) -> None:
        self.refused(
            write_model(tmp_path / "m", hf_quant_config__json=b"{"),
            "{}/hf_quant_config.json is not JSON (Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)); fetch the model again.",
        )

    def test_other_files_that_are_not_json_are_left_out(self, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m", modules__json=b"{", tokenizer_config__json=b"\xff")
        assert model.read_folder(str(folder))["runner"] == "generate"

    @pytest.mark.parametrize(
        ("files", "size"),
        [
            ({"a__safetensors": b"12", "b__safetensors": b"345"}, 5),
            ({"a__safetensors": b"12", "pytorch_model__bin": b"345"}, 2),
            ({"pytorch_model__bin": b"345"}, 3),
            ({"m__gguf": b"1"}, 1),
        ],
    )
    def test_the_weights_that_vllm_reads_are_counted(self, tmp_path: Path, files: dict[str, bytes], size: int) -> None:
        folder = write_model(tmp_path / "m", "model.safetensors", **files)
        assert model.read_folder(str(folder))["weight_bytes"] == size

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        self.refused(
            tmp_path / "m",
            "The model path {} does not exist; correct 'model', or put the model there.",
        )

    def test_a_file(self, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m")
        self.refused(
            folder / "model.safetensors",
            "The model path {} is not a folder; 'model' names the folder that holds config.json.",
        )

    def test_no_config(self, tmp_path: Path) -> None:
        self.refused(
            write_model(tmp_path / "m", "config.json"),
            "The model path {} has no config.json, so it is not a model that vLLM can load; "
            "name the folder that holds config.json, the tokenizer and the weights.",
        )

    def test_no_weights(self, tmp_path: Path) -> None:
        self.refused(
            write_model(tmp_path / "m", "model.safetensors"),
            "The model path {} has a config.json and no weights (*.safetensors, *.bin, *.pt, *.gguf); "
            "fetch the model again.",
        )

    def test_a_config_that_is_not_json(self, tmp_path: Path) -> None:
        self.refused(
            write_model(tmp_path / "m", config__json=b'{"num_hidden_layers": '),
            "{}/config.json is not JSON (Expecting value: line 1 column 23 (char 22)); fetch the model again.",
        )

    def test_a_config_of_another_kind(self, tmp_path: Path) -> None:
        self.refused(
            write_model(tmp_path / "m", config__json=b"[]"),
            "{}/config.json holds no JSON object; fetch the model again.",
        )

    def test_a_config_of_other_bytes(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"config.json is not JSON .*; fetch the model again\."):
            model.read_folder(str(write_model(tmp_path / "m", config__json=b"\x80\xff")))

    def test_a_path_that_the_system_refuses(self, tmp_path: Path) -> None:
        self.refused(
            tmp_path / ("m" * 300),
            "The model path {} cannot be read (File name too long); correct 'model', or its permissions.",
        )

    @staticmethod
    def refused(folder: Path, sentence: str) -> None:
        with pytest.raises(InputError) as raised:
            model.read_folder(str(folder))
        assert str(raised.value) == sentence.format(folder)


@pytest.mark.parametrize(
    ("files", "size"),
    [
        ({"config.json": 700}, None),
        ({"model-1.safetensors": 3, "model-2.safetensors": 4, "pytorch_model.bin": 7}, 7),
        ({"model.safetensors": 5, "consolidated.safetensors": 5}, 5),
        ({"consolidated.safetensors": 5}, 5),
        ({"pytorch_model-1.bin": 2, "pytorch_model-2.bin": 2}, 4),
    ],
)
def test_the_weights_that_are_read_are_counted_once(files: dict[str, int], size: int | None) -> None:
    assert model.weight_bytes(files) == size
