# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The score of the planner on real runs, where they lie beside the checkout; and that the score can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.accuracy import score
from tests.unit.samples import CHECKOUT, shared


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
    runs = score.load(CHECKOUT / "tests/unit/fixtures/memory/h200-vllm-0.25.1.json", Path(shared("model_configs")))
    assert len(runs) >= 20
    for run in runs:
        assert run.weights is not None
        assert abs(run.weights) < 0.06, run.record["id"]
        assert run.tokens is not None
        assert abs(run.tokens) < 0.03, run.record["id"]
