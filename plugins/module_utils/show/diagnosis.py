# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the doctor found over a fleet, as data and as text for a terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import diagnose, verdict
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, NOTE, SEVERITIES, WARN

SCHEMA_VERSION = 1
WIDTH = 118
MARKS = {FAIL: "x", WARN: "!", NOTE: "-"}
LINES_SHOWN = 3


def report(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Judge the answers of the module doctor_info by host; hosts that gave none have a ``problem``."""
    gathered = {host: answer["evidence"] for host, answer in results.items() if _gathered(answer)}
    compared = diagnose.between(gathered)
    hosts: dict[str, dict[str, Any]] = {}
    for host, answer in results.items():
        if host not in gathered:
            said = " ".join(str((answer or {}).get("msg") or "it was not asked").split())
            state = "unreachable" if (answer or {}).get("unreachable") else "unknown"
            hosts[host] = {"state": state, "problem": said, "verdicts": [], "instances": []}
            continue
        found = gathered[host]
        hosts[host] = {
            "state": "reached" if found["source"] == "live" else "recorded",
            "problem": None,
            "verdicts": verdict.in_order([*_judged(found), *compared[host]]),
            "instances": [one["name"] for one in found["instances"]],
        }
    verdicts = [one for entry in hosts.values() for one in entry["verdicts"]]
    return {
        "schema_version": SCHEMA_VERSION,
        "hosts": hosts,
        "summary": {
            "hosts": len(hosts),
            "lost": sorted(host for host, entry in hosts.items() if entry["problem"]),
            **{severity: sum(1 for one in verdicts if one["severity"] == severity) for severity in SEVERITIES},
        },
    }


def _judged(found: Mapping[str, Any]) -> list[verdict.Verdict]:
    """Judge a host. Evidence of a shape that nobody thought of is one host's line, not the end of the report."""
    try:
        return diagnose.host(found)
    except Exception as error:
        what = f"The evidence of this host could not be judged ({type(error).__name__}: {error}); record it again"
        return [verdict.of_check("late", None, [what], what=what)]


def _gathered(answer: Mapping[str, Any] | None) -> bool:
    return isinstance((answer or {}).get("evidence"), Mapping)


def text(found: Mapping[str, Any]) -> str:
    """Show a report: by host, the worst first, each with evidence and remedies."""
    lines: list[str] = []
    for host, entry in found["hosts"].items():
        if entry["problem"]:
            lines += _wrapped(f"{host}: {entry['state']}: {entry['problem']}", "", "  ")
            continue
        instances = ", ".join(entry["instances"]) or "no instances"
        shown = [one for one in entry["verdicts"] if one["severity"] != NOTE]
        if not shown:
            lines.append(f"{host}: nothing is wrong ({instances})")
        else:
            lines.append(f"{host} ({instances})")
        for one in entry["verdicts"]:
            lines += _verdict(one)
    return "\n".join([*lines, "", _summary(found["summary"])])


def _verdict(one: Mapping[str, Any]) -> list[str]:
    where = f"{one['instance']}: " if one["instance"] else ""
    lines = _wrapped(f"{one['severity'].upper()} {where}{one['title']}. {one['cause']}", f"  {MARKS[one['severity']]} ")
    for line in one["evidence"][:LINES_SHOWN]:
        lines += _wrapped(line, "      | ", "      |   ")
    for number, remedy in enumerate(one["remedies"], 1):
        lines += _wrapped(remedy, f"      {number}. ", "         ")
    if one.get("help"):
        lines.append(f"      see {one['help']}")
    return lines


def _wrapped(words: str, first: str, rest: str = "      ") -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    ) or [first]


def _summary(summary: Mapping[str, Any]) -> str:
    hosts = "host" if summary["hosts"] == 1 else "hosts"
    notes = f", {summary[NOTE]} notes" if summary[NOTE] else ""
    return (
        f"{summary['hosts']} {hosts}, {len(summary['lost'])} without an answer; {summary[FAIL]} failures, "
        f"{summary[WARN]} warnings{notes}."
    )
