# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files of a hub model vLLM loads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

# Weights in formats of others, or a second time in another one. What is not in this list and not below is fetched: a
# tokenizer or a template can have any name.
OTHER_WEIGHTS = frozenset(
    [
        ".safetensors",
        ".bin",
        ".pt",
        ".pth",
        ".gguf",
        ".ggml",
        ".onnx",
        ".onnx_data",
        ".msgpack",
        ".h5",
        ".ot",
        ".tflite",
    ]
)
OTHER_FORMATS = frozenset(
    [".mlmodel", ".mlpackage", ".npz", ".nemo", ".ckpt", ".engine", ".pdparams", ".llamafile", ".pkl"]
)
NOT_LOADED = frozenset((".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".mp4", ".mp3", ".wav", ".pdf", ".ipynb"))
# Folders with the weights once more: Meta's own format, exports to other runtimes.
OTHER_FOLDERS = frozenset(("original", "onnx", "openvino", "coreml", "metal", "tensorrt", "tflite", "gguf", "figures"))


def loaded(sizes: Mapping[str, int]) -> list[str]:
    """Return the names that vLLM needs of the files of a model, sorted; ``sizes`` maps all names to bytes.

    Of the weights those of the format that vLLM takes (:func:`model.weight_files`), and everything that is not known to
    be something else. Adapters, templates and code lie in folders too.
    """
    weights = set(model.weight_files(sizes))
    return sorted(name for name in sizes if name in weights or _is_companion(PurePosixPath(name)))


def _is_companion(path: PurePosixPath) -> bool:
    if any(part in OTHER_FOLDERS for part in path.parts[:-1]) or path.name.startswith(".git"):
        return False
    return path.suffix.lower() not in OTHER_WEIGHTS | OTHER_FORMATS | NOT_LOADED
