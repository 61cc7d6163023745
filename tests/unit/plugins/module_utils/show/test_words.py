"""How numbers and choices are said."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import words


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({}, "TP1"),
        ({"tensor_parallel_size": 4, "pipeline_parallel_size": 1, "data_parallel_size": 1}, "TP4"),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "data_parallel_size": 4}, "TP2 PP2 DP4"),
        ({"tensor_parallel_size": 8, "enable_expert_parallel": True}, "TP8 EP"),
    ],
)
def test_sizes(layout: dict[str, Any], said: str) -> None:
    assert words.sizes(layout) == said


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"accelerator": "cpu", "nodes": [{"host": "a", "devices": []}]}, "CPU"),
        ({"accelerator": "cuda", "nodes": []}, "-"),
        ({"nodes": [{"host": "a", "devices": [0, 1, 4]}]}, "0-1,4"),
        ({"nodes": [{"host": "a", "devices": [0, 1]}] * 2}, "0-1 +1 host"),
        ({"nodes": [{"host": "a", "devices": [0, 1]}] * 4}, "0-1 +3 hosts"),
    ],
)
def test_devices(layout: dict[str, Any], said: str) -> None:
    assert words.devices(layout) == said


@pytest.mark.parametrize(
    ("number", "said"), [(None, "?"), (0.04, "0.04"), (1.25, "1.2"), (99.96, "100.0"), (1234.4, "1,234")]
)
def test_times(number: float | None, said: str) -> None:
    assert words.times(number) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no room", "No room."),
        ("131 GiB do not fit", "131 GiB do not fit."),
        ("tensor_parallel_size 3 does not divide", "tensor_parallel_size 3 does not divide."),
        ("vLLM refuses it.", "vLLM refuses it."),
        ("", ""),
    ],
)
def test_sentence(text: str, said: str) -> None:
    assert words.sentence(text) == said


def test_labels_of_instances_do_not_repeat() -> None:
    assert len({words.letter(number) for number in range(100)}) == 100
    assert (words.letter(0), words.letter(25), words.letter(26)) == ("A", "Z", "A1")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"devices": [{"name": "A"}, {"name": "B"}, {"name": "A"}]}, "2 x A, 1 x B"),
        ({"accelerator": "cpu", "state": "ready", "devices": []}, "CPU only"),
        ({"accelerator": "cuda", "state": "no_driver", "devices": []}, "no usable GPU"),
    ],
)
def test_gpus(facts: dict[str, Any], said: str) -> None:
    assert words.gpus(facts) == said
