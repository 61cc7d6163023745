# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan report: what other programs read. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

# It rises when a field changes its meaning or goes.
SCHEMA_VERSION = 1


def build(planned: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report of a plan: ``{"schema_version", "hosts": {name: {"gpu_facts", "instances"}}}``.

    ``planned`` is what decide.plan.plan_hosts returns. In the report ``serve_args`` is the list of arguments of
    ``vllm serve``, and facts carry no command lines of other people's programs.
    """
    # hosts of one profile share one object of facts, which is looked at once
    facts = {id(entry["gpu_facts"]): entry["gpu_facts"] for entry in planned.values()}
    public = {key: public_facts(value) for key, value in facts.items()}
    hosts = {
        host: {
            "gpu_facts": public[id(entry["gpu_facts"])],
            "instances": [{**one, "serve_args": argv(one["serve_args"])} for one in entry["instances"]],
        }
        for host, entry in planned.items()
    }
    return {"schema_version": SCHEMA_VERSION, "hosts": hosts}


def to_json(report: Mapping[str, Any]) -> str:
    """The text of the report's file: the same report gives the same bytes."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def argv(serve_args: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Options of vllm serve as its command line takes them, the model first.

    vLLM 0.33.0 reads the same from its configuration file (utils/argparse_utils.py:653-673).
    """
    if not isinstance(serve_args, Mapping):
        return [str(item) for item in serve_args]
    found = [str(serve_args["model"])] if "model" in serve_args else []
    for name, value in serve_args.items():
        if name != "model" and value is not None:
            found.extend(_option(name, value))
    return found


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, Mapping):
        return [f"--{name}", json.dumps(value)]
    if isinstance(value, (list, tuple)):
        return [f"--{name}", *(str(item) for item in value)] if value else []
    return [f"--{name}", str(value)]


def public_facts(gpu_facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a host that may be passed on: programs by their name only, since a command line may hold a secret."""
    devices = [
        {**device, "processes": [_program(one) for one in device["processes"]]} if device.get("processes") else device
        for device in gpu_facts.get("devices") or []
    ]
    return {**gpu_facts, "devices": devices}


def _program(process: Mapping[str, Any]) -> dict[str, Any]:
    words = str(process.get("name") or "").split()
    return {**process, "name": PurePosixPath(words[0]).name if words else None}


def rejected(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Host and instance of every refusal, in the order of the report."""
    return [
        (host, one["name"])
        for host, entry in report["hosts"].items()
        for one in entry["instances"]
        if one.get("rejected")
    ]
