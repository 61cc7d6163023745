# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files of a hub model vLLM loads. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

NAME = re.compile(r"[^-/\x00-\x1f\x7f][^\x00-\x1f\x7f]*")
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

    Raises :class:`InputError` for a name that is absolute, leads out of its folder, or would be read as an option.
    """
    check_names(sizes)
    weights = set(model.weight_files(sizes))
    return sorted(name for name in sizes if name in weights or _is_companion(PurePosixPath(name)))


def check_names(names: Iterable[str]) -> None:
    """Raise :class:`InputError` for a name that is no path inside a folder, or would be read as an option."""
    for name in names:
        # the name becomes a path and an argument of a program that root runs
        if not NAME.fullmatch(name) or ".." in PurePosixPath(name).parts:
            raise InputError(
                f"The hub has a file {name[:100]!r} in this model, a name that is not taken. Choose another."
            )


def _is_companion(path: PurePosixPath) -> bool:
    if any(part in OTHER_FOLDERS for part in path.parts[:-1]) or path.name.startswith(".git"):
        return False
    return path.suffix.lower() not in OTHER_WEIGHTS | OTHER_FORMATS | NOT_LOADED
