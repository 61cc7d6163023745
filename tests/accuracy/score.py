# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Score the planner on what real vLLM runs reported: `make accuracy`.

Reads `kv_truth.json` (records of runs) and a folder of config.json files, plans each record exactly as plan.yml would,
and prints how far weights, KV-cache tokens and the verdict are off.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions, instances, plan  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts as host_facts  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files  # noqa: E402

GIB = 1024**3
# What is known of records whose run was not the one that their flags say.
REASONS: Mapping[str, str] = json.loads((Path(__file__).parent / "reasons.json").read_text(encoding="utf-8"))
# Beyond this a record is listed with its reason.
FAR = 0.10
# A GPU whose KV cache is less than this share of its budget is nearly full: there the verdict is hard.
NEARLY_FULL = 0.08
FITTED = "ok"
NOT_FITTED = ("oom", "kv_too_small")


@dataclass
class Scored:
    """One record beside its prediction; errors are signed fractions, None where there is nothing to compare."""

    record: Mapping[str, Any]
    complete: bool
    gpu: str
    weights: float | None
    tokens: float | None
    concurrency: float | None
    fits: bool
    share_left: float | None
    reason: str

    @property
    def fitted(self) -> bool | None:
        """What the run showed: True, False, or None when it ended for another reason."""
        outcome = str(self.record["outcome"])
        if outcome == FITTED:
            return True
        return False if outcome in NOT_FITTED else None


def config_of(name: str | None, configs: Path) -> Path | None:
    """Find the config.json of a model by its hub name."""
    path = configs / f"{(name or '').replace('/', '--')}_config.json"
    return path if name and path.is_file() else None


def memory_mib(text: object) -> int | None:
    """Read "79.19 GiB", "97,887 MiB" or "24 GB" (which is what the box says: not used)."""
    match = re.match(r"([\d.,]+)\s*(GiB|MiB)", str(text or ""))
    if not match:
        return None
    number = float(match.group(1).replace(",", ""))
    return round(number * 1024) if match.group(2) == "GiB" else round(number)


def gpu_name(record: Mapping[str, Any]) -> str | None:
    """Give the GPU as a person would write it, without remarks in brackets; None when the source does not say it."""
    name = re.sub(r"\s*\(.*", "", record["gpu"] or "")
    return None if not name or "+" in name or " or " in name else name


def described(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Describe the record's hardware as ``gpu_profile`` does; None when the source does not say it."""
    name = gpu_name(record)
    if name is None:
        return None
    profile: dict[str, Any] = {"name": name, "count": max(1, min(16, ranks(record)))}
    memory = memory_mib(record["gpu_memory_gib_or_mib_if_stated"])
    # the products of one name differ in memory where the source says it; else the table's is taken
    if memory and memory < 10**6:
        profile["memory_mib"] = memory
    return profile


def ranks(record: Mapping[str, Any]) -> int:
    """GPUs that the run used."""
    return int((record["tp"] or 1) * (record["pp"] or 1) * (record["dp"] or 1))


def entry_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the record's flags as an entry of vllm_models."""
    flags = ("max_model_len", "gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs", "enforce_eager")
    written = {flag: record[flag] for flag in flags if record[flag] is not None}
    kv_cache_dtype = record["kv_cache_dtype"]
    if kv_cache_dtype and kv_cache_dtype != "auto":
        written["kv_cache_dtype"] = kv_cache_dtype
    return {
        "name": "record",
        "model": record["model"],
        "gpus": ranks(record),
        "tensor_parallel_size": record["tp"] or 1,
        "pipeline_parallel_size": record["pp"] or 1,
        "data_parallel_size": record["dp"] or 1,
        "decode_context_parallel_size": 1,
        "environment": {"VLLM_USE_V2_MODEL_RUNNER": 1 if record["model_runner"] == "v2" else 0}
        if record.get("model_runner")
        else {},
        **written,
    }


def version_of(record: Mapping[str, Any]) -> str | None:
    """Give the release that the record names, None when it names none that can be read."""
    named = re.sub(r"\s.*", "", record["vllm_version"] or "")
    try:
        engine_versions.of(named)
    except InputError:
        return None
    return named or None


def score(record: Mapping[str, Any], configs: Path, index: Mapping[str, Any]) -> Scored | None:
    """Plan one record; None when its model or hardware is not known."""
    config, profile = config_of(record["model"], configs), described(record)
    if config is None or profile is None or record.get("dcp"):
        return None
    size = index.get(config.name, {}).get("total_size_bytes")
    try:
        gpu_facts = host_facts.facts_from_profile(profile)
        model = model_files.facts(json.loads(config.read_text()), size)
    except InputError:
        return None
    entry = entry_of(record)
    problems = instances.problems([entry])
    if problems:
        raise SystemExit(f"{record['id']}: {problems[0]}")
    version = version_of(record)
    # the run had vLLM's own value, which a plan may lower
    device = gpu_facts["devices"][0]
    _, sequences = engine_versions.default_batch(version, device["name"], device["memory_total_mib"], "cuda")
    entry.setdefault("max_num_seqs", min(sequences, record["max_num_batched_tokens"] or sequences))
    (layout,) = plan.plan_hosts(
        {
            "host": {
                "gpu_facts": gpu_facts,
                "models": [entry],
                "model_facts": {"record": model},
                "engine_version": version,
            }
        }
    )["host"]["instances"]
    account = layout["memory"] or next((other["memory"] for other in layout["alternatives"] if other["memory"]), None)
    complete = version is not None and record["max_model_len"] is not None and record["tp"] is not None
    return Scored(
        record,
        complete,
        str(gpu_facts["devices"][0]["name"]),
        _error(account and account["weights_gib"], record["model_load_gib"]),
        _error(layout["kv_cache_tokens"], record["kv_cache_tokens"]),
        _error(layout["max_concurrency"], record["max_concurrency"]),
        layout["rejected"] is None,
        account["kv_cache_gib"] / account["budget_gib"] if account else None,
        layout["rejected"]["reason"] if layout["rejected"] else "",
    )


def _error(predicted: float | None, reported: float | None) -> float | None:
    return predicted / reported - 1 if predicted is not None and reported else None


def figures(errors: Sequence[float]) -> str:
    """Say median, p90 and worst of the absolute errors, and the mean of the signed ones."""
    if not errors:
        return "no record"
    sizes = sorted(abs(error) for error in errors)
    p90 = sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))]
    return (
        f"{len(sizes):3} records   median {statistics.median(sizes):6.2%}   mean {statistics.mean(sizes):6.2%}   "
        f"p90 {p90:6.2%}   worst {sizes[-1]:7.2%}   signed mean {statistics.mean(errors):+7.2%}"
    )


def families(scored: Iterable[Scored], key: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    """Sort records by GPU or model family."""
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(key(one), []).append(one)
    return dict(sorted(found.items()))


def model_family(one: Scored) -> str:
    """Give the maker and first word of a model's name, such as "Qwen3"."""
    return re.split(r"[-_.]", str(one.record["model"]).split("/")[-1])[0]


def tokens_of(scored: Iterable[Scored]) -> list[float]:
    """Errors of the KV-cache tokens of runs that started."""
    return [one.tokens for one in scored if one.tokens is not None]


def weights_of(scored: Iterable[Scored]) -> list[float]:
    """Errors of the weights."""
    return [one.weights for one in scored if one.weights is not None]


def confusion(scored: Iterable[Scored]) -> str:
    """Count verdicts against outcomes."""
    counts = {(fits, fitted): 0 for fits in (True, False) for fitted in (True, False)}
    for one in scored:
        if one.fitted is not None:
            counts[one.fits, one.fitted] += 1
    return (
        f"fits and did {counts[True, True]}, fits and did not {counts[True, False]}, "
        f"refused and did fit {counts[False, True]}, refused and did not fit {counts[False, False]}"
    )


def of_v1(scored: Iterable[Scored], reasons: Mapping[str, str]) -> list[Scored]:
    """Complete records, without those whose reason says that the engine was the one before V1."""
    return [one for one in scored if one.complete and not reasons.get(one.record["id"], "").startswith("V0 engine")]


def targets(scored: Sequence[Scored], reasons: Mapping[str, str]) -> list[str]:
    """Say which targets are missed: weights 1 % median, tokens 0.2 % median and 5 % at p90, verdicts and reasons.

    They hold for records with complete flags. Those whose ``reasons`` say why their run was another one count for
    tokens all the same, but for those of the engine before V1.
    """
    whole = [one for one in scored if one.complete and one.record["id"] not in reasons]
    weights, tokens = sorted(map(abs, weights_of(whole))), sorted(map(abs, tokens_of(of_v1(scored, reasons))))
    missed = [
        f"{one.record['id']} is off by more than {FAR:.0%} and has no reason"
        for one in scored
        if one.record["id"] not in reasons and any(abs(error or 0) > FAR for error in (one.weights, one.tokens))
    ]
    if not weights or statistics.median(weights) > 0.01:
        missed.append("weights are off by more than 1 % (median)")
    if not tokens or statistics.median(tokens) > 0.002:
        missed.append("KV-cache tokens are off by more than 0.2 % (median)")
    if not tokens or tokens[min(len(tokens) - 1, int(0.9 * len(tokens)))] > 0.05:
        missed.append("KV-cache tokens are off by more than 5 % (p90)")
    for one in whole:
        if one.record["outcome"] == "oom" and one.fits:
            missed.append(f"{one.record['id']} ran out of memory and is called fitting")
    return missed


def report(scored: Sequence[Scored], reasons: Mapping[str, str]) -> str:
    """Write the whole table."""
    complete = [one for one in scored if one.complete]
    whole = [one for one in complete if one.record["id"] not in reasons]
    lines = [
        f"{len(scored)} usable records; complete: {len(complete)} that name version, length and sizes; without reason: "
        f"{len(whole)} of these, leaving out those that tests/accuracy/reasons.json says something of",
        "",
        "weights per GPU   without reason  " + figures(weights_of(whole)),
        "                  complete        " + figures(weights_of(complete)),
        "                  all             " + figures(weights_of(scored)),
        "KV-cache tokens   without reason  " + figures(tokens_of(whole)),
        "                  complete V1     " + figures(tokens_of(of_v1(scored, reasons))),
        "                  complete        " + figures(tokens_of(complete)),
        "                  all             " + figures(tokens_of(scored)),
        "max concurrency   without reason  "
        + figures([one.concurrency for one in whole if one.concurrency is not None]),
        "",
        "fit or no fit: " + confusion(scored),
        "of these, GPUs that are nearly full: " + confusion(one for one in scored if _nearly_full(one)),
    ]
    for title, key in (("GPU", lambda one: one.gpu), ("model family", model_family)):
        lines += ["", f"KV-cache tokens by {title}"]
        for name, members in families(scored, key).items():
            if tokens_of(members):
                lines.append(f"  {name[:34]:34} {figures(tokens_of(members))}")
    lines += ["", f"records off by more than {FAR:.0%}, or with another verdict"]
    lines += [f"  {_said(one, reasons)}" for one in scored if _stands_out(one)]
    return "\n".join(lines)


def _nearly_full(one: Scored) -> bool:
    return one.share_left is not None and one.share_left < NEARLY_FULL


def _stands_out(one: Scored) -> bool:
    far = any(error is not None and abs(error) > FAR for error in (one.weights, one.tokens))
    return far or (one.fitted is not None and one.fitted != one.fits)


def _said(one: Scored, reasons: Mapping[str, str]) -> str:
    record = one.record
    parts = [f"{record['id']} {record['model']} on {ranks(record)} x {one.gpu}, vLLM {record['vllm_version']}:"]
    if one.weights is not None:
        parts.append(f"weights {one.weights:+.1%}")
    if one.tokens is not None:
        parts.append(f"tokens {one.tokens:+.1%}")
    if one.fitted is not None and one.fitted != one.fits:
        parts.append(f"reported {record['outcome']}, planned {'fits' if one.fits else f'refused ({one.reason})'}")
    return " ".join(parts) + f" -- {reasons.get(record['id'], 'reason not known')}"


def load(truth: Path, configs: Path) -> list[Scored]:
    """Score every usable record of a file."""
    index_file = configs / "index.json"
    index = {one["file"]: one for one in json.loads(index_file.read_text())} if index_file.is_file() else {}
    found = [score(record, configs, index) for record in json.loads(truth.read_text())]
    return [one for one in found if one is not None]


def main() -> int:
    """Print the scores; fails when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, default=ROOT.parent / "shared/truth/kv_truth.json")
    parser.add_argument("--configs", type=Path, default=ROOT.parent / "shared/model_configs")
    options = parser.parse_args()
    if not options.truth.is_file():
        print(f"There is no {options.truth}: nothing to score. Name one with --truth.")
        return 0
    scored = load(options.truth, options.configs)
    print(report(scored, REASONS))
    missed = targets(scored, REASONS)
    print("\n" + ("\n".join(f"Missed: {one}." for one in missed) or "Every target is met."))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
