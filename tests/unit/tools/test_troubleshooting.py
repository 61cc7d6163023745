# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docs/troubleshooting.md says what the doctor's tables say."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import verdict
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import TABLE

from tools import troubleshooting as pages


def test_the_page_is_what_the_tables_say() -> None:
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(), "run `make troubleshooting`"


def test_every_fault_has_a_section() -> None:
    text = pages.page()
    faults = [(one.id, one.title, one.severity) for one in TABLE]
    faults += [(one.id, one.title, one.severity) for one in verdict.CHECKS]
    for name, title, severity in faults:
        assert f"\n### {title}\n\n`{name}`, {severity}" in text


def test_every_link_leads_to_a_heading() -> None:
    text = pages.page()
    headings = [match[1] for match in re.finditer(r"^#+ (.+)$", text, re.MULTILINE)]
    anchors = {verdict.anchor(heading) for heading in headings}
    assert {match[1] for match in re.finditer(r"\]\((#[^)]+)\)", text)} <= anchors
    # a second heading of the same words would get another anchor
    assert len(anchors) == len(headings)


def test_values_that_a_line_fills_in_are_named_as_such() -> None:
    assert pages.told("GPU {gpu} has {free} left.") == "GPU `gpu` has `free` left."
