"""All-reduce over this machine's GPUs: the program, the job and the judge of the role nccl_check."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    collective_check,
    collective_jobs,
    collectives,
    gpu_speed,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    all_reduce_worker,
    collective_events,
    collective_probes,
    collective_report,
)

HOST = "localhost"
# The steps of the check, and some between them, to see where bandwidth begins.
MORE_SIZES = (1024, 16 * 1024, 256 * 1024, 4 * 1024**2)
# Beyond the check's own limit, as the module has it.
GRACE_SECONDS = 10
LOG_LINES = 300
# What is run, and the variables that make it so. NCCL reads them.
CASES: Sequence[tuple[str, Mapping[str, str]]] = (
    ("as it is", {}),
    ("P2P off", {"NCCL_P2P_DISABLE": "1"}),
    ("P2P and shared memory off", {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}),
)


def layout(devices: Sequence[int], ranks: int) -> dict[str, Any]:
    """An instance with a rank on each GPU, or with ``ranks`` ranks on the processor."""
    return {
        "name": "lab",
        "accelerator": "cuda" if devices else "cpu",
        "tensor_parallel_size": len(devices) or ranks,
        "pipeline_parallel_size": 1,
        "devices": list(devices),
        "nodes": [{"host": HOST, "devices": list(devices)}],
        "environment": {},
    }


@dataclass(frozen=True)
class Ran:
    """A run: what the role knows of it, and NCCL's own log, which the role does not ask for."""

    outcome: collective_report.Outcome
    log: Sequence[str]


def run(job: Mapping[str, Any], python: str) -> Ran:
    """Run the program of the check under its time limit; what was expected is not in the outcome yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # a file for each rank: on standard output NCCL's lines could be cut by the events
        logging = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,ENV,GRAPH", "NCCL_DEBUG_FILE": f"{folder}/nccl.%p"}
        job = {**job, "environment": {**job["environment"], **logging}} if job["backend"] == "nccl" else job
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [python, all_reduce_worker.__file__, str(folder / "job.json"), "0"]
        with (
            (folder / "events").open("w") as events,
            (folder / "errors").open("w") as errors,
            # a session of its own, so that ranks that hang end with it
            subprocess.Popen(command, stdout=events, stderr=errors, start_new_session=True) as process,
        ):
            try:
                result = "success" if process.wait(job["seconds"] + GRACE_SECONDS) == 0 else "exit-code"
            except subprocess.TimeoutExpired:
                result = "timeout"
                os.killpg(process.pid, signal.SIGKILL)
        log = [line for file in sorted(folder.glob("nccl.*")) for line in _lines(file)]
        outcome = collective_report.Outcome(
            job=job,
            place=0,
            events=collective_events.parse((folder / "events").read_text(errors="replace")),
            errors=[*_lines(folder / "errors"), *(line for line in log if "NCCL WARN" in line)],
            result=result,
        )
        return Ran(outcome, log)


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines()


# "gpu1:812:830 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM"
_VIA = re.compile(r"Channel \d+(?:/\d+)? : \S+ -> \S+(?: \[\w+\])? via (\S+)")


def transports(log: Sequence[str]) -> dict[str, int]:
    """Count how many channels NCCL sent each way."""
    return dict(Counter(match[1] for line in log if (match := _VIA.search(line))))


def judged(outcome: collective_report.Outcome) -> dict[str, Any]:
    """What the role would say: ``state`` (ok, warn or fail), ``measured``, ``findings``."""
    found = collective_report.findings(outcome)
    severities = {one["severity"] for one in found}
    return {
        "state": "fail" if "fail" in severities else "warn" if "warn" in severities else "ok",
        "measured": collective_report.measured(outcome),
        "findings": found,
        "errors": list(outcome.errors[-40:]),
    }


def without_p2p(gpu_facts: Mapping[str, Any]) -> float | None:
    """What the tables say of these GPUs through the host's memory, in 10**9 bytes a second."""
    known = gpu_speed.speeds_of(str(gpu_facts["devices"][0]["name"])) if gpu_facts["devices"] else None
    return round(collectives.Wire(collectives.Link("pcie_host", p2p=False), *known).gb_s(), 1) if known else None


def check(
    gpu_facts: Mapping[str, Any],
    devices: Sequence[int],
    *,
    ranks: int = 2,
    python: str = sys.executable,
    seconds: int = 90,
    cases: Sequence[tuple[str, Mapping[str, str]]] = CASES,
) -> list[dict[str, Any]]:
    """Run every case; one that fails is an answer too. Bandwidths are in 10**9 bytes a second."""
    wishes = collective_check.Wishes(seconds=seconds)
    instance = layout(devices, ranks)
    expected = collective_check.expectation(instance, gpu_facts, (), wishes)
    job = collective_check.job(instance, {}, "lab", expected, wishes)
    more = MORE_SIZES if devices else ()
    job = {**job, "sizes": sorted({*job["sizes"], *more})}
    results = []
    for words, environment in cases:
        own = {**job, "environment": {**job["environment"], **environment}}
        ran = run(own, python)
        outcome = replace(
            ran.outcome,
            expected_gb_s=expected.gb_s,
            expected_reason=expected.reason,
            surroundings=collective_jobs.surroundings(gpu_facts),
            warn_below=wishes.warn_below,
            fail_below=wishes.fail_below,
        )
        found = judged(outcome)
        search = collective_probes.Search(outcome, found["findings"])
        while probe := search.next():
            search.done.append(collective_probes.tried(probe, run(probe.job, python).outcome))
        found["findings"] = search.concluded()
        results.append(
            {
                "case": words,
                "environment": dict(environment),
                "transports": transports(ran.log),
                **found,
                "log": ran.log[:LOG_LINES],
            }
        )
    return results


def table(result: Mapping[str, Any]) -> list[str]:
    """Lines for a person: sizes, times, bandwidth, and the verdict."""
    lines = [f"all-reduce, {result['case']}: {result['state']}"]
    measured = result["measured"]
    if result["transports"]:
        lines.append("  " + ", ".join(f"{count} channels via {way}" for way, count in result["transports"].items()))
    if measured:
        lines.append(f"  {collective_report.summary(measured)} ({measured['expected_reason']})")
        lines.append(f"  torch {measured['torch']}, NCCL {measured['nccl']}")
        for one in measured["sizes"]:
            size = collective_events.size_words(one["bytes"])
            lines.append(f"  {size:>9}  {one['us']:>10.1f} us  {one['bus_gb_s']:>8.2f} GB/s")
    for one in result["findings"]:
        lines += [f"  {line}" for line in f"{one['severity']}: {collective_report.sentence(one)}".splitlines()]
    return lines
