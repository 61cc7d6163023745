# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A plan as one HTML page that needs nothing else. Pure: the same report gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import ranks, words
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.drawing import drawing
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.markup import Markup, tag
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.page_instance import instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.page_style import STYLE
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.sections import Section, findings, sections, warnings

# With more different hosts than this, alternatives and commands are left to the JSON report.
MOST_IN_FULL = 100
_NOTHING = Markup("")


def page(report: Mapping[str, Any]) -> str:
    """The page of a report, as report.build returns it."""
    found = sections(report)
    brief = len(found) > MOST_IN_FULL
    body = tag(
        "body",
        tag("a", "To the hosts", href="#hosts", class_="skip"),
        tag("header", tag("h1", "vLLM plan"), tag("p", _summary(report, found), class_="lead"), class_="top"),
        _refusals(found),
        _contents(found),
        tag("main", *(_section(section, number, brief) for number, section in enumerate(found)), id="hosts"),
        tag("footer", tag("p", _footer(brief))),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "vLLM plan"),
        tag("style", Markup(STYLE)),
        # a page opened from a file asks for none; one on a server would
        tag("link", rel="icon", href="data:,"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _summary(report: Mapping[str, Any], found: Sequence[Section]) -> str:
    gpus = sum(len(entry["gpu_facts"].get("devices") or ()) for entry in report["hosts"].values())
    instances, refused = counts(found)
    numbers = [_several(len(report["hosts"]), "host"), _several(gpus, "GPU"), _several(instances, "instance")]
    return f"{', '.join(numbers)}; {refused or 'none'} refused."


def counts(found: Sequence[Section]) -> tuple[int, int]:
    """Instances on all hosts, and how many of them are refused; one engine on several hosts counts once."""
    each = [(section.weight, one) for section in found for one in section.instances]
    return sum(weight for weight, _one in each), sum(weight for weight, one in each if one.get("rejected"))


def _several(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _footer(brief: bool) -> str:
    sentences = [
        "Memory is that of one GPU, the poorest of the instance.",
        "Concurrency is how many requests of full length fit the KV cache at once.",
        "All numbers are computed, not measured.",
    ]
    return " ".join([*sentences, "Alternatives and commands of so many hosts are in the JSON report."][: 3 + brief])


def _refusals(found: Sequence[Section]) -> Markup:
    items = [
        tag(
            "li",
            tag("a", f"{one['name']} on {section.title}", href=f"#section-{number}"),
            f": {words.refusal(one['rejected'])[0]}",
        )
        for number, section in enumerate(found)
        for one in section.instances
        if one.get("rejected")
    ]
    if not items:
        return _NOTHING
    return tag("section", tag("h2", "Refused"), tag("ul", *items), class_="refusals", aria_label="Refused instances")


def _contents(found: Sequence[Section]) -> Markup:
    if len(found) < 3:
        return _NOTHING
    links = [
        tag("li", tag("a", section.title, href=f"#section-{number}"), tag("span", _many(section), class_="quiet"))
        for number, section in enumerate(found)
    ]
    return tag("nav", tag("ul", *links), aria_label="Hosts")


def _many(section: Section) -> str:
    return f" {len(section.hosts)} hosts" if section.weight > 1 else ""


def _section(section: Section, number: int, brief: bool) -> Markup:
    title = tag("h2", section.title, tag("span", _many(section), class_="many") if section.weight > 1 else None)
    figures = [_figure(section, host, entry) for host, entry in section.shown.items()]
    blocks = [instance(one, place, brief) for place, one in enumerate(section.instances)]
    left = tag("div", *figures, _notes(section), class_="figures")
    columns = tag("div", left, tag("div", *blocks, class_="instances"), class_="columns")
    joined = " joined" if len(section.shown) > 1 else ""
    return tag("section", title, columns, class_=f"hosts{joined}", id=f"section-{number}")


def _figure(section: Section, host: str, entry: Mapping[str, Any]) -> Markup:
    facts = entry["gpu_facts"]
    said = words.hardware(facts)
    alone = len(section.shown) == 1
    drawn = drawing(facts, ranks.places(section.instances, host), f"{section.title if alone else host}: {said[0]}")
    name = None if alone else tag("b", host, class_="host-name")
    state = None if facts.get("state") == "ready" else tag("p", str(facts.get("message") or ""), class_="state")
    return tag("figure", tag("figcaption", name, tag("span", " · ".join(said))), drawn, state)


def _notes(section: Section) -> Markup:
    notes = [*section.told(findings), *section.told(warnings)]
    drivers = section.told(lambda facts: [f"driver {facts['driver_version']}"] if facts.get("driver_version") else [])
    listed = [tag("p", "; ".join(drivers), class_="quiet")] if drivers else []
    if notes:
        title = f"{len(notes)} note{'s' if len(notes) > 1 else ''} on the hardware"
        listed.append(tag("details", tag("summary", title), tag("ul", *(tag("li", text) for text in notes))))
    return tag("div", *listed, class_="notes") if listed else _NOTHING
