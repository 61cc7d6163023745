# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docs/sizing.md says what the planner says, and the planner says what can be."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import sizing
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

from tests.unit.samples import QWEN25_7B
from tests.unit.templating import render
from tools import sizing as pages


def test_the_page_is_what_the_planner_says() -> None:
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(), "run `make sizing`"


@pytest.mark.parametrize(
    ("name", "gpu", "gpus"),
    [
        ("Llama 3.1 8B", "RTX 4090", 1),
        ("Llama 3.1 70B", "RTX 4090", 2),
        ("Llama 3.1 70B", "H100", 1),
        ("Qwen3.5 35B-A3B", "H100", 1),
        ("Qwen3.5 122B-A10B", "RTX 4090", 4),
        ("Qwen3.5 122B-A10B", "H100", 1),
        ("Mixtral 8x22B", "RTX 4090", 4),
        # the guide says two; docs/sizing.md has the arithmetic
        ("Mixtral 8x22B", "H100", 1),
        ("DeepSeek R1 671B", "RTX 4090", None),
        ("Llama 3.1 405B", "RTX 4090", None),
        ("Llama 3.1 405B", "H100", 4),
    ],
)
def test_the_guides_table(name: str, gpu: str, gpus: int | None) -> None:
    row = sizing.fewest_gpus(name, pages.facts(name, four_bit=True), gpu, pages.CONTEXT)
    assert row["gpus"] == gpus
    assert (row["rejected"] is None) == (gpus is not None)


def test_llama_405b_in_16_bits_takes_more_than_a_host_of_eight_h100() -> None:
    row = sizing.fewest_gpus("x", pages.facts("Llama 3.1 405B", four_bit=False), "H100", pages.CONTEXT)
    assert row["gpus"] is None
    assert row["rejected"]["rule"] == "out_of_memory"


def test_the_guides_command_is_refused_with_the_remedy() -> None:
    said = pages.refused()
    assert "65.8 GiB of weights" in said
    assert "Use a 4-bit (AWQ, GPTQ) version of the model, which fits 2 of these" in said


def test_the_filter() -> None:
    text = "{{ {'qwen': facts} | gpufleet.vllm.sizing_table(gpus=['L40S', 'T4'], max_model_len=2048) }}"
    found: list[dict[str, Any]] = render(text, {"facts": QWEN25_7B})
    assert [(row["gpu"], row["gpus"]) for row in found] == [("L40S", 1), ("T4", 2)]


def test_a_gpu_that_is_not_known() -> None:
    with pytest.raises(InputError, match="RTX 9999"):
        sizing.sizing_table({"qwen": QWEN25_7B}, ["RTX 9999"], 2048)
