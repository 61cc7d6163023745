"""Which files of a hub model are fetched."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.hub_files import loaded

COMPANIONS = [
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "modeling_own.py",
    "special.tiktoken",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.txt",
]


@pytest.mark.parametrize(
    ("weights", "others"),
    [
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], ["pytorch_model.bin"]),
        (["model.safetensors"], ["consolidated.safetensors", "original/consolidated.00.pth", "original/params.json"]),
        (["consolidated.safetensors"], []),
        (["pytorch_model-00001-of-00001.bin"], ["tf_model.h5", "flax_model.msgpack", "rust_model.ot"]),
        (["model.safetensors"], ["onnx/model.onnx", "onnx/config.json", "model.Q4_K_M.gguf", "openvino/a.xml"]),
        (["model.safetensors"], [".gitattributes", "assets/logo.png", "paper.PDF"]),
    ],
)
def test_weights_of_one_format_and_what_goes_with_them(weights: list[str], others: list[str]) -> None:
    assert loaded(dict.fromkeys([*COMPANIONS, *weights, *others], 1)) == sorted([*COMPANIONS, *weights])


def test_companions_in_folders_are_fetched() -> None:
    names = ["1_Pooling/config.json", "config.json", "model.safetensors", "templates/tool.jinja"]
    assert loaded(dict.fromkeys(names, 1)) == names


@pytest.mark.parametrize(
    "name", ["../x.json", "a/../../x.json", "/etc/x.json", "--local-dir=x.json", "-h", "a\nb.json", "a\x1b[2J.json", ""]
)
def test_a_name_that_is_a_way_out_or_an_option_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="a name that is not taken"):
        loaded({"config.json": 1, name: 1})
