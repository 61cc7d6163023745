# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A plan as text for a terminal. Pure: the same report gives the same text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import columns, names, words
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.sections import Section, sections, warnings

WIDTH = 110
_HEADER = ("INSTANCE", "PARALLEL", "GPUS", "DTYPE", "LENGTH", "GIB PER GPU / BUDGET", "KV TOKENS", "CONCURRENCY")
_RIGHT = frozenset((4, 6, 7))
_LONGEST_NAME = 24
_LEGEND = (
    "GiB per GPU: weights + other (activations, CUDA graphs, outside of torch) + KV cache. Concurrency: requests of "
    "full length that fit at once."
)
_OTHER = ("activation_gib", "cuda_graphs_gib", "non_torch_gib")


def table(report: Mapping[str, Any], width: int = WIDTH) -> str:
    """The plan of every host, the refusals once more at the end; ``report`` is what report.build returns.

    ``width`` is in columns; sentences are wrapped to it, rows of the table take up to 110.
    """
    found = sections(report)
    blocks = [_section(section, width) for section in found]
    return "\n\n".join("\n".join(block) for block in [*blocks, _summary(report, found, width)] if block)


def _section(section: Section, width: int) -> list[str]:
    lines = _heading(section, width)
    running = [one for one in section.instances if not one.get("rejected")]
    rows = [_row(one) for one in running]
    if rows:
        lines.extend(columns.aligned([_HEADER, *rows], _RIGHT))
        if any(one.get("memory") for one in running):
            lines.extend(_wrapped(_LEGEND, width, "  "))
    for one in section.instances:
        lines.extend(_remarks(one, width))
    return lines


def _heading(section: Section, width: int) -> list[str]:
    many = f" ({len(section.hosts)} hosts)" if len(section.hosts) > 1 else ""
    title = textwrap.wrap(f"{section.title}{many}", width) or [""]
    lines = [*title, "=" * min(width, max(map(len, title)))]
    for host, entry in section.shown.items():
        name = f"{host}: " if len(section.shown) > 1 else ""
        facts = entry["gpu_facts"]
        lines.extend(_wrapped(f"{name}{'; '.join(words.hardware(facts))}", width, "  "))
        if facts.get("state") != "ready":
            lines.extend(_wrapped(str(facts.get("message")), width, "  ! "))
        free = _free(host, entry, section)
        if free:
            lines.extend(_wrapped(f"{name}free: GPU {free}", width, "  "))
    lines.extend(_list(section.told(warnings), width, "  ! "))
    return lines


def _free(host: str, entry: Mapping[str, Any], section: Section) -> str:
    taken = {
        index
        for one in section.instances
        if not one.get("rejected")
        for node in one.get("nodes") or ()
        if node["host"] == host
        for index in node["devices"]
    }
    all_of_them = [device["index"] for device in entry["gpu_facts"].get("devices") or ()]
    return names.numbers(index for index in all_of_them if index not in taken)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    name = one["name"]
    return (
        columns.shortened(name, _LONGEST_NAME),
        words.sizes(one),
        words.devices(one),
        str(one.get("dtype") or words.UNKNOWN),
        str(one.get("max_model_len") or words.UNKNOWN),
        _memory(one.get("memory")),
        words.count(one.get("kv_cache_tokens")),
        words.times(one.get("max_concurrency")),
    )


def _memory(memory: Mapping[str, Any] | None) -> str:
    if not memory:
        return words.UNKNOWN
    other = sum(memory.get(part) or 0 for part in _OTHER)
    parts = [memory["weights_gib"], other, memory["kv_cache_gib"]]
    return f"{'+'.join(words.gib(part) for part in parts)} / {words.gib(memory['budget_gib'])}"


def _remarks(one: Mapping[str, Any], width: int) -> list[str]:
    rejected = one.get("rejected")
    head = f"  {one['name']}: {one['model']}" + (" - REFUSED" if rejected else "")
    lines = ["", *textwrap.wrap(head, width, subsequent_indent="    ", break_on_hyphens=False)]
    nodes = one.get("nodes") or ()
    if len(nodes) > 1 and not rejected:
        ranks = [f"{node['host']} GPU {names.numbers(node['devices'])}" for node in nodes]
        lines.extend(_wrapped("one engine on " + ", ".join(ranks) + " (the first leads)", width, "    - "))
    if rejected:
        lines.extend(_refusal(rejected, width))
    lines.extend(_list(one.get("reasons") or (), width, "    - "))
    lines.extend(_list(one.get("warnings") or (), width, "    ! "))
    return lines


def _refusal(rejected: Mapping[str, Any], width: int) -> list[str]:
    reason, remedies = words.refusal(rejected)
    lines = _wrapped(reason, width, "    x ")
    for number, remedy in enumerate(remedies, start=1):
        lines.extend(_wrapped(remedy, width, f"      {number}. "))
    return lines


def _list(texts: Iterable[str], width: int, mark: str) -> list[str]:
    return [line for text in texts for line in _wrapped(words.sentence(str(text)), width, mark)]


def _wrapped(text: str, width: int, mark: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(report: Mapping[str, Any], found: Sequence[Section], width: int) -> list[str]:
    instances = sum(section.weight * len(section.instances) for section in found)
    refused = [(section, one) for section in found for one in section.instances if one.get("rejected")]
    number = sum(section.weight for section, _one in refused)
    lines = [f"{_several(len(report['hosts']), 'host')}, {_several(instances, 'instance')}, {number} refused."]
    for section, one in refused:
        text = f"{section.title}: {one['name']}: {words.refusal(one['rejected'])[0]}"
        lines.extend(_wrapped(text, width, "  x "))
    return lines


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
