"""What the lab does on its node, step by step, and what it makes of the outputs. No step runs here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HOST = "gpu1"
NAME = "llama-8b"
PORT = 8000
# Of the model's folder: vLLM reads no more of it than the plan.
_ENTRY: Mapping[str, Any] = {"name": NAME, "port": PORT}
_RECAP = re.compile(r"(\w+)=(\d+)")
# What kernels are compiled with, in the order in which the role engine takes it: the machine's toolkit, and the
# compiler that comes as a wheel.
TOOLKITS = "/usr/local/cuda*"
COMPILER = "/opt/vllm/releases/*/lib/python3*/site-packages/nvidia/cu1*/bin"


@dataclass(frozen=True)
class Step:
    """A run of a playbook on the node: its inventory's models, options, and what is looked at afterwards."""

    name: str
    playbook: str
    models: Sequence[Mapping[str, Any]] = ()
    options: Sequence[str] = ()
    # that the step is wrong when it changes something
    unchanged: bool = False
    receipts: bool = False
    # folders, by patterns, that the node does not have during the step
    hidden: Sequence[str] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


def entry(model: str, **fields: Any) -> dict[str, Any]:
    """An instance of the inventory; nothing but its name, model and port, and what is given."""
    return {**_ENTRY, "model": model, **fields}


def steps(model: str) -> dict[str, Step]:
    """All steps by name, in their order; `load` and `kill` are no playbooks and come between."""
    first = [entry(model)]
    changed = [entry(model, max_model_len=16384, max_num_seqs=128)]
    two = [
        entry(model, max_model_len=32768, shared_gpus=True, gpu_memory_utilization=0.45),
        {
            **entry(model, max_model_len=16384, shared_gpus=True, gpu_memory_utilization=0.4, kv_cache_dtype="fp8"),
            "name": f"{NAME}-fp8",
            "port": PORT + 1,
        },
    ]
    # the GPU is the first one's alone again
    alone = [*first, {"name": two[1]["name"], "model": model, "state": "absent"}]
    found = [
        Step("plan", "plan", first),
        Step("check", "deploy", first, ("--check",)),
        Step("deploy", "deploy", first, receipts=True),
        Step("unchanged", "deploy", first, unchanged=True),
        Step("status", "status", first, unchanged=True),
        Step("doctor", "doctor", first, unchanged=True),
        Step("setting", "deploy", changed, receipts=True),
        Step("back", "deploy", first, receipts=True),
        Step("two", "deploy", two, receipts=True),
        Step("doctor-two", "doctor", two, unchanged=True),
        Step("compiler", "deploy", alone, receipts=True, hidden=(TOOLKITS,)),
        Step("without", "deploy", alone, receipts=True, hidden=(TOOLKITS, COMPILER)),
        Step("teardown", "teardown", first, ("-e", "teardown_confirm=true")),
    ]
    return {one.name: one for one in found}


def inventory(models: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The inventory of a step: the node itself, where Ansible runs."""
    host = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    return {"all": {"hosts": {HOST: host}, "vars": {**variables, "vllm_models": [dict(one) for one in models]}}}


def recap(output: str) -> dict[str, int]:
    """The numbers of Ansible's last recap line of the node; none where it did not come that far."""
    lines = [line for line in output.splitlines() if re.match(rf"{HOST}\s*:\s*ok=", line)]
    return {name: int(number) for name, number in _RECAP.findall(lines[-1])} if lines else {}


def message(output: str) -> str:
    """What the failed task said, as far as one line of a table holds it."""
    found = re.search(r"^\s*msg: (?:[|>]-?\n)?(.+?)(?=\n\s*\w+:|\n\n|\Z)", output[output.find("fatal:") :], re.M | re.S)
    return " ".join(found.group(1).split()).strip("'\"")[:300] if "fatal:" in output and found else ""


def judged(step: Step, status: int, recapped: Mapping[str, int]) -> str:
    """``ok``, or what is wrong with a step."""
    if status != 0:
        return f"exit status {status}"
    if step.unchanged and recapped.get("changed", 0):
        return f"changed={recapped['changed']}, where nothing should have"
    return "ok"


def rows(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each step: name, result, seconds, changed, a remark."""
    found = []
    for one in results:
        changed = one.get("recap", {}).get("changed")
        found.append(
            [
                str(one["step"]),
                str(one["result"]),
                f"{one['seconds']:.0f}",
                "" if changed is None else str(changed),
                str(one.get("remark") or ""),
            ]
        )
    return found


def comparison_rows(receipts: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Predicted and actual of each receipt, by its name: quantity, predicted, actual, off by."""
    found = []
    for name, receipt in receipts.items():
        for one in receipt.get("comparison") or ():
            off = f"{one['ratio'] - 1:+.2%}" if one.get("ratio") else ""
            found.append([name, one["quantity"], f"{one['predicted']:,g}", f"{one['actual']:,g}", off])
    return found


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def page(results: Sequence[Mapping[str, Any]], receipts: Mapping[str, Mapping[str, Any]]) -> str:
    """The lab's results as Markdown."""
    loads = [(one["step"], load) for one in results for load in one.get("loads", ())]
    parts = [
        table(["step", "result", "seconds", "changed", "remark"], rows(results)),
        table(["receipt", "quantity", "predicted", "actual", "off by"], comparison_rows(receipts)),
        table(
            ["after", "at once", "prompt", "answer", "tokens/s", "failed"],
            [
                [step, *(str(load[key]) for key in ("at_once", "prompt", "answer", "tokens_per_second", "failed"))]
                for step, load in loads
            ],
        ),
    ]
    return "\n".join(parts)


def dumped(document: Any) -> str:
    """JSON for a file."""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
