# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn the receipts of a fleet into corrections of the planner's measured numbers, and read them back. Pure.

Two numbers of the account are constants that differ between hosts, and so is the speed; a receipt shows by how much:

loaded     what loading leaves beside the weights: "Model loading took N GiB" against the predicted weights
non_torch  what is neither weights nor KV cache: the budget without both, against what was predicted of it
speed      tokens per second of one request of the warm-up, after its first token, as a share of the estimate

A correction holds for one release of vLLM, one tensor parallel size and one kind of GPU, those of the receipts.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import measured
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.measured import Measured, release
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import CALIBRATED
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

VARIABLE = "vllm_calibration"
RELEASE = re.compile(r"\d+\.\d+")
# What identifies the hosts and engines that a correction holds for.
KEYS = ("release", "ranks", "capability", "model_runner")
# Off by more than this it is no constant, but a model that the planner does not know.
MOST_GIB = 4.0
# The name of the correction of speed, and what it may be: beyond these, one of the two was not of this engine.
SPEED = "speed"
SPEEDS = (0.25, 4.0)
NAMES = (*CALIBRATED, SPEED)
# A speed that differs by less is not worth a row: the rate of one request differs as much from one minute to the next.
LEAST_SPEED = 0.03
# An answer shorter than this says nothing of speed.
LEAST_TOKENS = 16
# Smaller differences are rounding: vLLM prints two digits behind the point.
LEAST_GIB = 0.02


def suggest(receipts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Suggest corrections, each the median of what its receipts show.

    Returns entries as :func:`rows` reads them: ``name``, ``value`` in GiB (which may be below 0, where the rest of the
    account is predicted too high) or as a share of the estimate, the :data:`KEYS`, and for the reader ``was``, the
    number of ``receipts`` and the ``spread`` between the lowest and the highest.
    """
    shown: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for one in receipts:
        for name, difference in _differences(one).items():
            assumed = one["predicted"]["assumed"]
            key = (name, *(assumed[part] for part in KEYS))
            shown.setdefault(key, []).append((assumed[name] + difference, assumed[name]))
        speed = _speed(one)
        if speed:
            key = (SPEED, *(one["predicted"]["assumed"][part] for part in KEYS))
            shown.setdefault(key, []).append(speed)
    found = []
    for key, values in sorted(shown.items()):
        value = statistics.median(seen for seen, _was in values)
        was = statistics.median(was for _seen, was in values)
        if abs(value - was) >= (LEAST_SPEED if key[0] == SPEED else LEAST_GIB):
            numbers = [seen for seen, _was in values]
            found.append(
                {
                    "name": key[0],
                    "value": round(value, 3),
                    **dict(zip(KEYS, key[1:])),
                    "was": round(was, 3),
                    "receipts": len(values),
                    "spread": round(max(numbers) - min(numbers), 3),
                }
            )
    return found


def _differences(receipt: Mapping[str, Any]) -> dict[str, float]:
    """By how many GiB the engine took more than was predicted; nothing where that cannot be told.

    Of several pipeline stages the log does not say which is whose.
    """
    layout, predicted, actual = (receipt.get(part) or {} for part in ("layout", "predicted", "actual"))
    memory, assumed = predicted.get("memory") or {}, predicted.get("assumed") or {}
    if not set(KEYS) | set(CALIBRATED) <= set(assumed) or layout.get("pipeline_parallel_size") != 1:
        return {}
    weights, cache = actual.get("model_load_gib"), actual.get("available_kv_cache_gib")
    found = {}
    if weights:
        found["loaded"] = weights - memory["weights_gib"]
    # where a person wrote the size of the cache, it says nothing of the rest
    written = "kv-cache-memory-bytes" in (layout.get("serve_args") or {})
    if weights and cache and not written:
        rest = memory["budget_gib"] - weights - cache
        found["non_torch"] = rest - (memory["budget_gib"] - memory["weights_gib"] - memory["kv_cache_gib"])
    return {name: value for name, value in found.items() if abs(value) <= MOST_GIB}


def _speed(receipt: Mapping[str, Any]) -> tuple[float, float] | None:
    """Speed of one request and what was assumed of it, both as shares of the estimate without corrections.

    None where the receipt does not say it.
    """
    predicted = receipt.get("predicted") or {}
    estimate, assumed = predicted.get("estimate") or {}, predicted.get("assumed") or {}
    steps = (receipt.get("warmup") or {}).get("steps") or ()
    alone = next((step for step in steps if step.get("measured") and step.get("requests") == 1), None)
    if not alone or not set(KEYS) <= set(assumed) or not estimate.get("decode_tokens_per_second"):
        return None
    tokens, first = alone.get("answer_tokens") or 0, alone.get("first_token_seconds")
    if tokens < LEAST_TOKENS or first is None or alone["seconds"] <= first:
        return None
    was = estimate.get("measured") or 1.0
    seen = (tokens - 1) / (alone["seconds"] - first) / estimate["decode_tokens_per_second"] * was
    return (seen, was) if SPEEDS[0] <= seen <= SPEEDS[1] else None


def speed_of(corrections: Sequence[Measured], version: str, ranks: int, capability: float, runner: int) -> float | None:
    """How fast engines of this fleet are, as a share of the estimate; None where no correction says it."""
    found = release(version)
    for row in corrections:
        if (
            row.name == SPEED
            and row.since <= found < row.until
            and row.ranks[0] <= ranks <= row.ranks[1]
            and row.capability <= capability < row.below
            and row.runner in (None, runner)
        ):
            return row.value
    return None


def rows(written: object) -> tuple[Measured, ...]:
    """Read corrections as rows of the table. Raises InputError with a sentence for the first fault."""
    if written is None:
        return ()
    if not isinstance(written, (list, tuple)):
        raise InputError(f"{VARIABLE} is {written!r}; write the list that the playbook calibrate made.")
    return tuple(_row(f"{VARIABLE}[{place}]", entry) for place, entry in enumerate(written))


def _row(place: str, entry: object) -> Measured:
    if not isinstance(entry, Mapping):
        raise InputError(f"{place} is {entry!r}; write an entry as the playbook calibrate made it.")
    if entry.get("name") not in NAMES:
        raise InputError(f"{place} has the name {entry.get('name')!r}; write one of {', '.join(NAMES)}.")
    if not isinstance(entry.get("release"), str) or not RELEASE.fullmatch(entry["release"]):
        raise InputError(f"{place} has the release {entry.get('release')!r}; write it in quotes, such as '0.33'.")
    for key, kinds in (("value", (int, float)), ("ranks", (int,)), ("capability", (int, float))):
        if not isinstance(entry.get(key), kinds) or isinstance(entry.get(key), bool):
            raise InputError(f"{place} has the {key} {entry.get(key)!r}; write a number.")
    if entry["name"] == SPEED and not SPEEDS[0] <= entry["value"] <= SPEEDS[1]:
        raise InputError(
            f"{place} has the value {entry['value']}; a correction of speed is {SPEEDS[0]:g} to {SPEEDS[1]:g} times "
            "the estimate."
        )
    if abs(entry["value"]) > MOST_GIB:
        raise InputError(f"{place} has the value {entry['value']}; a correction is at most {MOST_GIB:g} GiB.")
    major, minor = release(entry["release"])
    return Measured(
        name=entry["name"],
        value=float(entry["value"]),
        unit="of the estimate" if entry["name"] == SPEED else "GiB",
        source=VARIABLE,
        since=(major, minor),
        until=(major, minor + 1),
        ranks=(entry["ranks"], entry["ranks"]),
        capability=float(entry["capability"]),
        below=float(entry["capability"]) + 0.05,
        runner=entry.get("model_runner"),
    )


def errors(receipts: Iterable[Mapping[str, Any]], corrections: Sequence[Measured] = ()) -> list[float]:
    """Errors of the predicted KV cache, as signed shares of what the engines had; with ``corrections``, what they
    would have been. Receipts in which the size was written, not predicted, are left out.
    """
    found = []
    for one in receipts:
        if "non_torch" not in _differences(one):
            continue
        predicted, assumed = one["predicted"]["memory"]["kv_cache_gib"], one["predicted"]["assumed"]
        for name in CALIBRATED if corrections else ():
            number = measured.number(
                name, assumed["release"], assumed["ranks"], assumed["capability"], assumed["model_runner"], corrections
            )
            predicted -= number - assumed[name]
        found.append(predicted / one["actual"]["available_kv_cache_gib"] - 1)
    return found
