"""Predicted against actual: plan a model on this machine, start the engine with random weights, read its log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import engine_report, receipt

from tools.lab.engine_child import MARK
from tools.lab.node_load import Point

CHILD = Path(__file__).with_name("engine_child.py")
HOST = "localhost"
SUFFIX = "_config.json"
# As roles/warmup has it.
TOLERANCE = 0.1
LOG_TAIL = 25
# Where a machine says that NVLink multicast must not be used, vLLM's own users of it are switched off too: the
# all-reduce through symmetric memory (distributed/device_communicators/symm_mem.py) and the fusion with FlashInfer's
# all-reduce (config/vllm.py, enable_allreduce_rms_fusion: on by default with TP on Hopper and Blackwell).
MULTICAST_SWITCHES = (("NCCL_NVLS_ENABLE", "0"), ("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1"))
WITHOUT_MULTICAST: Mapping[str, str] = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
}
# The same for options; a mapping of theirs is put together with one that is there.
ARGUMENTS_WITHOUT_MULTICAST: Mapping[str, Any] = {"compilation-config": {"pass_config": {"fuse_allreduce_rms": False}}}


@dataclass(frozen=True)
class Wanted:
    """One engine: a model's name and config.json, on how many GPUs, and what else is written for it."""

    model: str
    config: Mapping[str, Any]
    ranks: int
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A name for files and tables."""
        return f"{self.model.split('/')[-1].lower().replace('.', '-').replace('_', '-')}-tp{self.ranks}"


def fields_of(text: str) -> dict[str, Any]:
    """Read "max_model_len=8192,extra_args={...}"; a value is JSON, with commas of its own. Raises ValueError."""
    found: dict[str, Any] = {}
    while text:
        name, _is, rest = text.partition("=")
        found[name], end = json.JSONDecoder().raw_decode(rest)
        if rest[end : end + 1] not in ("", ","):
            raise ValueError(f"{rest[end:]!r} follows the value of {name}")
        text = rest[end + 1 :]
    return found


def wanted(folder: Path, words: Sequence[str]) -> list[Wanted]:
    """Read "owner/model:2,max_model_len=8192" with the configs of a folder. Raises InputError."""
    found = []
    for word in words:
        model, _colon, rest = word.partition(":")
        ranks, _comma, fields = rest.partition(",") if rest else ("1", "", "")
        path = folder / f"{model.replace('/', '--')}{SUFFIX}"
        if not path.is_file():
            raise InputError(f"{word}: there is no {path}; put the model's config.json there.")
        if not ranks.isdigit():
            raise InputError(f"{word}: {ranks!r} is no number of GPUs; write MODEL:GPUS[,field=value].")
        try:
            written = fields_of(fields)
        except ValueError as error:
            raise InputError(f"{word}: values are JSON ({error}); write MODEL:GPUS[,field=value].") from error
        config = model_files.parse_config(path.read_text(encoding="utf-8"), str(path))
        found.append(Wanted(model, config, int(ranks), written))
    return found


def planned(one: Wanted, gpu_facts: Mapping[str, Any], devices: Sequence[int], version: str) -> dict[str, Any]:
    """Let the planner decide on exactly these GPUs (or on the processor). Raises InputError."""
    entry: dict[str, Any] = {"name": one.name, "model": one.model, "tensor_parallel_size": one.ranks, **one.fields}
    if devices:
        entry["gpus"] = list(devices)
    given = {
        "gpu_facts": gpu_facts,
        "models": [entry],
        "model_facts": {one.name: model_files.facts(one.config)},
        "engine_version": version,
    }
    (layout,) = plan.plan_hosts({HOST: given})[HOST]["instances"]
    return layout


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Put the second mapping over the first, down to their leaves."""
    result = dict(one)
    for name, value in other.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def words_of(arguments: Mapping[str, Any]) -> list[str]:
    """Spell options as vLLM spells its configuration file (utils/argparse_utils.py:516-604 of 0.33)."""
    words: list[str] = []
    for name, value in arguments.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", json.dumps(value) if isinstance(value, Mapping) else str(value)]
    return words


def arguments_of(layout: Mapping[str, Any], folder: Path, no_multicast: bool) -> dict[str, Any]:
    """What is written for the engine: the plan's options, with random weights, no tokenizer, and no hub."""
    left_out = ("model", "revision", "served-model-name", "host", "port")
    own = {name: value for name, value in layout["serve_args"].items() if name not in left_out}
    own = {"model": str(folder), **own, "load-format": "dummy", "skip-tokenizer-init": True}
    return merged(own, ARGUMENTS_WITHOUT_MULTICAST) if no_multicast else own


def environment_of(layout: Mapping[str, Any], environ: Mapping[str, str], no_multicast: bool) -> dict[str, str]:
    """The engine's environment. Memory is told in full at the level DEBUG only."""
    return {
        **environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "PYTHONUNBUFFERED": "1",
        **(WITHOUT_MULTICAST if no_multicast else {}),
        **{name: str(value) for name, value in layout["environment"].items()},
    }


def forbids_multicast(environ: Mapping[str, str]) -> bool:
    """Whether this machine's environment says that NVLink multicast is not to be used."""
    return any(environ.get(name) == value for name, value in MULTICAST_SWITCHES)


# The sessions of the engines that run now, for the one who ends the lab early.
_RUNNING: set[int] = set()


def stop() -> None:
    """End every engine."""
    for session in list(_RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)


def run(
    one: Wanted, layout: Mapping[str, Any], python: str, work: Path, seconds: float, points: Sequence[Point]
) -> tuple[str, float, list[str]]:
    """Start the engine; returns how it ended (ok, failed, timeout), the seconds, and its log."""
    # Of one model several run, with other fields and on other GPUs.
    digest = hashlib.sha256(json.dumps(one.fields, sort_keys=True).encode()).hexdigest()[:6]
    folder = work / "-".join([one.name, *map(str, layout["devices"]), *([digest] if one.fields else [])])
    folder.mkdir(parents=True, exist_ok=True)
    # the code that a repository brings is not here, and vLLM has classes of its own
    config = {name: value for name, value in one.config.items() if name != "auto_map"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    no_multicast = forbids_multicast(os.environ)
    job = {
        "arguments": words_of(arguments_of(layout, folder, no_multicast)),
        "points": [astuple(point) for point in points],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    begin = time.monotonic()
    with (
        (folder / "log").open("w") as log,
        # a session of its own: ranks that hang end with it
        subprocess.Popen(
            [python, str(CHILD), str(folder / "job.json")],
            env=environment_of(layout, os.environ, no_multicast),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
        ) as process,
    ):
        _RUNNING.add(process.pid)
        try:
            outcome = "ok" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            outcome = "timeout"
        finally:
            # an engine's ranks can outlive it, with the memory of their GPUs
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _RUNNING.discard(process.pid)
    return outcome, time.monotonic() - begin, (folder / "log").read_text(errors="replace").splitlines()


def told(lines: Iterable[str]) -> dict[str, Any]:
    """What the program around the engine said, by event; ``answered`` is a list."""
    found: dict[str, Any] = {"answered": []}
    for line in lines:
        _before, mark, rest = line.partition(MARK)
        if not mark:
            continue
        try:
            event = json.loads(rest)
        except ValueError:
            continue
        if event.get("event") == "answered":
            found["answered"].append(event)
        else:
            found[event.get("event")] = event
    return found


def judged(
    one: Wanted, layout: Mapping[str, Any], outcome: str, seconds: float, lines: Sequence[str]
) -> dict[str, Any]:
    """Prediction and report side by side."""
    said = told(lines)
    reported = engine_report.figures(lines)
    prediction = receipt.predicted(layout)
    flat = {**prediction, **{part: (prediction["memory"] or {}).get(part) for part in receipt.MEMORY}}
    # the engine may answer and then end badly: what it said before holds all the same
    started = said.get("started")
    return {
        "name": one.name,
        "model": one.model,
        "ranks": one.ranks,
        "fields": dict(one.fields),
        "outcome": outcome,
        "seconds": round(seconds, 1),
        "vllm": (said.get("imported") or {}).get("vllm"),
        "devices": layout["devices"],
        "serve_args": layout["serve_args"],
        "sizes": (started or {}).get("sizes"),
        "ready_seconds": (started or {}).get("seconds"),
        "answered": said["answered"],
        "left_out": (said.get("left_out") or {}).get("words"),
        "predicted": prediction,
        "reported": reported,
        "comparison": engine_report.comparison(flat, reported, TOLERANCE),
        "tail": [] if outcome == "ok" else list(lines[-LOG_TAIL:]),
    }


def record(result: Mapping[str, Any], gpu_facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run as a record that `make accuracy` and the tests read; None when it said too little."""
    seen, sizes = result["reported"], result["sizes"] or {}
    if not seen["kv_cache_tokens"] or not result["devices"]:
        return None
    device = next(one for one in gpu_facts["devices"] if one["index"] == result["devices"][0])
    runner = (result["predicted"]["assumed"] or {}).get("model_runner")
    return {
        "id": result["name"],
        "model": result["model"],
        "model_runner": f"v{runner}" if runner else None,
        "gpu": device["name"],
        "gpu_count": result["ranks"],
        "tp": result["ranks"],
        "pp": 1,
        "dp": 1,
        "quantization": sizes.get("quantization"),
        "kv_cache_dtype": sizes.get("kv_cache_dtype") or "auto",
        "vllm_version": result["vllm"],
        "max_model_len": sizes.get("max_model_len"),
        "gpu_memory_utilization": sizes.get("gpu_memory_utilization"),
        "max_num_batched_tokens": sizes.get("max_num_batched_tokens"),
        "max_num_seqs": sizes.get("max_num_seqs"),
        "enforce_eager": bool(result["fields"].get("enforce_eager")),
        "model_load_gib": seen["model_load_gib"],
        "available_kv_gib": seen["available_kv_cache_gib"],
        "kv_cache_tokens": seen["kv_cache_tokens"],
        "max_concurrency": seen["max_concurrency"],
        "outcome": "ok",
        "profile_logged": {
            "torch_peak_increase_gib": seen["activation_gib"],
            "non_torch_increase_gib": seen["non_torch_gib"],
            "weights_gib": seen["weights_gib"],
            "cuda_graph_estimated_gib": seen["cuda_graphs_estimated_gib"],
            "cuda_graph_actual_gib": seen["cuda_graphs_gib"],
        },
        "date": date.today().isoformat(),
        "gpu_memory_gib_or_mib_if_stated": f"{result['predicted']['memory']['total_gib']:.2f} GiB",
        "source": "measured with --load-format dummy",
    }


@dataclass
class Lab:
    """Runs engines of one size side by side, each on a group of GPUs; the size that was asked first comes first."""

    gpu_facts: Mapping[str, Any]
    devices: Sequence[int]
    python: str
    version: str
    work: Path
    # of one engine, and the monotonic time after which none is begun
    seconds: float
    deadline: float
    points: Sequence[Point]
    show: Callable[[Sequence[str]], None]

    def one(self, what: Wanted, devices: Sequence[int]) -> dict[str, Any]:
        """Plan and run one."""
        head = {"name": what.name, "model": what.model, "ranks": what.ranks, "fields": dict(what.fields)}
        try:
            layout = planned(what, self.gpu_facts, devices, self.version)
        except InputError as error:
            return {**head, "outcome": "not planned", "reason": str(error)}
        if layout["rejected"]:
            return {**head, "outcome": "refused", "reason": layout["rejected"]["sentence"]}
        left = min(self.seconds, self.deadline - time.monotonic())
        if left < self.seconds / 4:
            return {**head, "outcome": "not run", "reason": "no time was left", "predicted": receipt.predicted(layout)}
        return judged(what, layout, *run(what, layout, self.python, self.work, left, self.points))

    def groups(self, ranks: int) -> list[list[int]]:
        """Disjoint groups of GPUs; one without any on the processor."""
        if not self.devices:
            return [[]]
        return [list(self.devices[at : at + ranks]) for at in range(0, len(self.devices) - ranks + 1, ranks)]

    def all(self, engines: Sequence[Wanted]) -> Iterator[dict[str, Any]]:
        """Run them all; what is answered comes as it ends."""
        for ranks in dict.fromkeys(one.ranks for one in engines):
            groups = self.groups(ranks)
            waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
            done: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
            mine = [one for one in engines if one.ranks == ranks]
            for what in mine:
                if groups:
                    waiting.put(what)
                else:
                    done.put(
                        {
                            "name": what.name,
                            "model": what.model,
                            "ranks": ranks,
                            "fields": dict(what.fields),
                            "outcome": "not run",
                            "reason": f"this machine has {len(self.devices)} GPUs",
                        }
                    )
            for group in groups:
                threading.Thread(target=self._lane, args=(waiting, done, group), daemon=True).start()
            for _one in mine:
                result = done.get()
                self.show(table(result))
                yield result

    def _lane(
        self, waiting: queue.SimpleQueue[Wanted], done: queue.SimpleQueue[dict[str, Any]], group: Sequence[int]
    ) -> None:
        while True:
            try:
                what = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(self.one(what, group))
            except Exception as error:
                # one model that nobody thought of must not cost the others
                head = {"name": what.name, "model": what.model, "ranks": what.ranks, "fields": dict(what.fields)}
                done.put({**head, "outcome": "broken", "reason": f"{type(error).__name__}: {error}"})


def table(result: Mapping[str, Any]) -> list[str]:
    """Lines for a person."""
    lines = [f"{result['name']}: {result['outcome']}" + (f" in {result['seconds']} s" if "seconds" in result else "")]
    if result.get("reason"):
        lines.append(f"  {result['reason']}")
    for one in result.get("comparison") or ():
        off = f"{one['ratio'] - 1:+.2%}{'  BEYOND' if one['beyond'] else ''}"
        lines.append(f"  {one['quantity']:<16} predicted {one['predicted']:>12g}  actual {one['actual']:>12g}  {off}")
    decode = ((result.get("predicted") or {}).get("estimate") or {}).get("decode_ms")
    for one in result.get("answered") or ():
        lines.append(
            f"  {one['batch']:>3} at once, {one['prompt']} in, {one['answer']} out: "
            f"{one['tokens_per_second']} tokens/s, first after {one['first_token_ms']} ms, {one['step_ms']} ms a step"
            + (f" (predicted {decode})" if one["batch"] == 1 and decode else "")
        )
    return lines + [f"  | {line[:220]}" for line in result.get("tail") or ()]


def version_of(python: str) -> str:
    """Ask an interpreter for its vLLM. Raises InputError when it has none that the planner knows."""
    code = "import importlib.metadata as m; print(m.version('vllm'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{python} has no vLLM: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    version = done.stdout.strip()
    engine_versions.of(version)
    return version
