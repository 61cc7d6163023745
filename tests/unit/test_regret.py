# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The choice among measured layouts and the estimate of speed, held against public measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import Workload

from tests.accuracy import measured_layouts, reasons_of_speed, regret
from tests.accuracy.measured_layouts import Measured
from tests.unit.samples import shared

NOWHERE = Path("/nonexistent")


def scored(truth: Path, configs: Path) -> tuple[list[Measured], list[str | None]]:
    rows = measured_layouts.read(truth)
    return [measured_layouts.predict(row, configs) for row in rows], reasons_of_speed.reasons(rows)


@pytest.fixture(scope="module")
def own() -> tuple[list[Measured], list[str | None]]:
    return scored(regret.OWN, NOWHERE)


def test_the_targets_are_met_by_what_comes_with_the_project(own: tuple[list[Measured], list[str | None]]) -> None:
    found, why = own
    assert len(found) > 30
    assert all(one.predicted for one in found)
    lines, missed = regret.report(found, why)
    assert missed == []
    assert any(line.startswith("chosen / best measured: 10 groups") for line in lines)


def test_the_targets_are_met_by_all_public_rows() -> None:
    found, why = scored(Path(shared("truth/layouts_measured.json")), Path(shared("model_configs")))
    lines, missed = regret.report(found, why)
    assert missed == []
    # every row is shown, those that cannot be predicted with the reason
    assert sum(" -- " in line for line in lines) >= sum(map(bool, why))


def test_a_worse_estimate_misses_the_targets(own: tuple[list[Measured], list[str | None]]) -> None:
    found, why = own
    slower = [replace(one, predicted=(one.predicted or 0) / 2, low=0.0, high=1.0) for one in found]
    assert regret.report(slower, why)[1] == [
        "speed is off by more than 15 % (median)",
        "the interval holds for less than 80%",
    ]
    upside_down = [replace(one, predicted=1e9 / one.measured) for one in found]
    assert any("chosen / best" in missed for missed in regret.report(upside_down, why)[1])


def test_regret_compares_what_was_measured() -> None:
    row = {"version": "0.11.0", "source": "s", "cmd": "c"}
    rows = [
        Measured(row, "m", "g", 2, layout, Workload(), measured, predicted)
        for layout, measured, predicted in (("TP2", 100.0, 90.0), ("TP1 PP2", 80.0, 120.0), ("TP2 async", 100.0, 60.0))
    ]
    (layouts,) = regret.groups(rows).values()
    assert regret.chosen(layouts) == "TP1 PP2"
    assert regret.regret(layouts) == 0.8
    # what is alike is left at vLLM's own settings
    rows = [replace(rows[0], predicted=99.5), replace(rows[2], predicted=100.0)]
    (layouts,) = regret.groups(rows).values()
    assert regret.chosen(layouts) == "TP2"
    assert regret.groups(rows[:1]) == {}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("vllm serve a/b", {"model": "a/b", "tensor_parallel_size": 1, "async_scheduling": False}),
        ("vllm serve a/b -tp 8 --enable-expert-parallel", {"tensor_parallel_size": 8, "enable_expert_parallel": True}),
        ("vllm serve a/b --tensor-parallel-size=4 -dp 2", {"tensor_parallel_size": 4, "data_parallel_size": 2}),
        ("vllm serve --model a/b -pp 2 --max-num-batched-tokens 8k", {"model": "a/b", "max_num_batched_tokens": 8192}),
        ("VLLM_USE_V1=1 vllm serve a/b --unknown x --max-num-seqs=64", {"model": "a/b", "max_num_seqs": 64}),
        (
            'vllm serve a/b --speculative-config={"method":"mtp","num_speculative_tokens":1} --max-model-len=32768',
            {"model": "a/b", "max_model_len": 32768},
        ),
    ],
)
def test_commands_are_read(command: str, expected: dict[str, Any]) -> None:
    found, _ = measured_layouts.arguments(command)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8 × NVIDIA H200 SXM GPUs on a single node.", ("NVIDIA H200", 8)),
        ("A single NVIDIA A100 SXM 80GB GPU.", ("NVIDIA A100-SXM4-80GB", 1)),
        ("NVIDIA H100 80GB HBM3", ("NVIDIA H100 80GB HBM3", 1)),
        ("NVIDIA H200", ("NVIDIA H200", 1)),
        ("4 x NVIDIA L40S GPUs", ("NVIDIA L40S", 4)),
    ],
)
def test_hardware_is_read(text: str, expected: tuple[str, int]) -> None:
    assert measured_layouts.hardware(text) == expected


@pytest.mark.parametrize(
    ("prompt", "requests", "expected"),
    [
        (32000, 100, Workload(32000, 100, None, 100)),
        (3996, 500, Workload(4000, 200, None, 500)),
        (127.7, 1000, Workload(128, 4, None, 1000)),
        (1034, 1000, Workload(1024, 128, None, 1000)),
        (1010, 200, Workload(1000, 2000, None, 200)),
        (217.4, 1000, Workload(217, 198, None, 1000, varied=True)),
        (229.5, 100, Workload(230, 209, 4, 100, varied=True)),
        (700, 10, None),
    ],
)
def test_the_benchmark_is_told_by_its_prompts(prompt: float, requests: int, expected: Workload | None) -> None:
    assert measured_layouts.workload({"input_tokens": prompt * requests, "requests": requests}) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"cmd": "vllm serve 'a/b"},
        {"cmd": "vllm serve a/b -tp x"},
        {"requests": 0},
        {"requests": None},
        {"hw": "Abacus"},
    ],
)
def test_a_row_that_cannot_be_read_is_shown_with_the_reason(wrong: dict[str, Any]) -> None:
    row = {"hw": "NVIDIA H100", "version": "0.11.0", "cmd": "vllm serve a/b", "total_tps": 9.0, "source": "s"}
    found = measured_layouts.predict({**row, "input_tokens": 32000, "requests": 1, **wrong}, NOWHERE)
    assert found.predicted is None
    assert found.problem
    lines, _missed = regret.report([found], [None])
    assert any(str(found.problem) in line for line in lines)


def test_rows_that_say_their_answers_are_taken_at_their_word() -> None:
    row = {"input_tokens": 1000, "requests": 10, "answer_tokens": 500, "concurrency": 2}
    assert measured_layouts.workload(row) == Workload(100, 50, 2, 10)


def test_rows_that_are_no_measurement_of_their_command() -> None:
    base = {"hw": "H100", "version": "1", "cmd": "vllm serve x/m-8b", "input_tokens": 1, "requests": 1}
    page = "o/r@1:docs/performance-lab/m-8b/h100.md"
    rows = [
        {**base, "total_tps": 100.0, "source": page},
        {**base, "total_tps": 103.0, "source": page},
        {**base, "total_tps": 50.0, "source": page, "requests": 2},
        {**base, "total_tps": 80.0, "source": page, "requests": 2},
        {**base, "total_tps": 7.5, "source": page, "requests": 3},
        {**base, "total_tps": 7.5, "source": page, "requests": 3, "hw": "A100"},
        {**base, "total_tps": 9.0, "source": page.replace("m-8b", "m-1b"), "requests": 4},
        {**base, "total_tps": 9.5, "source": page.replace("m-8b", "m-x.b"), "requests": 4, "cmd": "serve x/m-8.5b"},
    ]
    why = reasons_of_speed.reasons(rows)
    assert why[0] is why[1] is None
    assert "2 figures from 50 to 80" in str(why[2])
    assert why[2] == why[3]
    assert "copy" in str(why[4])
    assert "copy" in str(why[5])
    assert "another model" in str(why[6])


def test_without_configurations_it_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    rows = [{**row, "config": None} for row in measured_layouts.read(regret.OWN)[:2]]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    monkeypatch.setattr("sys.argv", ["regret.py", "--truth", str(tmp_path / "rows.json"), "--configs", str(NOWHERE)])
    assert regret.main() == 0
    assert "is not at hand" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["regret.py", "--truth", str(tmp_path / "missing.json")])
    assert regret.main() == 1
