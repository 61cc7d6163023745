# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One instance on the page: its numbers, its memory, why it is so, and what was not taken. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import memory, names, words
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.markup import Child, Markup, tag

_NOTHING = Markup("")
_ALTERNATIVE = ("Parallel", "GPUs", "Length", "KV tokens", "Concurrency", "GiB per GPU", "Tokens/s", "Tokens/s in all")


def instance(one: Mapping[str, Any], number: int, brief: bool) -> Markup:
    """An instance's block; ``number`` is its place in the section, ``brief`` leaves out what only the report needs."""
    if one.get("rejected"):
        return _refused(one)
    parts: list[Child] = [
        _head(one, tag("span", words.letter(number), class_="badge")),
        _numbers(one),
        memory.bar(one["memory"]) if one.get("memory") else tag("p", "Its memory was not computed.", class_="quiet"),
        _targets(one.get("targets")),
        _ranks(one),
        _sentences("warnings", "Warning", one.get("warnings") or ()),
        _sentences("reasons", None, one.get("reasons") or ()),
    ]
    if not brief:
        parts.extend((_alternatives(one.get("alternatives") or ()), _command(one)))
    return tag("article", *parts, class_=f"instance {words.hue(number)}", data_instance=one["name"])


def _head(one: Mapping[str, Any], badge: Markup) -> Markup:
    model = tag("span", str(one["model"]), class_="model")
    return tag("header", badge, tag("h3", str(one["name"])), model)


def _refused(one: Mapping[str, Any]) -> Markup:
    reason, remedies = words.refusal(one["rejected"])
    rule = one["rejected"].get("rule")
    return tag(
        "article",
        _head(one, tag("span", "Refused", class_="badge refused")),
        tag("p", reason, class_="reason"),
        tag("p", "What would make it possible, best first:") if remedies else _NOTHING,
        tag("ol", *(tag("li", remedy) for remedy in remedies), class_="remedies") if remedies else _NOTHING,
        _sentences("warnings", "Warning", one.get("warnings") or ()),
        tag("p", "Rule: ", tag("code", str(rule)), class_="quiet") if rule else _NOTHING,
        class_="instance is-refused",
        data_instance=one["name"],
    )


def _numbers(one: Mapping[str, Any]) -> Markup:
    found = [
        ("Parallel", words.sizes(one)),
        ("GPUs", words.devices(one)),
        ("Type", str(one.get("dtype") or words.UNKNOWN)),
        ("Length (tokens)", words.count(one.get("max_model_len"))),
        ("KV cache (tokens)", words.count(one.get("kv_cache_tokens"))),
        ("Concurrency", words.times(one.get("max_concurrency"))),
    ]
    found.extend(_speeds(one.get("estimate") or {}))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in found))


def _speeds(estimate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tokens per second of one request and of all at once, each with its interval and what it rests on."""
    found, factor = [], estimate.get("factor")
    at_once = estimate.get("requests_at_once")
    for name, key in (
        ("One request", "decode_tokens_per_second"),
        (f"{at_once} requests" if at_once else "", "total_tokens_per_second"),
    ):
        rate = estimate.get(key)
        if name and rate is not None:
            between = f" ({rate / factor:,.0f} to {rate * factor:,.0f})" if factor else ""
            found.append(
                (f"{name} (estimate, {estimate.get('source') or 'datasheet'})", f"{rate:,.0f} tokens/s{between}")
            )
    return found


def _ranks(one: Mapping[str, Any]) -> Markup:
    nodes = one.get("nodes") or ()
    if len(nodes) < 2:
        return _NOTHING
    rows = [
        tag("li", f"node rank {rank}: ", tag("b", str(node["host"])), f", GPUs {names.numbers(node['devices'])}")
        for rank, node in enumerate(nodes)
    ]
    return tag("div", tag("p", f"One engine on {len(nodes)} hosts:"), tag("ul", *rows, class_="ranks"))


def _targets(targets: Mapping[str, Any] | None) -> Markup:
    """What is asked of the instance, and whether the plan meets it."""
    each = (targets or {}).get("each") or {}
    if not each:
        return _NOTHING
    rows = [
        tag("li", f"{name} {one['asked']:g}: {one['predicted']:g}, ", tag("b", "met" if one["met"] else "missed"))
        for name, one in each.items()
    ]
    hosts = (targets or {}).get("hosts")
    needed = f", on {hosts} hosts like this one" if hosts and hosts > 1 else ""
    return tag("div", tag("p", f"Targets (estimate){needed}:"), tag("ul", *rows, class_="ranks"))


def _sentences(kind: str, label: str | None, sentences: Sequence[str]) -> Markup:
    if not sentences:
        return _NOTHING
    mark = tag("b", f"{label}: ") if label else None
    return tag("ul", *(tag("li", mark, words.sentence(str(text))) for text in sentences), class_=kind)


def _alternatives(alternatives: Sequence[Mapping[str, Any]]) -> Markup:
    if not alternatives:
        return _NOTHING
    head = tag("tr", *(tag("th", name, scope="col") for name in _ALTERNATIVE))
    rows = [row for one in alternatives for row in _alternative(one)]
    title = f"{len(alternatives)} alternative{'s' if len(alternatives) > 1 else ''} not taken"
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("details", tag("summary", title), scrolling(table, title))


def _alternative(one: Mapping[str, Any]) -> list[Markup]:
    """Two rows: the numbers, and the sentence why it was not taken."""
    estimate, account = one.get("estimate") or {}, one.get("memory") or {}
    used = sum(account.get(field) or 0 for _kind, field, _name in memory.PARTS) if account else None
    cells = [
        words.sizes(one),
        words.count(one.get("devices_count")),
        words.count(one.get("max_model_len")),
        words.count(one.get("kv_cache_tokens")),
        words.times(one.get("max_concurrency")),
        words.gib(used),
        words.count(estimate.get("decode_tokens_per_second")),
        words.count(estimate.get("total_tokens_per_second")),
    ]
    why = tag("td", words.sentence(str(one.get("why_not") or "")), colspan=len(cells))
    return [tag("tr", *(tag("td", cell) for cell in cells), class_="what"), tag("tr", why, class_="why")]


def _command(one: Mapping[str, Any]) -> Markup:
    environment = [f"{name}={shlex.quote(str(value))}" for name, value in (one.get("environment") or {}).items()]
    lines = [*environment, " ".join(["vllm serve", *(shlex.quote(str(part)) for part in one.get("serve_args") or ())])]
    text = tag("pre", " \\\n".join(lines))
    return tag("details", tag("summary", "Command"), scrolling(text, f"Command of {one['name']}"))


def scrolling(content: Markup, label: str) -> Markup:
    """A part that may be wider than the page: it scrolls by itself, with the keyboard too."""
    return tag("div", content, class_="scrolling", tabindex=0, role="region", aria_label=label)
