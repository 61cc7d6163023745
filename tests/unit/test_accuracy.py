# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The score of the planner on real runs, where they lie beside the checkout; and that the score can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, model, recorded
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import engine_report

from tests.accuracy import score
from tests.unit.samples import CHECKOUT, shared
from tools.lab import engines

OUR_RUNS = CHECKOUT / "tests/unit/fixtures/memory/h200-vllm-0.25.1.json"
NODE_RUNS = CHECKOUT / "tests/unit/fixtures/memory/h200-vllm-0.33.0.json"
NODE = json.loads(NODE_RUNS.read_text(encoding="utf-8"))
FIRST_START = CHECKOUT / "tests/unit/fixtures/journals/h200-vllm-0.33.0-first-start.txt"
LAB = [run for run in json.loads(OUR_RUNS.read_text(encoding="utf-8")) if run["source"].startswith("make gpu-lab")]


@pytest.fixture(scope="module")
def scored() -> list[score.Scored]:
    return score.load(Path(shared("truth/kv_truth.json")), Path(shared("model_configs")))


def test_the_targets_are_met(scored: list[score.Scored]) -> None:
    assert len(scored) > 50
    assert score.targets(scored, score.REASONS) == []


def test_every_reason_is_one_of_a_record_that_differs(scored: list[score.Scored]) -> None:
    ids = {one.record["id"] for one in scored}
    assert set(score.REASONS) <= ids


def test_a_worse_planner_misses_the_targets(scored: list[score.Scored]) -> None:
    worse = [replace(one, tokens=0.1, weights=0.02, fits=True) for one in scored]
    missed = score.targets(worse, {})
    assert any("weights" in one for one in missed)
    assert any("median" in one and "tokens" in one for one in missed)
    assert any("ran out of memory" in one for one in missed)


def test_the_report_names_what_stands_out(scored: list[score.Scored]) -> None:
    text = score.report(scored, score.REASONS)
    assert "NVIDIA H100 80GB HBM3" in text
    assert "reason not known" not in text


def test_figures() -> None:
    assert score.figures([]) == "no record"
    assert "median  2.00%" in score.figures([0.01, -0.02, 0.03])
    assert "signed mean  +0.67%" in score.figures([0.01, -0.02, 0.03])


def test_runs_of_our_own_on_an_h200() -> None:
    """Weights, KV cache and tokens of vLLM 0.25.1 with both model runners, with weights that were made up."""
    runs = score.load(OUR_RUNS, Path(shared("model_configs")))
    assert len(runs) >= 20
    for run in runs:
        assert run.weights is not None
        assert abs(run.weights) < 0.06, run.record["id"]
        assert run.tokens is not None
        assert abs(run.tokens) < 0.03, run.record["id"]


@pytest.mark.parametrize("run", LAB, ids=[run["id"] for run in LAB])
def test_what_the_lab_saw_of_engines_with_graphs(run: dict[str, Any]) -> None:
    """Planned from the facts of an H200 with nothing written but the GPUs, as `make gpu-lab` does."""
    host = facts.build_facts(recorded.read_recording(str(CHECKOUT / "tests/unit/fixtures/hosts/h200-vm")), "recorded")
    path = Path(shared(f"model_configs/{run['model'].replace('/', '--')}_config.json"))
    config = model.parse_config(path.read_text(encoding="utf-8"), str(path))
    one = engines.Wanted(run["model"], config, run["tp"], {})
    layout = engines.planned(one, host, [0], run["vllm_version"])
    memory, logged = layout["memory"], run["profile_logged"]
    assert layout["assumed"]["model_runner"] == int(run["model_runner"][1:])
    assert layout["kv_cache_tokens"] == pytest.approx(run["kv_cache_tokens"], rel=0.0025)
    assert layout["max_concurrency"] == pytest.approx(run["max_concurrency"], rel=0.0025)
    assert memory["weights_gib"] == pytest.approx(run["model_load_gib"], rel=0.0025)
    assert memory["kv_cache_gib"] == pytest.approx(run["available_kv_gib"], rel=0.0025)
    assert memory["non_torch_gib"] == pytest.approx(logged["non_torch_increase_gib"], abs=0.05)
    # torch.compile holds up to 0.25 GiB more of a dense model than the account, which is of runs without it
    assert memory["activation_gib"] == pytest.approx(logged["torch_peak_increase_gib"], abs=0.25)
    graphs = logged.get("cuda_graph_estimated_gib", logged["cuda_graph_actual_gib"])
    assert memory["cuda_graphs_gib"] == pytest.approx(graphs, abs=0.1)


@pytest.mark.parametrize("run", NODE, ids=[run["id"] for run in NODE])
def test_what_was_deployed_to_a_node_with_an_h200(run: dict[str, Any]) -> None:
    """By deploy.yml or `make gpu-lab`, with vLLM 0.33.0, and nothing written but what the record has as fields."""
    host = facts.build_facts(recorded.read_recording(str(CHECKOUT / "tests/unit/fixtures/hosts/h200-vm")), "recorded")
    path = Path(shared(f"model_configs/{run['model'].replace('/', '--')}_config.json"))
    config = model.parse_config(path.read_text(encoding="utf-8"), str(path))
    layout = engines.planned(engines.Wanted(run["model"], config, run["tp"], run["fields"]), host, [0], "0.33.0")
    assert layout["rejected"] is None
    # a dense model to half a percent; experts, MLA, recurrent layers, LoRA and two instances on a GPU to one
    within, of_weights = (0.005, 0.0025) if run["source"] == "make gpu-node-lab" else (0.01, 0.006)
    assert layout["kv_cache_tokens"] == pytest.approx(run["kv_cache_tokens"], rel=within)
    assert layout["max_concurrency"] == pytest.approx(run["max_concurrency"], rel=within)
    assert layout["memory"]["weights_gib"] == pytest.approx(run["model_load_gib"], rel=of_weights)


def test_the_journal_of_a_first_start_says_what_its_record_says() -> None:
    """With FlashInfer's kernels compiled on the way, which is no fault."""
    found = engine_report.figures(FIRST_START.read_text(encoding="utf-8").splitlines())
    (run,) = (one for one in NODE if one["id"] == "llama-8b-node")
    assert found["kv_cache_tokens"] == run["kv_cache_tokens"]
    assert found["available_kv_cache_gib"] == run["available_kv_gib"]
    assert found["model_load_gib"] == run["model_load_gib"]
    assert found["init_seconds"] == run["init_seconds"]
    assert found["compile_seconds"] == run["compile_seconds"]
