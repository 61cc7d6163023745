"""The page, as markup: what a browser makes of it is tested in tests/browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import facts_from_profile
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import drawing, markup, memory, page, report, words

from tests.unit import plan_samples
from tests.unit.plan_samples import layout

SAMPLES = plan_samples.SAMPLES
HOSTILE = "<script>alert(1)</script>\"&'</style>"


def tree(html: str) -> ET.Element:
    """The page as a tree; elements without content are closed, and its style is data."""
    text = re.sub(r"<(meta|link)([^>]*)>", r"<\1\2/>", html.removeprefix("<!doctype html>\n"))
    return ET.fromstring(re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("name", SAMPLES)
def test_it_is_whole_and_needs_nothing(name: str) -> None:
    html = page.page(SAMPLES[name]())
    tree(html)
    assert html == page.page(SAMPLES[name]())
    assert not re.search(r"<script|https?:|src=|@import|url\(", html)
    assert set(re.findall(r'href="([^#"]+)"', html)) == {"data:,"}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_link_has_a_place(name: str) -> None:
    root = tree(page.page(SAMPLES[name]()))
    places = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(places) == len(set(places))
    assert {link.get("href", "")[1:] for link in root.iter("a")} <= set(places)


def texts(value: Any) -> Any:
    """The value with every text replaced by a hostile one, but for those that the code compares."""
    if isinstance(value, dict):
        kept = ("state", "interconnect", "source", "accelerator", "link_matrix", "host")
        return {key: item if key in kept else texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [texts(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("name", SAMPLES)
def test_text_stays_text(name: str) -> None:
    given = texts(SAMPLES[name]())
    given["hosts"] = {f"{host}{HOSTILE}": entry for host, entry in given["hosts"].items()}
    html = page.page(given)
    assert "<script" not in html
    assert html.count("</style>") == 1
    said = "".join(tree(html).itertext())
    assert HOSTILE in said


@pytest.mark.parametrize(
    ("facts", "gpus", "bus", "bonds", "frames"),
    [
        (facts_from_profile({"name": "H100", "count": 8}), 8, {"NVSwitch"}, 0, 0),
        (facts_from_profile({"name": "H100", "count": 4}), 4, {"NVLink, each GPU to each"}, 0, 0),
        (facts_from_profile({"name": "MI300X", "count": 8}), 8, {"Infinity Fabric, each GPU to each"}, 0, 0),
        (facts_from_profile({"name": "V100", "count": 16, "interconnect": "nvswitch"}), 16, {"NVSwitch"}, 0, 0),
        (facts_from_profile({"name": "L4"}), 1, set(), 0, 0),
        (facts_from_profile({"name": "L4", "count": 3, "interconnect": "pcie"}), 3, {"PCIe"}, 0, 0),
        (facts_from_profile({"name": "L4", "count": 2, "interconnect": "pcie_switch"}), 2, {"PCIe switch"}, 0, 0),
        (facts_from_profile({"name": "A6000", "count": 5, "interconnect": "nvlink"}), 5, {"PCIe"}, 2, 0),
        (plan_samples.recording("h100-nvswitch"), 8, {"NVSwitch"}, 0, 2),
        (plan_samples.recording("a100-pairs"), 4, {"PCIe"}, 2, 2),
        (
            {**facts_from_profile({"name": "L4", "count": 2}), "link_matrix": None, "interconnect": None},
            2,
            {"links unknown"},
            0,
            0,
        ),
    ],
)
def test_drawings(facts: dict[str, Any], gpus: int, bus: set[str], bonds: int, frames: int) -> None:
    root = ET.fromstring(drawing.drawing(facts, {}, "title"))
    kinds = [element.get("class", "") for element in root.iter()]
    assert kinds.count("gpu") == gpus
    assert kinds.count("bond") == bonds
    assert kinds.count("numa") == frames
    rails = [element for element in root.iter("g") if element.get("class", "").startswith("rail")]
    assert {rail.findtext("text") for rail in rails} == bus
    boxes = [[float(rect.get(key, 0)) for key in ("x", "y", "width", "height")] for rect in root.iter("rect")]
    _left, _top, width, height = (float(number) for number in root.get("viewBox", "").split())
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)


def test_gpus_do_not_overlap_each_other_nor_the_rails() -> None:
    for facts in (plan_samples.recording("h100-nvswitch"), facts_from_profile({"name": "L4", "count": 16})):
        root = ET.fromstring(drawing.drawing(facts, {}, "title"))
        solid = [
            [float(rect.get(key, 0)) for key in ("x", "y", "width", "height")]
            for group in root.iter("g")
            if group.get("class", "").split(" ")[0] in ("gpu", "rail")
            for rect in group.findall("rect")[-1:]
        ]
        for number, (x, y, w, h) in enumerate(solid):
            for other_x, other_y, other_w, other_h in solid[number + 1 :]:
                apart = x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y
                assert apart


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        (
            {
                "source": "measured by others",
                "factor": 1.4,
                "requests_at_once": 512,
                "total_tokens_per_second": 14000.0,
            },
            [
                "One request (estimate, measured by others)140 tokens/s (100 to 196)",
                "512 requests (estimate, measured by others)14,000 tokens/s (10,000 to 19,600)",
            ],
        ),
        ({}, ["One request (estimate, datasheet)140 tokens/s"]),
    ],
)
def test_speeds_have_an_interval_and_say_what_they_rest_on(more: dict[str, Any], shown: list[str]) -> None:
    given = SAMPLES["pairs"]()
    host = next(iter(given["hosts"].values()))
    host["instances"][0]["estimate"] = {"decode_tokens_per_second": 140.0, **more}
    said = ["".join(element.itertext()) for element in tree(page.page(given)).iter("div")]
    assert [one for one in said if one.endswith(("tokens/s", ")")) and "estimate" in one and one in shown] == shown


def test_a_host_without_gpus_is_not_drawn() -> None:
    assert drawing.drawing({"devices": []}, {}, "title") == ""


def test_ranks_are_on_their_gpus() -> None:
    root = tree(page.page(plan_samples.two_hosts()))
    gpus = [element for element in root.iter("g") if element.get("class") == "gpu"]
    assert len(gpus) == 16
    titles = [gpu.findtext("title") or "" for gpu in gpus]
    assert titles[3].endswith("deepseek-v3 TP3 PP0")
    assert titles[8].endswith("deepseek-v3 TP0 PP1")


def test_a_shared_gpu_shows_both() -> None:
    one = layout("a", "m", {"h": [0]}), layout("b", "m", {"h": [0]})
    given = report.build({"h": {"gpu_facts": facts_from_profile({"name": "L4"}), "instances": list(one)}})
    (gpu,) = [element for element in tree(page.page(given)).iter("g") if element.get("class") == "gpu"]
    assert [part.get("data-instance") for part in gpu.iter("g") if part.get("data-instance")] == ["a", "b"]


@pytest.mark.parametrize(
    "account",
    [
        plan_samples.account(80.0, 73.6, 30.6, 1.9, 0.9, 1.8, 38.4),
        plan_samples.account(24.0, 22.1, 22.1, 0.0, 0.0, 0.0, 0.0),
        plan_samples.account(24.0, 23.9, 20.0, 2.0, 1.0, 1.0, 0.3),
        {"total_gib": 10, "budget_gib": 9, "weights_gib": 5, "kv_cache_gib": 4, "cuda_graphs_gib": None},
    ],
)
def test_the_bar_adds_up(account: dict[str, Any]) -> None:
    html = memory.bar(account)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    parts = memory.amounts(account)
    assert sum(amount for _kind, _name, amount in parts) >= account["total_gib"] - 1e-9
    assert all(f"<b>{words.gib(amount)}</b>" in html for _kind, _name, amount in parts)


def test_a_thousand_hosts_stay_small() -> None:
    instances = [layout(f"m{number}", "org/model", {"h": [number]}, reasons=["It fits. " * 12]) for number in range(3)]
    facts: dict[str, Any] = facts_from_profile({"name": "H100", "count": 8})
    # as different as can be, so that no two are folded
    planned: dict[str, Any] = {
        f"h{number}": {
            "gpu_facts": {**facts, "interconnect": f"other{number}"},
            "instances": [
                {
                    **one,
                    "alternatives": [plan_samples.alternative(2, "no")] * 8,
                    "memory": plan_samples.account(80.0, 73.6, 30.6, 1.9, 0.9, 1.8, 38.4),
                }
                for one in instances
            ],
        }
        for number in range(1000)
    }
    html = page.page(report.build(planned))
    assert html.count('class="hosts"') == 1000
    assert len(html.encode()) < 15 * 2**20
    assert "are in the JSON report" in html


@pytest.mark.parametrize(
    ("markup_", "text"),
    [
        (markup.tag("p", "a < b & c"), "<p>a &lt; b &amp; c</p>"),
        (markup.tag("p", markup.tag("b", "x"), None, "y"), "<p><b>x</b>y</p>"),
        (
            markup.tag("a", "x", href='"&', class_="k", hidden=True, id=None),
            '<a href="&quot;&amp;" class="k" hidden>x</a>',
        ),
        (markup.tag("meta", name="x", data_y=1.5), '<meta name="x" data-y="1.5">'),
    ],
)
def test_markup(markup_: str, text: str) -> None:
    assert markup_ == text
