# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Models described by single files: a config.json without weights, and facts that were saved earlier."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model, safetensors

# A file of facts has at least these.
SAVED_KEYS = ("architectures", "num_layers", "weights", "layers")


def _text(path: str, option: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            f"The file {path} of '{option}' cannot be read ({error.strerror}); correct '{option}', or its permissions."
        ) from error


def read_config(path: str, weights_bytes: int | None = None, weights_index: str | None = None) -> dict[str, Any]:
    """Describe a model by the config.json at ``path`` and the small files beside it.

    ``weights_bytes`` is the size of the weight files in bytes; else ``weights_index`` is the path of a
    model.safetensors.index.json that states it. Raises :class:`InputError` for files that cannot be read or are not
    what they should be.
    """
    config = model.model_config(_text(path, "config"), path)
    if weights_bytes is not None and weights_bytes <= 0:
        raise InputError(
            f"weights_bytes is {weights_bytes}; write the size of the weight files in bytes, or leave it out."
        )
    if weights_bytes is None and weights_index:
        index = model.parse_config(_text(weights_index, "weights_index"), weights_index)
        weights_bytes = safetensors.total_size(index)
        if weights_bytes is None:
            raise InputError(
                f"{weights_index} states no metadata.total_size; name another file in 'weights_index', or write "
                "'weights_bytes'."
            )
    return model.facts(config, weights_bytes, None, model.beside(Path(path).parent))


def read_saved(path: str) -> dict[str, Any]:
    """Return facts that were saved at ``path``; raises :class:`InputError` when the file holds none."""
    try:
        found = json.loads(_text(path, "saved"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(key in found for key in SAVED_KEYS):
        raise InputError(
            f"{path} holds no facts of a model; name a file that model_info has written with 'save', or write it again."
        )
    return found


def as_text(facts: Mapping[str, Any]) -> str:
    """Return facts as the text of a file; the same facts are the same text."""
    return json.dumps(facts, indent=2, sort_keys=True) + "\n"


def saved_text(path: str) -> str | None:
    """Return what a file of facts holds, None when it is not there."""
    return _text(path, "save") if Path(path).exists() else None


def write(path: str, text: str) -> None:
    """Write a file in one step, readable by all; raises :class:`InputError` when that is not possible."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"The facts cannot be written to {path} ({error.strerror}); correct 'save', or make its folder."
        ) from error
