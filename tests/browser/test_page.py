"""What a browser makes of the plan's page, light and dark, wide and narrow.

With SCREENSHOTS=DIR in the environment a picture of every page is left in that folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import memory, page

from tests.browser.chromium import Browser
from tests.unit import plan_samples

SAMPLES = plan_samples.SAMPLES
WIDTHS = (1280, 400)
# What the Web Content Accessibility Guidelines ask of text (1.4.3, level AA).
LEAST_CONTRAST = 4.5

OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
GPUS = """[...document.querySelectorAll('svg.host')].map(svg => [...svg.querySelectorAll('.gpu')].filter(gpu => {
  const box = gpu.getBoundingClientRect(); return box.width > 20 && box.height > 20}).length)"""
# Text of an instance's name that is cut off by the GPU's box, in pixels.
OVERHANG = """Math.max(0, ...[...document.querySelectorAll('.gpu')].flatMap(gpu => {
  const edge = gpu.querySelector('.edge').getBoundingClientRect();
  return [...gpu.querySelectorAll('text')].map(text => text.getBoundingClientRect().right - edge.right)}))"""
BARS = """[...document.querySelectorAll('.bar')].map(bar => ({
  whole: bar.getBoundingClientRect().width,
  parts: [...bar.querySelectorAll('.segment')].map(part => part.getBoundingClientRect().width),
  top: new Set([...bar.querySelectorAll('.segment')].map(part => part.getBoundingClientRect().top)).size}))"""
# Text that is clipped by its own element, or that reaches out of the page.
WIDER = """[...document.querySelectorAll('body *')].filter(one => !one.closest('.scrolling') && !one.closest('.skip')
  && one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).map(one => one.className)"""
CONTRASTS = """(() => {
  const parse = text => {const n = text.match(/[\\d.]+/g).map(Number); return {rgb: n.slice(0, 3), alpha: n[3] ?? 1}};
  const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const {rgb, alpha} = parse(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || one.closest('svg')) continue;
    const [text, behind] = [light(parse(getComputedStyle(one).color).rgb), light(ground(one))];
    found.push([(Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05), one.className || one.tagName]);
  }
  return found;
})()"""


def expected_gpus(report: dict[str, Any], shown: list[str]) -> list[int]:
    return [len(report["hosts"][host]["gpu_facts"]["devices"]) for host in shown]


SHOWN = {
    "eight_h100": ["gpu01"],
    "pairs": ["a100-pairs"],
    "refused": ["ws1"],
    "two_hosts": ["big01", "big02"],
    "fleet": ["gpu01", "a100-pairs", "ws1", "big01", "big02", "edge", "numa", "workstation"],
}


@pytest.fixture(params=[(name, width, scheme) for name in SAMPLES for width in WIDTHS for scheme in ("light", "dark")])
def opened(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> tuple[Browser, str]:
    """The page of a sample in a window, with all details open."""
    name, width, scheme = request.param
    path = tmp_path / f"{name}.html"
    path.write_text(page.page(SAMPLES[name]()), encoding="utf-8")
    browser.open(path, width, scheme)
    browser.ask(OPEN_ALL)
    if os.environ.get("SCREENSHOTS"):
        browser.screenshot(Path(os.environ["SCREENSHOTS"]) / f"{name}-{width}-{scheme}.png")
    return browser, name


def test_page(opened: tuple[Browser, str]) -> None:
    browser, name = opened
    report = SAMPLES[name]()
    instances = [one for entry in report["hosts"].values() for one in entry["instances"]]
    running = {one["name"]: one for one in instances if not one["rejected"]}
    assert browser.faults == []
    assert browser.ask(GPUS) == expected_gpus(report, SHOWN[name])
    assert browser.ask(OVERHANG) <= 0
    on_gpus = browser.ask("[...document.querySelectorAll('.gpu [data-instance]')].map(one => one.dataset.instance)")
    assert set(on_gpus) == set(running)
    blocks = browser.ask("[...document.querySelectorAll('article h3')].map(one => one.innerText)")
    assert set(blocks) == {one["name"] for one in instances}
    assert browser.ask(WIDER) == []
    overflow = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    width, room = browser.ask(overflow)
    assert width <= room


def test_bars(opened: tuple[Browser, str]) -> None:
    browser, name = opened
    accounts = [
        one["memory"]
        for host in SHOWN[name]
        for one in SAMPLES[name]()["hosts"][host]["instances"]
        if one["memory"] and one.get("node_rank", 0) == 0
    ]
    bars = browser.ask(BARS)
    assert len(bars) == len(accounts) > 0
    for bar, account in zip(bars, accounts, strict=True):
        amounts = [amount for _kind, _name, amount in memory.amounts(account) if amount > 0]
        assert bar["top"] == 1
        assert sum(bar["parts"]) == pytest.approx(bar["whole"], abs=1)
        for part, amount in zip(bar["parts"], amounts, strict=True):
            assert part == pytest.approx(bar["whole"] * amount / account["total_gib"], abs=1)


def test_contrast(opened: tuple[Browser, str]) -> None:
    browser, _name = opened
    found = browser.ask(CONTRASTS)
    assert len(found) > 20
    assert [one for one in found if one[0] < LEAST_CONTRAST] == []


def test_the_keyboard_opens_what_is_folded(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.page(plan_samples.eight_h100()), encoding="utf-8")
    browser.open(path, 1280)
    assert browser.ask("document.querySelectorAll('details[open]').length") == 0
    for _ in range(20):
        browser.press("Tab")
        if browser.ask("document.activeElement.tagName") == "SUMMARY":
            break
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.ask("document.querySelectorAll('details[open]').length") == 1


def test_print(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.page(plan_samples.fleet()), encoding="utf-8")
    browser.open(path, 1280, "dark")
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
    browser.media("print")
    try:
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        closed = "[...document.querySelectorAll('details:not([open]) pre')]"
        assert browser.ask(f"Math.min(...{closed}.map(one => one.getBoundingClientRect().height))") > 0
    finally:
        browser.media("")


def test_a_fault_of_a_page_is_seen(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><title>x</title><img src='nowhere.png'><script>missing()</script>")
    browser.open(path, 1280)
    assert len(browser.faults) == 2
