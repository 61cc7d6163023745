# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The memory of one GPU as a stacked bar, with the numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import words
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.markup import Markup, tag

# Class in the page, field of the layout's account, name.
PARTS: Sequence[tuple[str, str, str]] = (
    ("weights", "weights_gib", "Weights"),
    ("activation", "activation_gib", "Activations"),
    ("graphs", "cuda_graphs_gib", "CUDA graphs"),
    ("outside", "non_torch_gib", "Outside of torch"),
    ("cache", "kv_cache_gib", "KV cache"),
)
# Percent of the bar that a number needs to be written into it.
_ROOM = 9


def amounts(memory: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Class, name and GiB of each part of one GPU, the unused rest last; the parts add up to the total."""
    found = [(kind, name, float(memory.get(field) or 0)) for kind, field, name in PARTS]
    rest = float(memory["total_gib"]) - sum(amount for _kind, _name, amount in found)
    return [*found, ("unused", "Rest of the GPU", max(0.0, rest))]


def bar(memory: Mapping[str, Any]) -> Markup:
    """The bar of one GPU, and below it the parts with their numbers."""
    parts = amounts(memory)
    whole = sum(amount for _kind, _name, amount in parts) or 1.0
    said = ", ".join(f"{name} {words.gib(amount)} GiB" for _kind, name, amount in parts)
    segments = [_segment(kind, name, amount, 100 * amount / whole) for kind, name, amount in parts if amount > 0]
    budget = 100 * float(memory["budget_gib"]) / whole
    mark = tag("span", class_="budget", style=f"left:{min(budget, 100):.2f}%", title=_budget(memory))
    return tag(
        "div",
        tag("div", *segments, mark, class_="bar", role="img", aria_label=f"Memory of one GPU: {said}"),
        tag("ul", *(_entry(kind, name, amount) for kind, name, amount in parts), class_="legend"),
        tag("p", f"{_budget(memory)} of {words.gib(memory['total_gib'])} GiB.", class_="quiet"),
        class_="memory",
    )


def _budget(memory: Mapping[str, Any]) -> str:
    return f"Budget of this instance (the mark): {words.gib(memory['budget_gib'])}"


def _segment(kind: str, name: str, amount: float, percent: float) -> Markup:
    text = words.gib(amount) if percent >= _ROOM else ""
    title = f"{name}: {words.gib(amount)} GiB"
    return tag("span", text, class_=f"segment {kind}", style=f"width:{percent:.4f}%", title=title)


def _entry(kind: str, name: str, amount: float) -> Markup:
    return tag("li", tag("i", class_=f"key {kind}"), f"{name} ", tag("b", words.gib(amount)), " GiB")
