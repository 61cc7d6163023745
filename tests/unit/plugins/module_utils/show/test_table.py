"""The plan in a terminal."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import report, table

from tests.unit import plan_samples

SAMPLES = plan_samples.SAMPLES


@pytest.mark.parametrize("name", SAMPLES)
def test_it_fits_a_terminal(name: str) -> None:
    text = table.table(SAMPLES[name]())
    assert max(len(line) for line in text.splitlines()) <= 120
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("eight_h100", "llama-70b TP8 0-7 bfloat16 131072 16.4+5.9+51.0 / 73.3 1,336,933 10.2"),
        ("pairs", "qwen3-32b-b TP2 2-3 bfloat16 32768 30.6+4.6+38.4 / 73.6 314,572 9.6"),
        ("refused", "qwen3-8b TP1 0 bfloat16 32768 15.0+1.4+5.7 / 22.1 46,694 1.4"),
        ("two_hosts", "deepseek-v3 TP8 PP2 EP 0-7 +1 host bfloat16 (fp8) 163840 41.9+7.8+23.6 / 73.3 681,574 4.2"),
        ("fleet", "embed-1 TP1 0 bfloat16 32768 1.1+0.7+7.2 / 9.0 ? ?"),
    ],
)
def test_rows(name: str, row: str) -> None:
    lines = [re.sub(r"\s+", " ", line).strip() for line in table.table(SAMPLES[name]()).splitlines()]
    assert row in lines


def test_columns_are_aligned() -> None:
    lines = table.table(plan_samples.pairs()).splitlines()
    header = next(line for line in lines if "INSTANCE" in line)
    rows = [line for line in lines if re.match(r"  qwen3-32b-. +TP2", line)]
    assert len(rows) == 2
    for word, cell in (("PARALLEL", "TP2"), ("DTYPE", "bfloat16")):
        assert {row.index(cell) for row in rows} == {header.index(word)}
    for word, cell in (("LENGTH", "32768"), ("KV TOKENS", "314,572"), ("CONCURRENCY", "9.6")):
        assert {row.index(cell) + len(cell) for row in rows} == {header.index(word) + len(word)}


def test_equal_hosts_are_told_once() -> None:
    text = table.table(plan_samples.eight_h100())
    assert text.startswith("gpu[01-02] (2 hosts)\n====================\n")
    assert text.count("tensor_parallel_size 8:") == 1
    assert text.endswith("2 hosts, 2 instances, 0 refused.")


def test_refusals_come_last_with_their_remedies_above() -> None:
    text = table.table(plan_samples.fleet())
    remedies = re.findall(r"^ {6}(\d\. .*)$", text, re.MULTILINE)
    assert remedies[:2] == [
        "1. Use a checkpoint quantized to 4 bits (35 GiB), which fits both GPUs.",
        "2. Use a host with at least 4 GPUs of 48 GiB.",
    ]
    last = text.split("\n\n")[-1]
    assert last.startswith("10 hosts, 10 instances, 2 refused.\n  x ws1: llama-70b: 131.4 GiB")
    assert "x gone: llama-70b: The GPUs of this host cannot be used: no route to host." in last


def test_a_refusal_on_many_hosts_counts_for_each() -> None:
    given = plan_samples.eight_h100()
    for entry in given["hosts"].values():
        entry["instances"][0]["rejected"] = {"reason": "no room", "rule": "x", "remedies": []}
    text = table.table(given)
    assert text.endswith("2 hosts, 2 instances, 2 refused.\n  x gpu[01-02]: llama-70b: No room.")
    assert "free: GPU 0-7" in text


def test_the_same_report_gives_the_same_text() -> None:
    assert table.table(plan_samples.fleet()) == table.table(plan_samples.fleet())


def test_sentences_wrap_to_the_width() -> None:
    lines = table.table(plan_samples.eight_h100(), width=60).splitlines()
    sentences = [line for line in lines if not re.match(r"  (INSTANCE|llama-70b  )", line)]
    assert max(map(len, sentences)) <= 60


def test_an_empty_plan() -> None:
    assert table.table(report.build({})) == "0 hosts, 0 instances, 0 refused."
