#!/usr/bin/env python3
"""Write a small Llama chat model with random weights, about 7 MB, that a real server loads and answers with.

Its answers are noise, in printable characters. It is for proving that a server works where no model can be
downloaded.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import sys
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path

SPECIAL_TOKENS = ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
# vLLM pads the vocabulary to a multiple of 64 (DEFAULT_VOCAB_PADDING_SIZE); a multiple needs no padding.
_VOCABULARY_STEP = 64
_CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_DEVIATION = 0.02
# Larger in the last layer, where it makes logits differ by several units, so that sampling stays printable.
_OUTPUT_DEVIATION = 0.5
_PRINTABLE = range(0x20, 0x7F)


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; the defaults give 7.4 MB."""

    layers: int = 2
    hidden: int = 256
    intermediate: int = 2048
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 320
    max_position: int = 2048
    seed: int = 0


def check(shape: Shape) -> None:
    """Raise ValueError, in a sentence, for a shape that cannot be built or cannot be split in two."""
    if min(asdict(shape).values()) < 0 or min(shape.layers, shape.hidden, shape.heads, shape.kv_heads) < 1:
        raise ValueError("every size must be a positive number.")
    if shape.hidden % (2 * shape.heads):
        raise ValueError(f"hidden {shape.hidden} must be a multiple of twice the {shape.heads} heads.")
    if shape.heads % shape.kv_heads:
        raise ValueError(f"{shape.heads} heads cannot share {shape.kv_heads} KV heads: make it a multiple.")
    odd = [name for name in ("heads", "kv_heads", "intermediate") if getattr(shape, name) % 2]
    if odd:
        raise ValueError(f"{' and '.join(odd)} must be even, for a tensor parallel size of 2.")
    smallest = 256 + len(SPECIAL_TOKENS)
    if shape.vocab < smallest or shape.vocab % _VOCABULARY_STEP:
        raise ValueError(
            f"vocab {shape.vocab} must be a multiple of {_VOCABULARY_STEP} and hold 256 bytes and "
            f"{len(SPECIAL_TOKENS)} special tokens."
        )


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte in a byte-level BPE vocabulary, as GPT-2 chose them.

    Printable Latin-1 stands for itself; the other bytes follow from U+0100 on.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + others.index(byte)) for byte in range(256)]


def token_ids(shape: Shape) -> dict[str, int]:
    """The whole vocabulary: bytes, special tokens, and fillers up to the size."""
    names = [*byte_symbols(), *SPECIAL_TOKENS]
    names += [f"<|unused{number}|>" for number in range(shape.vocab - len(names))]
    return {name: number for number, name in enumerate(names)}


def config(shape: Shape) -> dict[str, object]:
    """config.json."""
    ids = token_ids(shape)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.max_position,
        "hidden_act": "silu",
        "initializer_range": _DEVIATION,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": ids["<|begin|>"],
        "eos_token_id": ids["<|end|>"],
        "pad_token_id": ids["<|end|>"],
        "torch_dtype": "bfloat16",
    }


def tokenizer(shape: Shape) -> dict[str, object]:
    """tokenizer.json: byte-level BPE without merges, so a token is a byte."""
    ids = token_ids(shape)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [
        {
            "id": number,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name, number in ids.items()
        if number >= 256
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {name: number for name, number in ids.items() if number < 256},
            "merges": [],
        },
    }


def tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight, in the order of the file."""
    head = shape.hidden // shape.heads
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, shape.hidden)}
    for layer in range(shape.layers):
        of = f"model.layers.{layer}"
        sizes |= {
            f"{of}.input_layernorm.weight": (shape.hidden,),
            f"{of}.self_attn.q_proj.weight": (shape.hidden, shape.hidden),
            f"{of}.self_attn.k_proj.weight": (shape.kv_heads * head, shape.hidden),
            f"{of}.self_attn.v_proj.weight": (shape.kv_heads * head, shape.hidden),
            f"{of}.self_attn.o_proj.weight": (shape.hidden, shape.hidden),
            f"{of}.post_attention_layernorm.weight": (shape.hidden,),
            f"{of}.mlp.gate_proj.weight": (shape.intermediate, shape.hidden),
            f"{of}.mlp.up_proj.weight": (shape.intermediate, shape.hidden),
            f"{of}.mlp.down_proj.weight": (shape.hidden, shape.intermediate),
        }
    return sizes | {"model.norm.weight": (shape.hidden,), "lm_head.weight": (shape.vocab, shape.hidden)}


def bfloat16(values: list[float]) -> bytes:
    """Values as little-endian bfloat16: the upper half of a float32, cut off."""
    halves = array("H")
    halves.frombytes(struct.pack(f"<{len(values)}f", *values))
    if sys.byteorder == "big":
        halves.byteswap()
    upper = halves[1::2]
    if sys.byteorder == "big":
        upper.byteswap()
    return upper.tobytes()


def _rows(name: str, size: tuple[int, ...], generator: random.Random) -> bytes:
    """The data of one weight: ones for a norm, else random numbers.

    The output rows of tokens that are no printable character are zero, so that these hardly ever win.
    """
    if len(size) == 1:
        return bfloat16([1.0] * size[0])
    output = name == "lm_head.weight"
    deviation = _OUTPUT_DEVIATION if output else _DEVIATION
    # A table of the normal distribution, picked from: drawing each of the millions would take a minute.
    table = [bfloat16([generator.gauss(0, deviation)]) for _ in range(65536)]
    rows = []
    for row in range(size[0]):
        picks = array("H", generator.randbytes(2 * size[1]))
        silent = output and row not in _PRINTABLE
        rows.append(bytes(2 * size[1]) if silent else b"".join([table[pick] for pick in picks]))
    return b"".join(rows)


def weights(shape: Shape) -> bytes:
    """model.safetensors: length of the header (8 bytes), the header as JSON, then the data."""
    generator = random.Random(shape.seed)  # noqa: S311
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, size in tensors(shape).items():
        block = _rows(name, size, generator)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [len(data), len(data) + len(block)]}
        data += block
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def documents(shape: Shape) -> dict[str, bytes]:
    """Every file of the model but its weights, by name. Raises ValueError for an impossible shape."""
    check(shape)
    ids = token_ids(shape)
    special = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|end|>"}
    found: dict[str, object] = {
        "config.json": config(shape),
        "generation_config.json": {
            "bos_token_id": ids["<|begin|>"],
            "eos_token_id": ids["<|end|>"],
            "pad_token_id": ids["<|end|>"],
        },
        "tokenizer.json": tokenizer(shape),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.max_position,
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
            **special,
        },
        "special_tokens_map.json": special,
    }
    return {name: (json.dumps(document, indent=2) + "\n").encode() for name, document in found.items()}


def files(shape: Shape) -> dict[str, bytes]:
    """Every file of the model by name. Raises ValueError for an impossible shape."""
    return {**documents(shape), "model.safetensors": weights(shape)}


def write(folder: Path, shape: Shape) -> bool:
    """Write the model; returns False where `folder` has one of this shape already.

    Raises ValueError for an impossible shape and FileExistsError for a folder with something else in it.
    """
    check(shape)
    recipe = json.dumps(asdict(shape), sort_keys=True)
    mark = folder / "recipe.json"
    if mark.is_file() and mark.read_text() == recipe:
        return False
    if folder.exists() and not mark.is_file() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds something that this script did not write; name another folder.")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, content in files(shape).items():
        (part / name).write_bytes(content)
    (part / "recipe.json").write_text(recipe)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return True


def main() -> int:
    """Parse the command line and write; the exit status is 1 for a fault told in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    for name, default in asdict(Shape()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help="default: %(default)s")
    options = vars(parser.parse_args())
    folder = options.pop("folder").resolve()
    try:
        written = write(folder, Shape(**options))
    except (ValueError, OSError) as error:
        print(f"tiny_model.py: {error}", file=sys.stderr)
        return 1
    size_mb = (folder / "model.safetensors").stat().st_size / 1e6
    print(f"{folder}: {'written' if written else 'there already, reused'} ({size_mb:.1f} MB of weights)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
