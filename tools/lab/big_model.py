"""Write a Llama-shaped model with random weights of any size, made on the GPU where there is one.

Runs with a Python that has torch and safetensors. Its answers are noise in printable characters, as of tiny_model.py,
whose names, shapes and tokenizer it has.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools import tiny_model

# Of Llama-3.1-8B (config.json of meta-llama/Llama-3.1-8B-Instruct).
LLAMA_8B = tiny_model.Shape(
    layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, vocab=128256, max_position=131072
)
# In one file; the copy to the processor's memory holds as much.
_SHARD_BYTES = 2 << 30
_DEVIATION = 0.02
_OUTPUT_DEVIATION = 0.5


def shards(sizes: dict[str, tuple[int, ...]], limit: int = _SHARD_BYTES) -> list[dict[str, tuple[int, ...]]]:
    """Weights put together into files of about this size; a weight has two bytes."""
    found: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, size in sizes.items():
        number = 2
        for length in size:
            number *= length
        if filled and filled + number > limit:
            found.append({})
            filled = 0
        found[-1][name] = size
        filled += number
    return found


def weight(name: str, size: tuple[int, ...], device: str) -> torch.Tensor:
    """One weight: ones for a norm, else random numbers; output rows of what is not printable are zero."""
    if len(size) == 1:
        return torch.ones(size, dtype=torch.bfloat16)
    output = name == "lm_head.weight"
    values = torch.randn(size, device=device) * (_OUTPUT_DEVIATION if output else _DEVIATION)
    if output:
        values[:0x20] = 0
        values[0x7F:] = 0
    return values.to(torch.bfloat16).cpu().contiguous()


def write(folder: Path, shape: tiny_model.Shape) -> int:
    """Write the model, and return the bytes of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(shape.seed)
    for name, content in tiny_model.documents(shape).items():
        (folder / name).write_bytes(content)
    parts = shards(tiny_model.tensors(shape))
    places: dict[str, str] = {}
    total = 0
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        made = {name: weight(name, size, device) for name, size in part.items()}
        save_file(made, str(folder / file), metadata={"format": "pt"})
        # save_file lets only its user read it, and the service is another.
        (folder / file).chmod(0o644)
        places |= dict.fromkeys(made, file)
        total += sum(2 * one.numel() for one in made.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def main() -> int:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--layers", type=int, default=LLAMA_8B.layers, help="default: %(default)s, as Llama-3.1-8B")
    options = parser.parse_args()
    shape = tiny_model.Shape(**{**vars(LLAMA_8B), "layers": options.layers})
    if (options.folder / "model.safetensors.index.json").exists():
        print(f"{options.folder}: there already, reused")
        return 0
    print(f"{options.folder}: {write(options.folder, shape) / 2**30:.2f} GiB of weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
