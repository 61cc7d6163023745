# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the name of a module is meant by the patterns of a quantization configuration.

Checkpoints write whole names, parts of names, shell patterns or regular expressions (``re:``), with prefixes that
differ between libraries; here names have none (``layers.3.mlp.up_proj``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator

_PREFIX = re.compile(r"^(?:(?:model|language_model|backbone|thinker)\.)+(?=.)")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)(?:\.|$)")
# Modules that vLLM fuses may be named by what they are fused to (quantization/utils/quant_utils.py:619-694).
_FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj",
          "up_proj": "gate_up_proj", "in_proj_qkv": "in_proj_qkvz", "in_proj_z": "in_proj_qkvz"}  # fmt: skip


def plain(name: str) -> str:
    """Return a name without the prefixes that only some libraries write."""
    return _PREFIX.sub("", name)


def ancestors(name: str) -> Iterator[str]:
    """Return a name, its fused name, and all modules that they are in, nearest first."""
    head, _, last = name.rpartition(".")
    yield name
    if last in _FUSED:
        yield f"{head}.{_FUSED[last]}"
    while head:
        yield head
        head = head.rpartition(".")[0]


class Patterns:
    """A set of patterns, asked with :meth:`meant`. Patterns that are no text or no valid expression are left out."""

    def __init__(self, patterns: Iterable[object]) -> None:
        self._names: set[str] = set()
        self._globs: dict[str, list[re.Pattern[str]]] = {}
        self._expressions: list[re.Pattern[str]] = []
        for pattern in patterns:
            if isinstance(pattern, str) and pattern:
                self._add(pattern)

    def _add(self, pattern: str) -> None:
        if pattern.startswith("re:"):
            self.add_expression(pattern[len("re:") :])
            return
        name = plain(pattern)
        if "*" in name or "?" in name:
            layer = _LAYER.search(name)
            expression = re.compile(fnmatch.translate(name))
            self._globs.setdefault(layer[1] if layer else "", []).append(expression)
        else:
            self._names.add(name.rstrip("."))

    def add_expression(self, expression: str) -> None:
        """Add a regular expression that must match from the beginning of the whole name."""
        try:
            self._expressions.append(re.compile(expression))
        except re.error:
            return

    def meant(self, name: str) -> bool:
        """Say whether a module, or one that it is in, is meant."""
        places = list(ancestors(name))
        if any(place in self._names for place in places) or self._inside(name):
            return True
        layer = _LAYER.search(name)
        globs = [*self._globs.get("", ()), *(self._globs.get(layer[1], ()) if layer else ())]
        if any(glob.match(place) for glob in globs for place in places):
            return True
        return any(expression.match(f"model.{name}") or expression.match(name) for expression in self._expressions)

    def _inside(self, name: str) -> bool:
        """Find a name of few words, such as ``gate`` or ``mlp.gate``, anywhere between the dots."""
        words = name.split(".")
        for length in (1, 2, 3):
            for start in range(len(words) - length + 1):
                if ".".join(words[start : start + length]) in self._names:
                    return True
        return False
