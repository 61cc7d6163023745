"""Fit the constants of the estimate of speed to public measurements: `python tests/accuracy/fit.py`.

Minimizes the mean of a robust loss of log(predicted / measured), every page with the root of its rows as weight, and a
penalty for leaving the start values, so that a constant which few rows say something of stays where it was. Rows that
reasons_of_speed.py tells not to be measurements of their command are left out. `--check` also fits without each page
in turn, and prints the errors of the page left out: those are what to expect of layouts that nobody measured.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import speed  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed_constants import CONSTANTS  # noqa: E402

from tests.accuracy import measured_layouts, reasons_of_speed  # noqa: E402

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"
# Fitted constants with the value they start from, and are drawn to.
START: Mapping[str, float] = {
    "matmul_16bit_ampere": 0.60,
    "matmul_16bit_hopper": 0.58,
    "matmul_16bit_hopper_old": 0.40,
    "matmul_8bit_hopper": 0.38,
    "matmul_8bit_hopper_old": 0.30,
    "widened": 0.95,
    "experts_ampere": 0.8,
    "experts_hopper": 0.7,
    "expert_half_width": 300,
    "expert_block_rows": 64,
    "expert_imbalance": 1.8,
    "attention_ampere": 0.40,
    "attention_hopper": 0.40,
    "attention_sinks": 0.4,
    "spread_experts_us": 110,
    "kv_cache": 0.85,
    "weights_4bit_ampere": 0.75,
    "weights_4bit_hopper": 0.75,
    "step_ms": 0.5,
    "layer_us": 25,
    "moe_layer_us": 20,
    "rounded_layer_us": 10,
    "mla_layer_us": 60,
    "sequence_us": 5,
    "sync_step_ms": 1.0,
    "sync_sequence_us": 12,
    "frontend_ms": 1.0,
    "frontend_template_ms": 12,
}
TABLE = ROOT / "plugins/module_utils/decide/speed_constants.py"
OWN = Path(__file__).parent / "layouts_measured.json"
STRENGTH = 0.005
# Steps that others and this project measured, in milliseconds: what a row of tokens per second says of small batches is
# little. (model, GPU, sizes, sequences, context, milliseconds); those of prompts are of 1000 tokens.
SWEEP = "tgarg01/silybench-data, derived/csv/perf_points.csv: vLLM 0.30, one H100"
LAB = "make gpu-lab, 2026-11-29: vLLM 0.25.1, one H200"
STEPS: Mapping[str, Sequence[tuple[str, str, Sizes, int, int, float]]] = {
    SWEEP: (
        ("Qwen/Qwen3-8B", H100, Sizes(), 1, 1100, 6.89),
        ("Qwen/Qwen3-8B", H100, Sizes(), 1, 8450, 7.30),
        ("Qwen/Qwen3-8B", H100, Sizes(), 396, 640, 25.8),
        ("Qwen/Qwen3-8B-FP8", H100, Sizes(), 1, 640, 4.66),
        ("Qwen/Qwen3-8B-FP8", H100, Sizes(), 32, 640, 6.03),
        ("Qwen/Qwen3-8B-FP8", H100, Sizes(), 128, 640, 10.16),
        ("Qwen/Qwen3-8B-FP8", H100, Sizes(), 256, 640, 16.13),
    ),
    LAB: (
        ("meta-llama/Llama-3.1-8B-Instruct", H200, Sizes(), 1, 160, 4.93),
        ("meta-llama/Llama-3.1-8B-Instruct", H200, Sizes(), 32, 160, 5.365),
        ("Qwen/Qwen3-30B-A3B", H200, Sizes(), 1, 160, 4.121),
        ("Qwen/Qwen3-30B-A3B", H200, Sizes(), 32, 160, 15.231),
    ),
    "ml-energy/leaderboard, public/data/tasks/lm-arena-chat.json: H100": (
        ("Qwen/Qwen3-14B", H100, Sizes(), 8, 500, 12.54),
        ("Qwen/Qwen3-14B", H100, Sizes(), 64, 500, 18.94),
        ("Qwen/Qwen3-14B", H100, Sizes(), 256, 500, 38.4),
        ("Qwen/Qwen3-235B-A22B-FP8", H100, Sizes(4, 1, 1, True), 8, 700, 35.2),
        ("Qwen/Qwen3-235B-A22B-FP8", H100, Sizes(4, 1, 1, True), 128, 700, 53.1),
        ("Qwen/Qwen3-235B-A22B-FP8", H100, Sizes(8, 1, 1, True), 16, 700, 26.8),
        ("Qwen/Qwen3-235B-A22B-FP8", H100, Sizes(8, 1, 1, True), 128, 700, 42.1),
    ),
}
PROMPTS: Sequence[tuple[str, str, int, float]] = (
    ("Qwen/Qwen3-8B", H100, 1024, 33),
    ("Qwen/Qwen3-8B", H100, 8192, 31),
    ("Qwen/Qwen3-8B-FP8", H100, 8192, 25),
)
# Without a page the search begins where the one with all pages ended.
CHECK_ROUNDS, CHECK_STEP = 4, 0.15
WIDTH = math.log(1.6)
ROBUST = 0.25


def errors(rows: Sequence[Mapping[str, Any]], configs: Path) -> list[float]:
    """Log of predicted over measured; rows without a prediction are left out."""
    found = []
    for row in rows:
        one = measured_layouts.predict(row, configs)
        if one.predicted:
            found.append(math.log(one.predicted / one.measured))
    return found


def step_errors(configs: Path) -> dict[str, list[float]]:
    """The same of single steps."""
    found: dict[str, list[float]] = {}
    for source, steps in STEPS.items():
        for name, gpu, sizes, sequences, context, measured in steps:
            model = measured_layouts.model_facts(name, configs)
            one = model and speed.estimate(model, sizes, gpu, "nvlink", batch=sequences, context_tokens=context)
            if one:
                found.setdefault(source, []).append(math.log(one.decode_ms / measured))
    for name, gpu, context, measured in PROMPTS:
        model = measured_layouts.model_facts(name, configs)
        one = model and speed.estimate(model, Sizes(), gpu, "nvlink", context_tokens=context)
        if one:
            found.setdefault(SWEEP, []).append(math.log(one.prefill_ms_per_1k / measured))
    return found


def _loss(error: float) -> float:
    """Square near zero, linear far away."""
    size = abs(error)
    return size * size / (2 * ROBUST) if size < ROBUST else size - ROBUST / 2


def objective(pages: Mapping[str, Sequence[Mapping[str, Any]]], configs: Path) -> float:
    """What is minimized."""
    sets = [found for found in (errors(rows, configs) for rows in pages.values()) if found]
    sets += step_errors(configs).values()
    weights = [math.sqrt(len(found)) for found in sets]
    total = sum(weight * statistics.mean(map(_loss, found)) for weight, found in zip(weights, sets)) / sum(weights)
    drift = sum((math.log(CONSTANTS[name].value / start) / WIDTH) ** 2 for name, start in START.items())
    return total + STRENGTH * drift / 2


def put(values: Mapping[str, float]) -> None:
    """Set constants."""
    for name, number in values.items():
        CONSTANTS[name] = CONSTANTS[name]._replace(value=number)


def fit(
    pages: Mapping[str, Sequence[Mapping[str, Any]]],
    configs: Path,
    rounds: int = 12,
    begin: Mapping[str, float] = START,
    step: float = 0.25,
) -> dict[str, float]:
    """Search along one constant after the other, with steps that get shorter."""
    values = dict(begin)
    put(values)
    best, steps = objective(pages, configs), dict.fromkeys(values, step)
    for _ in range(rounds):
        for name in values:
            for sign in (1, -1):
                tried = values[name] * math.exp(sign * steps[name])
                put({name: tried})
                found = objective(pages, configs)
                if found < best - 1e-7:
                    best, values[name] = found, tried
                    steps[name] *= 1.4
                    break
                put({name: values[name]})
            else:
                steps[name] /= 2
    return values


def by_page(given: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Sort rows by the page they are from, without those that are no measurements of their command.

    Of a row that two files have the first counts.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    fields = ("source", "cmd", "total_tps", "requests", "input_tokens")
    once = {tuple(row[field] for field in fields): row for row in reversed(given)}
    rows = list(reversed(once.values()))
    for row, reason in zip(rows, reasons_of_speed.reasons(rows)):
        if not reason:
            found.setdefault(row["source"], []).append(row)
    return found


def write(values: Mapping[str, float]) -> None:
    """Put constants into the table, with three digits."""
    text = TABLE.read_text(encoding="utf-8")
    for name, number in values.items():
        text, count = re.subn(rf'("{name}": Constant\(\s*)[\d.]+', rf"\g<1>{float(f'{number:.3g}'):g}", text)
        assert count == 1, name
    TABLE.write_text(text, encoding="utf-8")


def main() -> int:
    """Print the constants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--truth", type=Path, nargs="*", default=[ROOT.parent / "shared/truth/layouts_measured.json", OWN]
    )
    parser.add_argument("--configs", type=Path, default=ROOT.parent / "shared/model_configs")
    parser.add_argument("--check", action="store_true", help="also fit without each page in turn")
    parser.add_argument("--write", action="store_true", help="put the constants into speed_constants.py")
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    pages = by_page([row for truth in options.truth if truth.is_file() for row in measured_layouts.read(truth)])
    values = fit(pages, options.configs, options.rounds)
    for name, number in values.items():
        print(f"{name:24} {number:9.4g}   from {START[name]:g}")
    if options.write:
        write(values)
    put(values)
    print(f"objective {objective(pages, options.configs):.4f}")
    for page, rows in pages.items():
        print(f"{page.split('performance-lab/')[-1]:32} {_said(errors(rows, options.configs))}")
    for source, found in step_errors(options.configs).items():
        print(f"{source[:32]:32} {_said(found)}")
    print(f"{'all':32} {_said([e for rows in pages.values() for e in errors(rows, options.configs)])}")
    if options.check:
        held_out = []
        for page, rows in pages.items():
            left = {name: others for name, others in pages.items() if name != page}
            put(fit(left, options.configs, CHECK_ROUNDS, values, CHECK_STEP))
            found = errors(rows, options.configs)
            held_out += found
            print(f"without {page.split('performance-lab/')[-1]:32} {_said(found)}", flush=True)
        print(f"{'held out, all':40} {_said(held_out)}")
    return 0


def _said(found: Sequence[float]) -> str:
    if not found:
        return "no row"
    sizes = sorted(abs(math.expm1(error)) for error in found)
    p80 = sorted(map(abs, found))[min(len(found) - 1, int(0.8 * len(found)))]
    return (
        f"{len(found):3} rows  median {statistics.median(sizes):4.0%}  worst {sizes[-1]:5.0%}  "
        f"signed {math.expm1(statistics.mean(found)):+4.0%}  four of five within a factor of {math.exp(p80):.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
