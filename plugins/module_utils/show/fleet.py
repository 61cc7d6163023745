# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The status of a fleet as data and as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import columns, words

SCHEMA_VERSION = 1
HEADER = (
    "HOST",
    "INSTANCE",
    "MODEL",
    "RELEASE",
    "LAYOUT",
    "STATE",
    "UP",
    "RUN",
    "WAIT",
    "KV USE",
    "KV TOKENS",
    "PREDICTED",
    "WARMED UP",
)
RIGHT = frozenset((6, 7, 8, 9, 10, 11))
NONE = "-"
LONGEST_MODEL = 28
LONGEST_NAME = 24
LEGEND = (
    "KV tokens: size of the KV cache as the engine reported it; predicted: how far the plan was off. A * after the "
    "time of the warm-up: another process runs now."
)


def report(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put the answers of the module status_info together, by host; those of hosts that gave none as ``problem``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "hosts": {host: _host(answer or {}) for host, answer in results.items()},
    }


def _host(answer: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(answer.get("instances"), list):
        return {"state": "reached", "problem": None, "instances": answer["instances"]}
    said = " ".join(str(answer.get("msg") or "it was not asked").split())
    return {"state": "unreachable" if answer.get("unreachable") else "unknown", "problem": said, "instances": []}


def table(found: Mapping[str, Any]) -> str:
    """Show a report: a line for each instance, one for each host without, and what is wrong below."""
    rows: list[tuple[str, ...]] = [HEADER]
    for host, entry in found["hosts"].items():
        rows.extend(_row(host, one) for one in entry["instances"])
        if not entry["instances"]:
            blank = ["no instances" if entry["problem"] is None else entry["state"], *[NONE] * 7]
            rows.append((host, *[NONE] * 4, *blank))
    lines = columns.aligned(rows, RIGHT)
    return "\n".join([*lines, "", *_remarks(found), _summary(found), LEGEND])


def _row(host: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    cache = next((entry for entry in one["comparison"] if entry["quantity"] == "kv_cache_tokens"), None)
    usage = one["kv_cache_usage"]
    return (
        host,
        columns.shortened(one["name"], LONGEST_NAME),
        columns.shortened(_model(one["model"]), LONGEST_MODEL),
        one["release"] or NONE,
        _layout(one["layout"]) if one["layout"] else NONE,
        one["state"],
        duration(one["uptime_seconds"]),
        _number(one["running"]),
        _number(one["waiting"]),
        NONE if usage is None else f"{usage:.0%}",
        words.count(cache["actual"]) if cache else NONE,
        f"{cache['ratio'] - 1:+.1%}" if cache else NONE,
        _warmed(one),
    )


def _layout(layout: Mapping[str, Any]) -> str:
    """Say the sizes and the devices, and which of several hosts this is."""
    nodes = layout.get("nodes") or ()
    place = f", host {(layout.get('node_rank') or 0) + 1} of {len(nodes)}" if len(nodes) > 1 else ""
    return f"{words.sizes(layout)} {words.devices(layout)}{place}"


def _model(model: str | None) -> str:
    """A path is told apart by its end."""
    return NONE if not model else model.rstrip("/").rsplit("/", 1)[-1] if model.startswith("/") else model


def _warmed(one: Mapping[str, Any]) -> str:
    if not one["warmed_at"]:
        return "never"
    return one["warmed_at"][:16].replace("T", " ") + ("" if one["warm"] else "*")


def _number(number: int | None) -> str:
    return NONE if number is None else str(number)


def duration(seconds: int | None) -> str:
    """Say a time in its two largest units: 45s, 12m, 3h 20m, 12d 4h."""
    if seconds is None:
        return NONE
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes}m" if minutes else f"{seconds}s"


def _remarks(found: Mapping[str, Any]) -> Sequence[str]:
    lines = [f"! {host}: {entry['problem']}" for host, entry in found["hosts"].items() if entry["problem"]]
    for host, entry in found["hosts"].items():
        for one in entry["instances"]:
            if one["state"] in ("failed", "restarting", "waiting"):
                lines.append(f"! {host}: {one['name']} is {one['state']}; see journalctl -u {one['unit']} there.")
            lines.extend(
                f"! {host}: {one['name']}: {entry['quantity']} was predicted as {entry['predicted']:g} and is "
                f"{entry['actual']:g}."
                for entry in one["comparison"]
                if entry["beyond"]
            )
    return [*lines, ""] if lines else lines


def _summary(found: Mapping[str, Any]) -> str:
    hosts = found["hosts"].values()
    instances = [one for entry in hosts for one in entry["instances"]]
    serving = sum(1 for one in instances if one["state"] == "serving")
    lost = sum(1 for entry in hosts if entry["problem"])
    several = "host" if len(hosts) == 1 else "hosts"
    return f"{len(hosts)} {several}, {lost} without an answer; {len(instances)} instances, {serving} serving."
