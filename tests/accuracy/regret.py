"""How good the planner's choice among measured layouts is, and how far its speeds are off: `make regret`.

For every (model, GPUs, workload) that has two or more measured layouts: the layout that the estimate puts first, and
what it reached of the best measured one. For every row: predicted against measured. Rows that are no measurement of
their command (reasons_of_speed.py) are shown with the reason and left out of the figures "without reason".
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.accuracy import measured_layouts, reasons_of_speed  # noqa: E402
from tests.accuracy.measured_layouts import Measured  # noqa: E402

OWN = Path(__file__).parent / "layouts_measured.json"
# Layouts whose estimates are closer than this are alike: vLLM's own settings are then taken.
ALIKE = 0.01
# Targets
MEDIAN_RATIO, WORST_RATIO, MEDIAN_ERROR, INTERVAL_SHARE = 0.97, 0.85, 0.15, 0.80


def groups(found: Iterable[Measured]) -> dict[tuple[Any, ...], dict[str, list[Measured]]]:
    """Sort rows by what can be compared, then by layout; only groups of several layouts."""
    sorted_: dict[tuple[Any, ...], dict[str, list[Measured]]] = {}
    for one in found:
        if one.predicted and one.measured:
            key = (one.model, one.gpu, one.gpus, one.row["version"], one.workload)
            sorted_.setdefault(key, {}).setdefault(one.layout, []).append(one)
    return {key: layouts for key, layouts in sorted_.items() if len(layouts) > 1}


def chosen(layouts: dict[str, list[Measured]]) -> str:
    """The layout with the best estimate; of those that are alike the one with the fewest words."""
    estimates = {name: rows[0].predicted or 0.0 for name, rows in layouts.items()}
    best = max(estimates.values())
    alike = [name for name, estimate in estimates.items() if estimate >= best * (1 - ALIKE)]
    return min(alike, key=lambda name: (name.count(" "), name))


def regret(layouts: dict[str, list[Measured]]) -> float:
    """What the chosen layout reached of the best one, by what was measured."""
    measured = {name: statistics.mean(one.measured for one in rows) for name, rows in layouts.items()}
    return measured[chosen(layouts)] / max(measured.values())


def _workload(one: Measured) -> str:
    asked = one.workload
    load = f"{asked.concurrency} at once" if asked.concurrency else "all at once"
    return f"{asked.requests} x {asked.prompt_tokens}+{asked.answer_tokens}, {load}"


def report(found: Sequence[Measured], why: Sequence[str | None]) -> tuple[list[str], list[str]]:
    """Write all lines, and the targets that are missed."""
    lines, ratios = ["chosen / best measured, of layouts of one model, GPUs and workload:", ""], []
    clean = [one for one, reason in zip(found, why) if not reason]
    for key, layouts in sorted(groups(clean).items(), key=lambda item: str(item[0])):
        ratio = regret(layouts)
        ratios.append(ratio)
        first = next(iter(layouts.values()))[0]
        lines.append(f"{ratio:5.2f}  {first.model} on {key[2]} x {first.gpu}, vLLM {key[3]}, {_workload(first)}")
        for name, rows in layouts.items():
            sign = "*" if name == chosen(layouts) else " "
            measured = statistics.mean(one.measured for one in rows)
            lines.append(f"     {sign} {name:36} predicted {rows[0].predicted:8.0f}  measured {measured:8.0f} tokens/s")
    lines += ["", "predicted against measured, tokens per second of prompts and answers:", ""]
    for one, reason in zip(found, why):
        lines.append(_row(one, reason))
    errors = [one.error for one in clean if one.error is not None]
    inside = [one.low <= one.measured <= one.high for one in clean if one.predicted]
    everything = [one.error for one in found if one.error is not None]
    missed = []
    lines += ["", f"{len(found)} rows, {len(errors)} without a reason that they cannot be predicted"]
    if ratios:
        lines.append(
            f"chosen / best measured: {len(ratios)} groups   median {statistics.median(ratios):.3f}   "
            f"worst {min(ratios):.3f}"
        )
        missed += [f"chosen / best is below {MEDIAN_RATIO} (median)"] * (statistics.median(ratios) < MEDIAN_RATIO)
        missed += [f"chosen / best is below {WORST_RATIO} (worst)"] * (min(ratios) < WORST_RATIO)
    if errors:
        lines.append(f"speed, without reason: {_figures(errors)}")
        lines.append(f"speed, all rows:       {_figures(everything)}")
        share = statistics.mean(inside)
        lines.append(f"the interval holds for {share:.0%} of the rows without reason")
        missed += ["speed is off by more than 15 % (median)"] * (statistics.median(map(abs, errors)) > MEDIAN_ERROR)
        missed += [f"the interval holds for less than {INTERVAL_SHARE:.0%}"] * (share < INTERVAL_SHARE)
    for title, of in (("GPU", lambda one: one.gpu), ("model", lambda one: one.model)):
        lines += ["", f"by {title}"]
        lines += [f"  {name:44} {_figures(members)}" for name, members in _by(clean, of).items()]
    return lines, missed


def _by(found: Iterable[Measured], key: Callable[[Measured], str]) -> dict[str, list[float]]:
    sorted_: dict[str, list[float]] = {}
    for one in found:
        if one.error is not None:
            sorted_.setdefault(key(one), []).append(one.error)
    return dict(sorted(sorted_.items()))


def _figures(errors: Sequence[float]) -> str:
    sizes = sorted(map(abs, errors))
    p90 = sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))]
    return (
        f"{len(sizes):3} rows   median {statistics.median(sizes):6.1%}   p90 {p90:6.1%}   worst {sizes[-1]:7.1%}   "
        f"signed median {statistics.median(errors):+7.1%}"
    )


def _row(one: Measured, reason: str | None) -> str:
    head = f"{one.model} on {one.gpus} x {one.gpu}, {one.layout}, {_workload(one)}:"
    if not one.predicted:
        return f"{head} measured {one.measured:.0f} -- {one.problem}"
    held = "" if one.low <= one.measured <= one.high else " OUTSIDE"
    text = (
        f"{head} predicted {one.predicted:.0f} ({one.low:.0f} to {one.high:.0f}), measured {one.measured:.0f}, "
        f"{one.error:+.0%}{held}"
    )
    note = reason or one.note
    return f"{text} -- {note}" if note else text


def main() -> int:
    """Print the report; fails when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, help="rows as in tests/accuracy/layouts_measured.json")
    parser.add_argument("--configs", type=Path, default=ROOT.parent / "shared/model_configs")
    options = parser.parse_args()
    truth = options.truth or ROOT.parent / "shared/truth/layouts_measured.json"
    if not truth.is_file():
        if options.truth:
            print(f"There is no {truth}: nothing to score. Name a file with TRUTH=FILE.")
            return 1
        print(f"There is no {truth}; scored is the part that comes with the project, {OWN.name}.\n")
        truth = OWN
    rows = measured_layouts.read(truth)
    found = [measured_layouts.predict(row, options.configs) for row in rows]
    if not any(one.predicted for one in found):
        print("Not one row could be predicted:")
        print("\n".join(sorted({f"  {one.problem}" for one in found})))
        print("Name a folder of OWNER--MODEL_config.json files with CONFIGS=DIR.")
        return 0
    lines, missed = report(found, reasons_of_speed.reasons(rows))
    print("\n".join(lines))
    print("\n" + ("\n".join(f"Missed: {one}." for one in missed) or "Every target is met."))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
