"""What is read of a model's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.conftest import CONFIG, write_model

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
    assert model.facts(LLAMA, 141107412992) == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_layers": 80,
        "num_attention_heads": 64,
        "num_kv_heads": 8,
        "head_dim": 128,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "moe_intermediate_size": None,
        "num_experts": None,
        "vocab_size": 128256,
        "kv_lora_rank": None,
        "mla": False,
        "max_model_len": 131072,
        "rope_scaling": None,
        "dtype": "bfloat16",
        "quantization": None,
        "weight_bytes": 141107412992,
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
        ({"kv_lora_rank": 512}, "mla", True),
        ({"kv_lora_rank": None}, "mla", False),
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
KEYS = [name for names in model.ALIASES.values() for name in names]
KEYS += [*model.NESTED, "architectures", "dtype", "torch_dtype", "quantization_config", "rope_scaling", "model_type"]


@given(st.recursive(JSON, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=5), max_leaves=8))
def test_any_json_is_read_or_refused_with_a_sentence(config: Any) -> None:
    try:
        parsed = model.parse_config(json.dumps(config), "config.json")
    except InputError as error:
        assert str(error) == "config.json holds no JSON object; fetch the model again."
        assert not isinstance(config, dict)
        return
    facts = model.facts(parsed, 1)
    assert all(facts[key] is None or facts[key] > 0 for key in (*model.ALIASES, "weight_bytes") if key != "head_dim")
    json.dumps(facts)


@given(st.text())
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        model.parse_config(text, "config.json")
    except InputError as error:
        assert str(error).startswith("config.json ")
        assert str(error).endswith("; fetch the model again.")


class TestFolder:
    def test_a_good_one(self, tmp_path: Path) -> None:
        folder = write_model(tmp_path / "m")
        assert model.read_folder(str(folder)) == model.facts(CONFIG, 1000)

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
