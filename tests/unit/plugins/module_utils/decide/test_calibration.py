"""Corrections that receipts suggest: what they are, what is refused, and that predictions get better with them."""

from __future__ import annotations

import copy
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import calibration, engine_versions, measured, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts as host_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import engine_report, receipt
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import corrections

from tests.accuracy import score
from tests.unit.samples import CHECKOUT, shared
from tests.unit.templating import render

ASSUMED = {
    "release": "0.33",
    "ranks": 2,
    "capability": 9.0,
    "model_runner": 2,
    "loaded": 0.09,
    "non_torch": 2.08,
}
MEMORY = {"budget_gib": 70.0, "weights_gib": 30.0, "kv_cache_gib": 35.0}


def made(load: float | None, cache: float | None, **how: Any) -> dict[str, Any]:
    """Make a receipt of what an engine reported."""
    return {
        "layout": {"pipeline_parallel_size": 1, "serve_args": {}, **how},
        "predicted": {"memory": MEMORY, "assumed": ASSUMED},
        "actual": {"model_load_gib": load, "available_kv_cache_gib": cache},
    }


@pytest.mark.parametrize(
    ("receipts", "found"),
    [
        ([], {}),
        # as predicted
        ([made(30.0, 35.0)], {}),
        # half a GiB less outside: 4.5 and not 5 of the 70
        ([made(30.0, 35.5)], {"non_torch": 1.58}),
        ([made(30.5, 34.5)], {"loaded": 0.59}),
        ([made(30.0, 35.5), made(30.0, 35.6), made(30.0, 36.5)], {"non_torch": 1.48}),
        # the rest of the account was predicted much too high
        ([made(30.0, 38.0)], {"non_torch": -0.92}),
        # what tells nothing
        ([made(None, None)], {}),
        ([made(30.5, None)], {"loaded": 0.59}),
        ([made(30.0, 36.0, pipeline_parallel_size=2)], {}),
        ([made(30.0, 36.0, serve_args={"kv-cache-memory-bytes": 1})], {}),
        # a model that the planner does not know
        ([made(40.0, 20.0)], {}),
        ([{}, {"predicted": None, "actual": None, "layout": None}, {"predicted": {"memory": None}}], {}),
    ],
)
def test_suggestions(receipts: list[dict[str, Any]], found: dict[str, float]) -> None:
    suggested = calibration.suggest(receipts)
    assert {one["name"]: one["value"] for one in suggested} == pytest.approx(found)
    assert all((one["release"], one["ranks"], one["capability"]) == ("0.33", 2, 9.0) for one in suggested)
    assert len(calibration.rows(suggested)) == len(suggested)


def test_a_correction_holds_for_its_own_hosts() -> None:
    rows = calibration.rows(calibration.suggest([made(30.0, 36.0)]))
    corrected = measured.number("non_torch", "0.33.1", 2, 9.0, corrections=rows)
    assert corrected == pytest.approx(1.08)
    for version, ranks, capability in (("0.32.0", 2, 9.0), ("0.33.0", 4, 9.0), ("0.33.0", 2, 8.0), ("0.33.0", 2, 9.1)):
        asked = ("non_torch", version, ranks, capability)
        assert measured.number(*asked, corrections=rows) == measured.number(*asked)


GOOD = {"name": "loaded", "value": 0.5, "release": "0.33", "ranks": 2, "capability": 9.0}


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("x", "vllm_calibration is 'x'; write the list that the playbook calibrate made."),
        (["x"], "vllm_calibration[0] is 'x'; write an entry as the playbook calibrate made it."),
        (
            [GOOD, {**GOOD, "name": "graphs"}],
            "vllm_calibration[1] has the name 'graphs'; write one of loaded, non_torch, speed.",
        ),
        ([{**GOOD, "release": 0.33}], "vllm_calibration[0] has the release 0.33; write it in quotes, such as '0.33'."),
        ([{**GOOD, "value": "1"}], "vllm_calibration[0] has the value '1'; write a number."),
        ([{**GOOD, "ranks": True}], "vllm_calibration[0] has the ranks True; write a number."),
        ([{**GOOD, "value": 50}], "vllm_calibration[0] has the value 50; a correction is at most 4 GiB."),
    ],
)
def test_refused(written: Any, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        calibration.rows(written)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("written", [None, [], ()])
def test_none(written: Any) -> None:
    assert calibration.rows(written) == ()


def planned(record: dict[str, Any], configs: Path, corrections: Any = None) -> dict[str, Any]:
    """Plan a recorded run, as plan.yml would."""
    config = score.config_of(record["model"], configs)
    assert config is not None
    index = json.loads((configs / "index.json").read_text())
    sizes = {entry["file"]: entry.get("total_size_bytes") for entry in index} if isinstance(index, list) else index
    size = sizes.get(config.name)
    size = size.get("total_size_bytes") if isinstance(size, dict) else size
    profile = score.described(record)
    assert profile is not None
    (layout,) = plan.plan_hosts(
        {
            "host": {
                "gpu_facts": host_facts.facts_from_profile(profile),
                "models": [score.entry_of(record)],
                "model_facts": {"record": model_files.facts(json.loads(config.read_text()), size)},
                "engine_version": record["vllm_version"],
                "calibration": corrections,
            }
        }
    )["host"]["instances"]
    found: dict[str, Any] = layout
    return found


def recorded(record: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """Write the receipt of a recorded run, from the lines that its engine printed."""
    lines = [
        f"Model loading took {record['model_load_gib']} GiB memory and 1.0 seconds",
        f"Available KV cache memory: {record['available_kv_gib']} GiB",
        f"GPU KV cache size: {record['kv_cache_tokens']:,} tokens",
    ]
    reported = engine_report.actual(lines, [], None)
    return receipt.build(layout, {"actual": reported}, {}, 0.1, "2026-11-24T00:00:00+00:00")


def test_the_prediction_error_of_runs_on_an_h200_goes_down() -> None:
    """Corrections from every second run, tried on the others, which they have not seen."""
    configs = Path(shared("model_configs"))
    records = json.loads((CHECKOUT / "tests/unit/fixtures/memory/h200-vllm-0.25.1.json").read_text())
    receipts = [recorded(record, planned(record, configs)) for record in records]
    # as on hosts where something else takes more than it did on ours
    for one in receipts:
        one["actual"]["available_kv_cache_gib"] -= 1.5
    found = calibration.suggest(receipts[::2])
    assert {one["name"] for one in found} >= {"non_torch"}
    unseen = [(record, one) for record, one in zip(records, receipts, strict=True)][1::2]
    before = calibration.errors([one for _, one in unseen])
    corrected = []
    for record, one in unseen:
        again = copy.deepcopy(one)
        layout = planned(record, configs, found)
        again["predicted"].update(memory=layout["memory"], assumed=layout["assumed"])
        corrected.append(again)
    after = calibration.errors(corrected)
    assert len(after) == len(before) > 10
    assert statistics.median(map(abs, after)) < 0.5 * statistics.median(map(abs, before))
    # what the playbook announces is what the plan then gives
    announced = calibration.errors([one for _, one in unseen], calibration.rows(found))
    assert announced == pytest.approx(after, abs=0.002)


def test_corrections_reach_the_filter() -> None:
    text = "{{ [] | gpufleet.vllm.parallel_layout(gpu_facts={}, model_facts={}, calibration=given) }}"
    assert render(text, {"given": [GOOD]}) == []
    with pytest.raises(Exception, match=r"vllm_calibration\[0\] has the name 'x'"):
        render(text, {"given": [{**GOOD, "name": "x"}]})


def test_the_table() -> None:
    receipts = [made(30.0, 36.0), made(30.0, 36.2)]
    found = calibration.suggest(receipts)
    after = calibration.errors(receipts, calibration.rows(found))
    assert corrections.table(found, 2, calibration.errors(receipts), after, ["gone"]).splitlines() == [
        "  NUMBER     RELEASE  RANKS  CAPABILITY   WAS    IS  UNIT  RECEIPTS  SPREAD",
        "  non_torch  0.33         2           9  2.08  0.98  GiB          2    0.20",
        "",
        "! gone: its receipts could not be read.",
        "2 receipts, 2 of them with a predicted KV cache: off by 3.0% in the median, with these corrections 0.3%.",
    ]
    assert corrections.table([], 1, [], []) == "None of 1 receipts says by how much a prediction was off."


def test_every_corrected_number_is_in_the_table() -> None:
    version = engine_versions.of(None).version
    assert all(measured.number(name, version) >= 0 for name in ("loaded", "non_torch"))


def spoke(seconds: float, *, rate: float = 100.0, tokens: int = 129, **estimate: Any) -> dict[str, Any]:
    """Make a receipt of an engine whose single request took ``seconds`` after its first token."""
    step = {"measured": True, "requests": 1, "answer_tokens": tokens, "seconds": 0.5 + seconds}
    return {
        "layout": {"pipeline_parallel_size": 1, "serve_args": {}},
        "predicted": {"assumed": ASSUMED, "estimate": {"decode_tokens_per_second": rate, **estimate}},
        "actual": {},
        "warmup": {"steps": [{**step, "first_token_seconds": 0.5}]},
    }


def test_receipts_correct_the_speed() -> None:
    # 128 tokens after the first one in 1.6 s are 80 in a second
    (found,) = calibration.suggest([spoke(1.6), spoke(1.5), spoke(1.7)])
    assert (found["name"], found["value"], found["was"], found["receipts"]) == ("speed", 0.8, 1.0, 3)
    rows = calibration.rows([found])
    assert calibration.speed_of(rows, "0.33.0", 2, 9.0, 2) == 0.8
    for other in (("0.34.0", 2, 9.0, 2), ("0.33.0", 4, 9.0, 2), ("0.33.0", 2, 8.0, 2), ("0.33.0", 2, 9.0, 1)):
        assert calibration.speed_of(rows, *other) is None
    assert corrections.table([found], 3, [], []).splitlines() == [
        "  NUMBER  RELEASE  RANKS  CAPABILITY   WAS    IS  UNIT        RECEIPTS  SPREAD",
        "  speed   0.33         2           9  1.00  0.80  x estimate         3    0.10",
    ]


def test_a_speed_that_was_corrected_is_not_corrected_again() -> None:
    assert calibration.suggest([spoke(1.6, rate=80.0, measured=0.8)]) == []
    (found,) = calibration.suggest([spoke(3.2, rate=80.0, measured=0.8)])
    assert (found["value"], found["was"]) == (0.4, 0.8)


@pytest.mark.parametrize("receipt", [spoke(1.6, tokens=4), spoke(50.0), spoke(0.0), {**spoke(1.6), "warmup": None}])
def test_what_says_nothing_of_speed(receipt: dict[str, Any]) -> None:
    assert calibration.suggest([receipt]) == []


@pytest.mark.parametrize("value", [0.1, -1, 5])
def test_a_speed_beyond_reason_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"a correction of speed is 0\.25 to 4 times"):
        calibration.rows([{**GOOD, "name": "speed", "value": value}])
