"""The receipt: what it holds, when it is written anew, what it warns of."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt

PROCESS = {"invocation": "d9f2b1", "pid": 4711, "digest": "1f0c", "started": 100.5}
LAYOUT: dict[str, Any] = {
    "name": "chat",
    "unit": "vllm@chat.service",
    "model": "org/model",
    "revision": "abc",
    "tensor_parallel_size": 2,
    "serve_args": {"model": "org/model"},
    "environment": {"B": "two", "A": "one"},
    "kv_cache_tokens": 1000,
    "max_concurrency": 10.0,
    "memory": {"weights_gib": 15.0, "kv_cache_gib": 50.0, "budget_gib": 70.0},
    "reasons": ["because"],
}
MEASURED: dict[str, Any] = {
    "engine": {"release": "0.32.0-cpu", "vllm": "0.32.0"},
    "process": PROCESS,
    "actual": {"kv_cache_tokens": 1250, "model_load_gib": 15.0},
    "warmup": {"remarks": []},
}


def built(layout: dict[str, Any] | None = None, measured: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """Build a receipt of the samples, changed."""
    given = {"checks": {}, "tolerance": 0.1, "time": "2026-11-24T00:00:00+00:00", **how}
    return receipt.build({**LAYOUT, **(layout or {})}, {**MEASURED, **(measured or {})}, **given)


def test_what_it_holds() -> None:
    found = built(checks={"nccl": {"state": "ok"}})
    assert found["layout"]["environment"] == ["A", "B"]
    assert "two" not in receipt.text(found)
    assert found["layout"]["serve_args"] == {"model": "org/model"}
    assert found["predicted"]["kv_cache_tokens"] == 1000
    assert found["checks"] == {"nccl": {"state": "ok"}}
    assert [(one["quantity"], one["ratio"]) for one in found["comparison"]] == [
        ("kv_cache_tokens", 0.8),
        ("weights_gib", 1.0),
    ]
    assert receipt.read(receipt.text(found)) == found


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", '{"schema_version": 0}', '{"schema_version": "1"}', "\x00"]
)
def test_what_is_no_receipt(text: str | None) -> None:
    assert receipt.read(text) is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"time": "2030-01-01T00:00:00+00:00"}, True),
        ({"layout": {"kv_cache_tokens": 1001}}, False),
        ({"checks": {"nccl": {}}}, False),
        ({"measured": {"actual": {}}}, False),
        ({"tolerance": 0.5}, False),
    ],
)
def test_when_it_is_written_anew(change: dict[str, Any], same: bool) -> None:
    assert receipt.same(receipt.read(receipt.text(built())), built(**change)) is same


def test_the_first_is_written() -> None:
    assert receipt.same(None, built()) is False


@pytest.mark.parametrize(
    ("process", "same"),
    [
        (PROCESS, True),
        ({**PROCESS, "started": 1.0}, True),
        ({**PROCESS, "pid": 1}, False),
        ({**PROCESS, "digest": "other"}, False),
        ({**PROCESS, "invocation": "other"}, False),
        ({**PROCESS, "invocation": None}, False),
        ({}, False),
        (None, False),
    ],
)
def test_whose_it_is(process: dict[str, Any] | None, same: bool) -> None:
    assert receipt.is_of(built(), process) is same


@pytest.mark.parametrize("process", [PROCESS, None])
def test_no_receipt_is_nobodys(process: Any) -> None:
    assert receipt.is_of(None, process) is False
    assert receipt.is_of({"process": None}, process) is False


@pytest.mark.parametrize(
    ("actual", "remarks", "told"),
    [
        ({"kv_cache_tokens": 1000}, [], []),
        (
            {"kv_cache_tokens": 1250},
            [],
            [
                "chat: the KV cache in tokens was predicted as 1000 and is 1250 (-20%); the plan of other instances on "
                "such hosts may be off as much."
            ],
        ),
        ({"model_load_gib": 10.0}, ["it is odd"], ["chat: the memory of the weights in GiB", "chat: it is odd."]),
        ({}, [], []),
    ],
)
def test_warnings(actual: dict[str, Any], remarks: list[str], told: list[str]) -> None:
    found = receipt.warnings(built(measured={"actual": actual, "warmup": {"remarks": remarks}}))
    assert len(found) == len(told)
    assert all(sentence.startswith(begin) for sentence, begin in zip(found, told, strict=True))


@pytest.mark.parametrize(
    ("maps", "release"),
    [
        (
            "7f0 r-xp 0 00:2f 12 /opt/vllm/releases/0.32.0-cpu/lib/python3.11/site-packages/torch/lib/libc10.so\n",
            "/opt/vllm/releases/0.32.0-cpu",
        ),
        ("7f0 r-xp 0 00:2f 12 /usr/lib/x86_64-linux-gnu/libc.so.6\n7f1 rw-p 0 00:00 0 [heap]\n", None),
        ("", None),
    ],
)
def test_the_release_that_a_process_runs_from(maps: str, release: str | None) -> None:
    assert receipt.release_of(maps) == release
