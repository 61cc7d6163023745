"""The table of signatures: each knows the lines that it was made from, and no line of a healthy engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import fault, signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import AREAS, BY_ID, TABLE
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import CHECKOUT, shared_json

# What the doctor knows without a line, and what the catalogue of Xids adds.
GIVEN = {"instance", "unit", "port", "host", "model_path", "meaning", "action"}


# What stands before the words of many lines.
STAMPS = {"info", "warning", "error", "pid", "apiserver", "enginecore", "worker", "kernel", "nov", "gpu"}


def words(text: str) -> set[str]:
    """The words of a line that tell something."""
    return {word.lower() for word in re.findall(r"[A-Za-z]{3,}", text)} - STAMPS


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.id)
class TestSignature:
    def test_its_sample_is_told_apart(self, one: signature.Signature) -> None:
        told = signature.matches(TABLE, one.sample.splitlines(), one.where)
        assert told[0].signature.id == one.id, [match.signature.id for match in told]

    def test_every_line_of_its_sample_tells_something(self, one: signature.Signature) -> None:
        assert signature.found(one, one.sample.splitlines())
        assert not any(line.startswith(" ") and not line.strip() for line in one.sample.splitlines())

    def test_its_near_miss_is_like_it_and_something_else(self, one: signature.Signature) -> None:
        assert one.near
        for line in one.near.splitlines():
            assert not signature.matches([one], [line], one.where), line
        like = words(one.near) & words(f"{one.sample} {' '.join(one.patterns)}")
        assert like, "no word of the near miss is one of the fault: it tests nothing"

    def test_it_is_complete(self, one: signature.Signature) -> None:
        assert one.severity in signature.SEVERITIES
        assert one.where in (signature.ENGINE, signature.KERNEL, signature.FABRIC)
        assert one.title
        assert one.cause.endswith((".", "}")), one.cause
        assert one.remedies
        assert one.sources
        assert all(remedy.endswith((".", ")")) for remedy in one.remedies)
        assert set(one.explains) <= set(BY_ID), set(one.explains) - set(BY_ID)

    def test_what_it_says_names_groups_that_a_pattern_has(self, one: signature.Signature) -> None:
        known = {name for _literal, pattern in one.compiled for name in pattern.groupindex} | GIVEN
        asked = set(re.findall(r"\{(\w+)\}", " ".join((one.cause, *one.remedies))))
        assert asked <= known


def test_ids_are_single() -> None:
    assert len(BY_ID) == len(TABLE) > 60
    assert len(AREAS) == 7


def test_no_signature_explains_itself_or_what_explains_it() -> None:
    for one in TABLE:
        for name in one.explains:
            assert one.id not in BY_ID[name].explains


# What the kinds of real failures are told by. The last two have failures that no line tells of: see QUIET.
KINDS = {
    "heads_not_divisible": {"heads_not_divisible"},
    "block_quant_not_divisible": {"quantization_not_divisible"},
    "world_size_or_visible_devices": {"more_ranks_than_gpus", "tensor_parallel_over_hosts"},
    "fabric_manager_802": {"cuda_802"},
    "driver_or_cuda_too_old": {"cuda_803", "driver_too_old"},
    "dev_shm_too_small": {"shm_too_small"},
    "dtype_or_compute_capability": {"dtype_not_supported", "no_kernel_for_gpu", "gpu_too_old"},
    "gated_repo": {"gated_model", "token_without_gated"},
    "other_config": {"no_custom_all_reduce", "state_cache_too_small", "sampler_out_of_memory", "gpu_out_of_memory"},
    "nccl_or_p2p_hang": {"nccl_timeout", "rank_hangs"},
    "mixed_or_busy_gpus": {"gpu_memory_taken", "different_gpus", "kv_cache_too_small", "gpu_out_of_memory"},
}
# The record says what happened, not what was printed. What the doctor sees of each is named beside it.
QUIET = {
    "start-up stalls after NCCL init": "engine_stalled",
    "hang": "engine_stalled",
    "OOM with pp where tp works": "gpu_out_of_memory",
    "less KV than expected": "prediction_off",
    "crash for memory": "gpu_out_of_memory",
}


def test_every_kind_of_real_failure_is_known() -> None:
    entries: list[dict[str, Any]] = shared_json("truth/tp_errors.json")
    told = 0
    for entry in entries:
        text = entry["error_text"]
        if text in QUIET:
            continue
        first = signature.matches(TABLE, [text])
        assert first, entry["id"]
        assert first[0].signature.id in KINDS[entry["category"]], (entry["id"], first[0].signature.id)
        told += 1
    print(f"{told} of {len(entries)} failures are told by their text, {len(entries) - told} by other evidence")
    assert told > len(entries) * 0.8


def test_failed_runs_are_known() -> None:
    """Runs that never served, of those whose record quotes what was printed."""
    entries = [one for one in shared_json("truth/kv_truth.json") if one["outcome"] != "ok" and one.get("quote")]
    unknown = [
        one["id"]
        for one in entries
        if re.search(r"Error|error:|out of memory|exceeds", one["quote"])
        and not signature.matches(TABLE, [one["quote"]])
    ]
    assert not unknown
    print(f"{len(entries)} failed runs")


@pytest.mark.parametrize("name", ["cpu-0.32.0-tp2.txt", "h200-0.25.1-graphs.txt"])
def test_a_healthy_engine_tells_of_no_fault(name: str) -> None:
    lines = (CHECKOUT / "tests/unit/fixtures/engine" / name).read_text(encoding="utf-8").splitlines()
    assert [match.signature.id for match in signature.matches(TABLE, lines)] == []


def test_a_consequence_is_left_out() -> None:
    lines = [
        *BY_ID["shm_too_small"].sample.splitlines(),
        *BY_ID["nccl_failed"].sample.splitlines(),
        *BY_ID["start_limit_hit"].sample.splitlines(),
    ]
    assert [match.signature.id for match in signature.matches(TABLE, lines)] == ["shm_too_small"]
    assert [match.signature.id for match in signature.matches(TABLE, lines[-1:])] == ["start_limit_hit"]


def test_a_hub_that_is_not_reached_is_no_wrong_host() -> None:
    matches = signature.matches(TABLE, BY_ID["hub_not_there"].sample.splitlines())
    assert [match.signature.id for match in matches] == ["hub_not_there"]


def test_the_cause_says_what_the_line_says() -> None:
    (match,) = signature.matches(TABLE, BY_ID["kv_cache_too_small"].sample.splitlines())
    assert match.cause == (
        "One request of max_model_len 131072 needs 16.00 GiB of KV cache, and 9.31 GiB are left (enough for 76272 "
        "tokens)."
    )
    assert match.remedies[0].startswith("Lower max_model_len")


def test_what_a_line_does_not_say_is_left_out() -> None:
    (match,) = signature.matches(TABLE, ["Watchdog caught collective operation timeout"])
    assert match.cause.startswith("The ranks wait for one another and one of them does not come: P2P")
    (match,) = signature.matches(TABLE, ["RuntimeError: CUDA out of memory"])
    assert match.cause == "A GPU has no room for what was asked for."


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.id)
def test_no_pattern_leaves_a_gap_in_the_words(one: signature.Signature) -> None:
    given = GIVEN | ({"name"} if one.id == "dns_failed" else set())
    for pattern in one.patterns:
        for text in (one.cause, *one.remedies):
            assert signature.needed(text) <= given | set(re.findall(r"\?P<(\w+)>", pattern)), (pattern, text)


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [({}, "A GPU fell."), ({"gpu": "3"}, "GPU 3 fell."), ({"gpu": "3", "bus": "01"}, "GPU 3 fell (bus 01).")],
)
def test_the_first_words_are_taken_whose_values_are_known(groups: dict[str, str], wanted: str) -> None:
    assert signature.said("[[GPU {gpu}||A GPU]] fell[[ (bus {bus})]].", groups) == wanted


@given(st.lists(st.text()))
def test_any_journal_can_be_read(lines: list[str]) -> None:
    for where in (signature.ENGINE, signature.KERNEL, signature.FABRIC):
        for match in signature.matches(TABLE, lines, where):
            assert match.cause
            assert all(len(line) <= signature.LONGEST_LINE for line in match.lines)


def test_the_warm_up_reads_the_same_table() -> None:
    text = fault.message("It died.", BY_ID["wrong_option"].sample.splitlines(), "chat", {})
    assert text.splitlines()[0] == "It died."
    assert "unrecognized arguments: --swap-space 4: a typing error" in text
    assert "  1. Correct extra_args" in text
    assert text.endswith(
        "journalctl -b -u vllm@chat.service - more: docs/troubleshooting.md#vllm-does-not-know-an-option"
    )
    assert "| INFO fine" in fault.message("It died.", ["INFO fine"], "chat", {})
