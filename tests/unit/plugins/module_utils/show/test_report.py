"""The report that other programs read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import facts_from_profile
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import report

from tests.unit import plan_samples


@pytest.mark.parametrize(
    ("serve_args", "argv"),
    [
        ({}, []),
        ({"model": "a/b", "port": 8000}, ["a/b", "--port", "8000"]),
        ({"port": 8000, "model": "a/b"}, ["a/b", "--port", "8000"]),
        ({"served-model-name": ["x", "y"], "lora-modules": []}, ["--served-model-name", "x", "y"]),
        ({"enforce-eager": True, "enable-prefix-caching": False}, ["--enforce-eager", "--no-enable-prefix-caching"]),
        ({"compilation-config": {"level": 3}}, ["--compilation-config", '{"level": 3}']),
        ({"dtype": None, "gpu-memory-utilization": 0.5}, ["--gpu-memory-utilization", "0.5"]),
        (["serve", 1], ["serve", "1"]),
    ],
)
def test_arguments_of_vllm_serve(serve_args: Any, argv: list[str]) -> None:
    assert report.argv(serve_args) == argv


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("python3", "python3"),
        ("/opt/venv/bin/python serve.py --api-key=abc", "python"),
        ("", None),
        (None, None),
    ],
)
def test_command_lines_of_other_programs_are_left_out(name: str | None, shown: str | None) -> None:
    device = {"index": 0, "processes": [{"pid": 7, "name": name}]}
    facts = report.public_facts({"devices": [device, {"index": 1, "processes": []}]})
    assert facts["devices"][0]["processes"] == [{"pid": 7, "name": shown}]
    assert facts["devices"][1] == {"index": 1, "processes": []}
    assert device["processes"][0]["name"] == name  # type: ignore[index]


def test_shape() -> None:
    facts = facts_from_profile({"name": "L4"})
    planned = {"a": {"gpu_facts": facts, "instances": [plan_samples.layout("x", "m", {"a": [0]})]}}
    found = report.build(planned)
    assert set(found) == {"schema_version", "hosts"}
    assert found["schema_version"] == 1
    assert set(found["hosts"]["a"]) == {"gpu_facts", "instances"}
    (one,) = found["hosts"]["a"]["instances"]
    assert one["serve_args"][0] == "m"
    assert {**one, "serve_args": None} == {**planned["a"]["instances"][0], "serve_args": None}  # type: ignore[index]
    assert report.rejected(found) == []
    assert report.rejected(plan_samples.refused()) == [("ws1", "llama-70b")]


def test_the_same_report_gives_the_same_bytes() -> None:
    text = report.to_json(plan_samples.fleet())
    assert text == report.to_json(plan_samples.fleet())
    assert json.loads(text) == plan_samples.fleet()
    assert text.endswith("}\n")
