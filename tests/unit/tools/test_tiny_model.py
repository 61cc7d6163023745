from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

from tools.tiny_model import Shape, bfloat16, byte_symbols, check, files, tensors, write

SMALL = Shape(layers=1, hidden=64, intermediate=64)


def test_every_byte_has_a_symbol_of_its_own() -> None:
    symbols = byte_symbols()
    assert len(set(symbols)) == 256
    assert symbols[ord("A")] == "A"
    # GPT-2's published vocabulary: space and newline.
    assert (symbols[0x20], symbols[0x0A]) == ("\u0120", "\u010a")


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    assert bfloat16([1.0, -2.0, 0.0]) == bytes.fromhex("803f00c00000")


def test_the_safetensors_header_covers_the_data_without_gaps() -> None:
    content = files(SMALL)["model.safetensors"]
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    end = 0
    for name, size in tensors(SMALL).items():
        assert header[name]["data_offsets"] == [end, end + 2 * math.prod(size)]
        end = header[name]["data_offsets"][1]
    assert len(content) == 8 + length + end
    assert length % 8 == 0
    assert set(header) == set(tensors(SMALL))


def test_a_seed_decides_the_weights() -> None:
    again = files(SMALL)
    assert files(SMALL) == again
    other = files(Shape(layers=1, hidden=64, intermediate=64, seed=1))
    assert other["model.safetensors"] != again["model.safetensors"]
    assert other["config.json"] == again["config.json"]


def test_vocabulary_and_configuration_agree() -> None:
    documents = files(SMALL)
    config, tokenizer = json.loads(documents["config.json"]), json.loads(documents["tokenizer.json"])
    ids = [*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]
    assert sorted(ids) == list(range(config["vocab_size"]))
    by_id = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    assert by_id[config["eos_token_id"]] == json.loads(documents["tokenizer_config.json"])["eos_token"]


def test_a_second_run_reuses_and_another_shape_replaces(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert write(folder, SMALL) is True
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert write(folder, SMALL) is False
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert write(folder, Shape(layers=2, hidden=64, intermediate=64)) is True
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that this script did not write"):
        write(tmp_path, SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (Shape(layers=0), "every size must be a positive number"),
        (Shape(hidden=250), "hidden 250 must be a multiple of twice the 4 heads"),
        (Shape(heads=4, kv_heads=3), "4 heads cannot share 3 KV heads"),
        (Shape(kv_heads=1), "kv_heads must be even, for a tensor parallel size of 2"),
        (Shape(intermediate=2047), "intermediate must be even"),
        (Shape(vocab=256), "vocab 256 must be a multiple of 64 and hold 256 bytes and 5 special tokens"),
        (Shape(vocab=321), "vocab 321 must be a multiple of 64"),
    ],
)
def test_an_impossible_shape_is_met_with_a_sentence(shape: Shape, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check(shape)
