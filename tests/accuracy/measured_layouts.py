"""Public measurements of vLLM layouts, read as `make regret` needs them: layout, hardware, workload, tokens per second.

A row is ``{"hw", "version", "cmd", "total_tps", "input_tokens", "requests", "source"}``: the host, vLLM's release, the
command, prompt and answer tokens per second, the prompt tokens and the number of all requests. Optional fields say what
the command does not: ``concurrency``, ``answer_tokens``, and ``config``, the configuration of the model. A file is a
list of rows, or has the configurations under ``models`` and the list under ``rows``.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (  # noqa: E402
    engine_versions,
    plan,
    speed,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.serving import Limits, frontend_ms  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import Workload  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts as host_facts  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files  # noqa: E402

# Prompts of one length that benchmarks ask for, and the answers that go with them: (prompt, answer) in tokens.
FIXED = ((32000, 100), (4000, 200), (2000, 100), (1024, 128), (128, 4))
# 1000 tokens in, 2000 out is the profile of few requests; of many it would be (1024, 128).
GENERATION = (1000, 2000)
# Answers of ShareGPT for a token of its prompts, in the two ways that its users cut it.
SHAREGPT = ((200, 240, 0.91), (320, 360, 0.82))
# A hundred requests of ShareGPT are the benchmark of latency, four at once (`vllm bench serve --max-concurrency 4`).
FEW, FEW_CONCURRENCY = 100, 4
# What the names of published checkpoints add to the configuration that they share.
SUFFIXES = ("-0528", "-Instruct-2507", "-Thinking-2507", "-2507")
QUANTIZED: Mapping[str, Mapping[str, Any]] = {
    "-FP8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "-AWQ": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
}
FEWER_SEQUENCES = 64
WORDS = {"two": 2, "four": 4, "eight": 8}


@dataclass(frozen=True)
class Measured:
    """One row beside what is predicted of it; ``problem`` says why it could not be planned."""

    row: Mapping[str, Any]
    model: str
    gpu: str
    gpus: int
    layout: str
    workload: Workload
    measured: float
    predicted: float | None = None
    low: float = 0.0
    high: float = 0.0
    problem: str | None = None
    note: str | None = None

    @property
    def error(self) -> float | None:
        """Signed error of the prediction, as a share of what was measured."""
        return self.predicted / self.measured - 1 if self.predicted and self.measured else None


def arguments(command: str) -> tuple[argparse.Namespace, dict[str, str]]:
    """Read a command of ``vllm serve``: its options that matter here, and variables set before it."""
    words = shlex.split(command.replace("\\\n", " "))
    variables = {}
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        name, _, text = words.pop(0).partition("=")
        variables[name] = text
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)
    parser.add_argument("--model")
    for names in (
        ("-tp", "--tensor-parallel-size"),
        ("-pp", "--pipeline-parallel-size"),
        ("-dp", "--data-parallel-size"),
    ):
        parser.add_argument(*names, type=int, default=1)
    parser.add_argument("-dcp", "--decode-context-parallel-size", type=int, default=1)
    for name in ("max-num-batched-tokens", "max-num-seqs", "max-model-len", "block-size"):
        parser.add_argument(f"--{name}", type=_count)
    parser.add_argument("--gpu-memory-utilization", type=float)
    for name in ("kv-cache-dtype", "quantization", "speculative-config", "dtype"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--enable-expert-parallel", "-ep", action="store_true")
    parser.add_argument("--async-scheduling", action="store_true")
    parser.add_argument("--enforce-eager", action="store_true")
    found, rest = parser.parse_known_args(words)
    named = [word for word in rest if not word.startswith("-") and word not in ("vllm", "serve")]
    found.model = found.model or (named[0] if named else "")
    return found, variables


def _count(text: str) -> int:
    """Read 8192 or 8k."""
    match = re.fullmatch(r"(\d+)([kKmM]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(text)
    return int(match.group(1)) * {"": 1, "k": 1024, "m": 1024**2}[match.group(2).lower()]


def hardware(text: str) -> tuple[str, int]:
    """Read "8 x NVIDIA H200 SXM GPUs on a single node." as the product and how many."""
    match = re.match(r"\s*(?:(\d+)\s*[x×*]?|(\w+))\s", text)
    count = 1
    if match:
        count = int(match.group(1)) if match.group(1) else WORDS.get(match.group(2).lower(), 1)
    for words, name in (
        (("A100", "40GB"), "NVIDIA A100-SXM4-40GB"),
        (("A100", "PCIe"), "NVIDIA A100 80GB PCIe"),
        (("A100",), "NVIDIA A100-SXM4-80GB"),
        (("H100", "PCIe"), "NVIDIA H100 PCIe"),
        (("H100", "NVL"), "NVIDIA H100 NVL"),
        (("H100",), "NVIDIA H100 80GB HBM3"),
    ):
        if all(word in text for word in words):
            return name, count
    named = re.sub(r"^\s*(a single|\d+\s*[x×]?)\s*|\s*GPUs?\b.*|\s+SXM\b.*|\.$", "", text, flags=re.IGNORECASE)
    return named.strip(), count


def workload(row: Mapping[str, Any]) -> Workload | None:
    """Tell which benchmark a row comes from, by its prompts and requests; None where that cannot be told."""
    requests = int(row["requests"])
    prompt = row["input_tokens"] / requests
    concurrency = row.get("concurrency")
    if row.get("answer_tokens"):
        return Workload(round(prompt), round(row["answer_tokens"] / requests), concurrency, requests)
    if requests <= 200 and prompt == _about(GENERATION[0]) and requests != FEW:
        return Workload(*GENERATION, concurrency, requests)
    for fixed, answer in FIXED:
        if prompt == _about(fixed):
            return Workload(fixed, answer, concurrency, requests)
    for least, most, share in SHAREGPT:
        if least <= prompt < most:
            few = FEW_CONCURRENCY if requests <= FEW else None
            return Workload(round(prompt), round(prompt * share), concurrency or few, requests, varied=True)
    return None


@dataclass(frozen=True)
class _About:
    number: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float)) and abs(other / self.number - 1) < 0.02

    __hash__ = None  # type: ignore[assignment]


def _about(number: float) -> _About:
    return _About(number)


@functools.cache
def model_facts(name: str, configs: Path, config: str | None = None, blocks: bool = True) -> dict[str, Any] | None:
    """Describe a model by its own configuration (or the text of one), or by that of what it was quantized from.

    Whether such a checkpoint is quantized in ``blocks`` is then not known.
    """
    if config:
        return model_files.facts(json.loads(config))
    candidates = [name]
    for suffix in SUFFIXES:
        candidates += [one.replace(suffix, "") for one in list(candidates) if suffix in one]
    for one in candidates:
        path = configs / f"{one.replace('/', '--')}_config.json"
        if path.is_file():
            return model_files.facts(json.loads(path.read_text()))
    for ending, quantization in QUANTIZED.items():
        for one in candidates:
            path = configs / f"{one.removesuffix(ending).replace('/', '--')}_config.json"
            if one.endswith(ending) and path.is_file():
                known = {key: value for key, value in quantization.items() if blocks or key != "weight_block_size"}
                return model_files.facts({**json.loads(path.read_text()), "quantization_config": known})
    return None


def described(options: argparse.Namespace) -> str:
    """Name a layout by the options that differ from vLLM's own."""
    parts = [f"TP{options.tensor_parallel_size}"]
    parts += [f"PP{options.pipeline_parallel_size}"] if options.pipeline_parallel_size > 1 else []
    parts += [f"DP{options.data_parallel_size}"] if options.data_parallel_size > 1 else []
    parts += ["EP"] if options.enable_expert_parallel else []
    parts += ["async"] if options.async_scheduling else []
    parts += ["eager"] if options.enforce_eager else []
    for name, short in (("max_num_batched_tokens", "batch"), ("max_num_seqs", "seqs"), ("kv_cache_dtype", "kv")):
        parts += [f"{short}={getattr(options, name)}"] if getattr(options, name) else []
    parts += ["speculative"] if options.speculative_config else []
    return " ".join(parts)


@functools.cache
def _planned(
    model: str, configs: Path, gpu: str, gpus: int, version: str, written: str, config: str | None
) -> tuple[dict[str, Any], dict[str, Any]] | str:
    """The planner's layout of written sizes and the model's facts, or why there is none."""
    refused = None
    for blocks in (True, False):
        facts = model_facts(model, configs, config, blocks)
        if facts is None:
            return f"the configuration of {model} is not at hand"
        layout = _layout(facts, gpu, gpus, version, {"model": model, **json.loads(written)})
        if not layout["rejected"]:
            return layout, facts
        refused = refused or (layout, facts)
    assert refused is not None
    return refused


def _layout(facts: Mapping[str, Any], gpu: str, gpus: int, version: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    host = {
        "gpu_facts": host_facts.facts_from_profile({"name": gpu, "count": gpus}),
        "models": [{"name": "row", **entry}],
        "model_facts": {"row": facts},
        "engine_version": version,
    }
    layout: dict[str, Any] = plan.plan_hosts({"host": host})["host"]["instances"][0]
    return layout


@dataclass(frozen=True)
class Asked:
    """What a row asks of the estimate, all of it read and planned; without ``limits`` there is a problem instead."""

    row: Measured
    facts: Mapping[str, Any] | None = None
    sizes: Sizes | None = None
    limits: Limits | None = None
    settings: Mapping[str, Any] | None = None
    note: str | None = None


@functools.cache
def _asked(text: str, configs: Path) -> Asked:
    row = json.loads(text)
    options, _ = arguments(row["cmd"])
    gpu, count = hardware(row["hw"])
    sizes = Sizes(
        options.tensor_parallel_size,
        options.pipeline_parallel_size,
        options.data_parallel_size,
        options.enable_expert_parallel,
        options.decode_context_parallel_size,
    )
    asked = workload(row)
    found = Measured(row, options.model, gpu, sizes.gpus, described(options), asked or Workload(), row["total_tps"])
    if asked is None:
        return Asked(replace(found, problem="the length of its answers is not known"))
    written = {
        "tensor_parallel_size": sizes.tensor_parallel_size,
        "pipeline_parallel_size": sizes.pipeline_parallel_size,
        "data_parallel_size": sizes.data_parallel_size,
        "enable_expert_parallel": sizes.enable_expert_parallel,
        "decode_context_parallel_size": sizes.decode_context_parallel_size,
    }
    for name in ("max_num_batched_tokens", "max_num_seqs", "max_model_len", "gpu_memory_utilization", "kv_cache_dtype"):
        if getattr(options, name):
            written[name] = getattr(options, name)
    version = engine_versions.of(row["version"])
    try:
        memory_mib = host_facts.facts_from_profile({"name": gpu, "count": 1})["devices"][0]["memory_total_mib"]
    except InputError as error:
        return Asked(replace(found, problem=str(error)))
    tokens, sequences = engine_versions.default_batch(row["version"], gpu, memory_mib, "cuda")
    tokens = options.max_num_batched_tokens or tokens
    # the run had vLLM's own value, which a plan may lower
    written.setdefault("max_num_seqs", min(sequences, tokens))
    planned = _planned(
        options.model,
        configs,
        gpu,
        max(count, sizes.gpus),
        row["version"],
        json.dumps(written, sort_keys=True),
        json.dumps(row["config"]) if row.get("config") else None,
    )
    if isinstance(planned, str):
        return Asked(replace(found, problem=planned))
    layout, facts = planned
    tokens_held = layout["kv_cache_tokens"]
    if layout["rejected"]:
        # It ran, so it had a cache: that of fewer sequences, whose sampler takes less.
        fewer = {**written, "model": options.model, "max_num_seqs": min(FEWER_SEQUENCES, written["max_num_seqs"])}
        tokens_held = _layout(facts, gpu, max(count, sizes.gpus), row["version"], fewer)["kv_cache_tokens"]
    limits = Limits(
        max_num_seqs=written["max_num_seqs"],
        max_num_batched_tokens=tokens,
        kv_cache_tokens=tokens_held,
    )
    settings = {
        "kv_bytes": 1 if "fp8" in (options.kv_cache_dtype or "") else 2,
        "enforce_eager": options.enforce_eager,
        "async_scheduling": options.async_scheduling or version.async_scheduling,
        "release": version.release,
    }
    note = f"ran, though the plan refuses it: {layout['rejected']['reason']}" if layout["rejected"] else None
    return Asked(found, facts, sizes, limits, settings, note)


def predict(row: Mapping[str, Any], configs: Path) -> Measured:
    """Read a row and predict it; what cannot be read is its problem."""
    try:
        asked = _asked(json.dumps(row), configs)
    except (ValueError, KeyError, TypeError, ZeroDivisionError, argparse.ArgumentError, InputError) as error:
        words = f"the row cannot be read: {type(error).__name__}: {error}"
        gpu, count = str(row.get("hw")), 0
        measured = float(row.get("total_tps") or 0)
        return Measured(row, str(row.get("cmd")), gpu, count, "unknown", Workload(), measured, problem=words)
    found = asked.row
    if asked.facts is None or asked.sizes is None or asked.limits is None or asked.settings is None:
        return found
    rendered = asked.facts.get("model_type") != "gpt_oss"
    limits = replace(asked.limits, frontend_ms=frontend_ms(asked.settings["release"], rendered))
    served = speed.serve(asked.facts, asked.sizes, found.gpu, "nvlink", found.workload, limits, **asked.settings)
    if served is None:
        return replace(found, problem="the GPU or the model's layers are not known")
    return replace(found, predicted=served.tokens_per_second, low=served.low, high=served.high, note=asked.note)


def read(truth: Path) -> list[dict[str, Any]]:
    """Read the rows of a file: a list, or ``{"models": {name: configuration}, "rows": list}``."""
    content = json.loads(truth.read_text(encoding="utf-8"))
    if isinstance(content, list):
        return content
    models = content.get("models") or {}
    return [
        {"config": models[name], **row} if (name := arguments(row["cmd"])[0].model) in models else row
        for row in content["rows"]
    ]
