# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of a host, put together from named texts, live or recorded. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    facts,
    instance_sources,
    redact,
    sources,
    surroundings,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.systemd import parse_show
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import engine_report

SCHEMA_VERSION = 1
# "1732874001.123456 vllm[812]: text", as journalctl --output=short-unix --no-hostname prints it
STAMPED = re.compile(r"^(\d{6,}\.\d+) (?:([^\s:\[]+)(?:\[\d+\])?: )?(.*)$")
# Lines of a journal that are kept: the last starts with their tracebacks.
MOST_LINES = 1500
NEEDED_KEYS = ("now", "disks", "compiler", "tokens", "instances", "late")


def build(outputs: sources.Outputs, source: str) -> dict[str, Any]:
    """Put the evidence of a host together; ``source`` is live or recorded. Secrets are taken out of journals."""
    described = _described(_text(outputs, instance_sources.INSTANCES))
    units = parse_show(_text(outputs, instance_sources.UNITS))
    told: Mapping[str, Any] = described["instances"]
    journals = {match[1]: name for name in outputs if (match := instance_sources.JOURNAL.match(name))}
    names = sorted({*told, *journals})
    own = frozenset(pid for one in told.values() for pid in one.get("pids") or ())
    kernel = _text(outputs, instance_sources.KERNEL).strip() or _text(outputs, instance_sources.KERNEL_RING)
    return {
        "schema_version": SCHEMA_VERSION,
        "source": source,
        "now": described["now"],
        "monotonic": described.get("monotonic"),
        "gpu_facts": facts.build_facts(outputs, source, own),
        "kernel": _redacted(kernel.splitlines()),
        "fabric_manager": journal(_text(outputs, instance_sources.FABRIC))["lines"],
        "clock_synchronized": _synchronized(_text(outputs, instance_sources.CLOCK)),
        "disks": described["disks"],
        "shm": surroundings.host_data(_text(outputs, sources.HOST), [])["shm"],
        "compiler": described["compiler"],
        "tokens": described["tokens"],
        "instances": [
            {
                **told.get(name, {}),
                "name": name,
                "unit": units.get(f"vllm@{name}.service") or {},
                "journal": journal(instance_sources.quiet(_text(outputs, journals[name])) if name in journals else ""),
            }
            for name in names
        ],
        "late": [*described["late"], *_late(outputs)],
        "described": bool(described["now"]),
    }


def journal(text: str) -> dict[str, Any]:
    """Read a journal: its lines without stamps and secrets, and the second (of the epoch) of the last one of vLLM."""
    lines, last, start = [], None, None
    for line in text.splitlines():
        match = STAMPED.match(line)
        lines.append(match[3] if match else line)
        if match:
            if match[2] == "systemd" and match[3].startswith("Starting "):
                start = float(match[1])
            elif match[2] != "systemd":
                last = float(match[1])
    return {"lines": _redacted(lines[-MOST_LINES:]), "last": last, "start": start}


def plain(lines: Sequence[str]) -> list[str]:
    """Lines as evidence: without the prefix of vLLM's logger."""
    return [engine_report.PREFIX.sub("", line, count=1).strip() for line in lines]


def _redacted(lines: Sequence[str]) -> list[str]:
    return redact.redacted("\n".join(lines)).split("\n") if lines else []


def _text(outputs: sources.Outputs, name: str) -> str:
    output = outputs.get(name)
    return output.text if output and output.status in (sources.OK, sources.FAILED) else ""


def _late(outputs: sources.Outputs) -> list[str]:
    return [
        f"{name}: no answer in time"
        for name, output in outputs.items()
        if output.status == sources.TIMEOUT and name not in sources.COMMANDS
    ]


def _described(text: str) -> dict[str, Any]:
    """instances.json with every key, whatever a damaged or hand-made recording holds."""
    empty: dict[str, Any] = {
        "now": None,
        "disks": [],
        "compiler": None,
        "tokens": [],
        "instances": {},
        "late": [],
    }
    if not text.strip():
        return empty
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {**empty, "late": [f"{instance_sources.INSTANCES} is not JSON and was not used; record it again"]}
    if not isinstance(found, dict):
        return empty
    kinds = {name: type(value) for name, value in empty.items() if name not in ("now", "compiler")}
    merged = {**empty, **found}
    for name, kind in kinds.items():
        if not isinstance(merged[name], kind):
            merged[name] = empty[name]
    if not isinstance(merged["now"], (int, float)):
        merged["now"] = None
    merged["instances"] = {str(name): one for name, one in merged["instances"].items() if isinstance(one, dict)}
    return merged


def _synchronized(text: str) -> bool | None:
    match = re.search(r"^NTPSynchronized=(yes|no)$", text, re.MULTILINE)
    return match[1] == "yes" if match else None
