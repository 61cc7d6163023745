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
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import loglines

SCHEMA_VERSION = 1
# Lines of a journal that are kept: the last starts with their tracebacks, of which each rank prints its own.
MOST_LINES = 3000
# Lines that are looked through for those.
MOST_SEARCHED = 100_000
# "-- Boot 1f2e --", "-- No entries --"
MARKS = re.compile(r"^-- .* --$|^-- (?:Journal|Logs) begins? at ")
HUSHED = re.compile(r"\b(?:INFO|DEBUG) \d\d-\d\d |\bINFO: ")
NEEDED_KEYS = ("now", "disks", "compiler", "tokens", "instances", "late")


# Kinds of what instances.json says of an instance and of its server; None is what was not found.
SHAPE: Mapping[str, type] = {
    "settings": dict,
    "process": dict,
    "pids": list,
    "receipt": dict,
    "check": dict,
    "model": dict,
    "listener": dict,
    "server": dict,
    "program": str,
}
SERVER: Mapping[str, type | tuple[type, ...]] = {"models": dict, "load": dict, "request": dict, "health": int}


def build(outputs: sources.Outputs, source: str) -> dict[str, Any]:
    """Put the evidence of a host together; ``source`` is live or recorded. Secrets are taken out of journals."""
    described = _described(_text(outputs, instance_sources.INSTANCES))
    units = parse_show(_text(outputs, instance_sources.UNITS))
    told: Mapping[str, Any] = described["instances"]
    journals = {match[1]: name for name in outputs if (match := instance_sources.JOURNAL.fullmatch(name))}
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
                "journal": journal(
                    instance_sources.quiet(_text(outputs, journals[name])) if name in journals else "", described["now"]
                ),
            }
            for name in names
        ],
        "late": [*described["late"], *_late(outputs)],
        "described": bool(described["now"]),
    }


def journal(text: str, now: float | None = None) -> dict[str, Any]:
    """Read a journal: its lines without stamps and secrets, and the second (of the epoch) of the last one of vLLM.

    Every format of journalctl is read: a person records what the shell gives.
    """
    lines, last, start = [], None, None
    # a progress bar redraws its line
    for raw in telling(text.replace("\r", "\n").split("\n")):
        one = loglines.entry(raw, now)
        lines.append(loglines.shortened(one.text))
        if one.at is None or not one.exact:
            continue
        if one.source == "systemd":
            start = one.at if one.text.startswith("Starting ") else start
        else:
            last = one.at
    return {"lines": _redacted(lines), "last": last, "start": start}


def telling(lines: Sequence[str]) -> list[str]:
    """At most MOST_LINES of a journal: its end, and before that what is no message of levels INFO or DEBUG."""
    found = [line for line in lines[-MOST_SEARCHED:] if line and not MARKS.match(line)]
    if len(found) <= MOST_LINES:
        return found
    half = MOST_LINES // 2
    loud = [line for line in found[:-half] if not HUSHED.search(line[:200])]
    return [*loud[-half:], *found[-half:]]


def plain(lines: Sequence[str]) -> list[str]:
    """Lines as evidence: without the prefix of vLLM's logger."""
    return loglines.plain(lines)


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
    merged["instances"] = {
        str(name): _of_instance(one) for name, one in merged["instances"].items() if isinstance(one, dict)
    }
    merged["disks"] = [
        one
        for one in merged["disks"]
        if isinstance(one, dict)
        and isinstance(one.get("path"), str)
        and all(_is_number(one.get(key)) for key in ("total_mib", "free_mib"))
    ]
    merged["late"] = [str(one) for one in merged["late"]]
    if not _is_number(merged.get("monotonic")):
        merged["monotonic"] = None
    return merged


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_instance(one: Mapping[str, Any]) -> dict[str, Any]:
    """An instance as far as its values are of the kind that they should be; others are as if they had not been read."""
    found = {name: value for name, value in one.items() if _fits(value, SHAPE.get(name))}
    settings = found.get("settings")
    if settings is not None:
        found["settings"] = {str(name): str(value) for name, value in settings.items() if value is not None}
    found["pids"] = [pid for pid in found.get("pids") or [] if isinstance(pid, int)]
    process = found.get("process")
    if process and not _is_number(process.get("started")):
        found["process"] = {**process, "started": None}
    model = found.get("model")
    if model:
        found["model"] = {
            "state": model.get("state"),
            "path": str(model.get("path") or "?"),
            "missing": [str(name) for name in model.get("missing") or []] if _fits(model.get("missing"), list) else [],
        }
    server = found.get("server")
    if server:
        found["server"] = {name: value for name, value in server.items() if _fits(value, SERVER.get(name))}
        models = found["server"].get("models")
        if models and not isinstance(models.get("offered"), dict):
            found["server"]["models"] = None
    check = found.get("check")
    if check:
        findings = check.get("findings")
        found["check"] = {
            **check,
            "findings": [entry for entry in findings if isinstance(entry, dict)] if isinstance(findings, list) else [],
        }
    return found


def _fits(value: Any, kind: type | tuple[type, ...] | None) -> bool:
    return value is None or kind is None or isinstance(value, kind)


def _synchronized(text: str) -> bool | None:
    match = re.search(r"^NTPSynchronized=(yes|no)$", text, re.MULTILINE)
    return match[1] == "yes" if match else None
