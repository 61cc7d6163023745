"""Answers that are kept while layouts are tried."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kept

from tests.unit.plugins.module_utils.decide.test_layout import H100_X4, T4_X4, one
from tests.unit.samples import LLAMA_70B, QWEN25_7B


def counted() -> tuple[list[Any], Any]:
    """A function of facts, and what it was asked."""
    asked: list[Any] = []

    @kept.kept
    def answer(facts: dict[str, Any], size: int, wide: bool = False) -> int:
        asked.append((size, wide))
        if size < 0:
            raise ValueError(size)
        return size * int(facts["one"])

    return asked, answer


def test_an_answer_is_kept_with_the_facts() -> None:
    asked, answer = counted()
    facts = kept.of({"one": 1})
    assert [answer(facts, 2), answer(facts, 2), answer(facts, 2, wide=True), answer(facts, 3)] == [2, 2, 2, 3]
    assert asked == [(2, False), (2, True), (3, False)]
    # other facts have answers of their own
    assert answer(kept.of({"one": 5}), 2) == 10
    assert kept.of(facts) is facts


def test_plain_facts_are_asked_each_time() -> None:
    asked, answer = counted()
    assert [answer({"one": 1}, 2), answer({"one": 1}, 2)] == [2, 2]
    assert len(asked) == 2


def test_a_fault_is_no_answer() -> None:
    asked, answer = counted()
    facts = kept.of({"one": 1})
    for _ in range(2):
        with pytest.raises(ValueError, match="-1"):
            answer(facts, -1)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("host", "model", "fields"),
    [
        (H100_X4, QWEN25_7B, {}),
        (H100_X4, LLAMA_70B, {"gpus": 2, "max_num_seqs": 16}),
        (T4_X4, LLAMA_70B, {"tensor_parallel_size": 3}),
        (T4_X4, QWEN25_7B, {"max_model_len": 500_000, "kv_cache_dtype": "fp8"}),
        (T4_X4, QWEN25_7B, {"kv_cache_memory_gib": 40, "quantization": "fp8"}),
    ],
    ids=["planned", "written sizes", "refused", "several faults", "another model"],
)
def test_a_plan_is_the_same_without(
    monkeypatch: pytest.MonkeyPatch, host: dict[str, Any], model: dict[str, Any], fields: dict[str, Any]
) -> None:
    found = one(host, model, **fields)
    monkeypatch.setattr(kept, "of", lambda facts: facts)
    assert one(host, model, **fields) == found
