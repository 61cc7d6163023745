# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of a roll-out, and how it ended, as text for a terminal. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import columns

HEADER = ("BATCH", "HOST", "INSTANCE", "WHAT")
RESULT = ("HOST", "INSTANCE", "STATE", "FIRST TOKEN", "TOKENS/S")
LONGEST_VALUE = 44
WORDS = {
    "same": "nothing",
    "drained": "taken back into service, where an earlier run left it out",
    "unproven": "checked, since an earlier run changed it and ended before that",
}
NONE = "-"


def plan(found: Mapping[str, Any]) -> str:
    """Show what changes where, a line for each change, in the order of the batches; what stays is counted."""
    number = {host: place for place, group in enumerate(found["batches"], start=1) for host in group}
    rows: list[tuple[str, ...]] = [HEADER]
    order = sorted(found["hosts"], key=lambda host: number.get(host, 0))
    for host in order:
        for one in found["hosts"][host]:
            if one["state"] == "same":
                continue
            lines = [change(entry) for entry in one["changes"]] or [WORDS[one["state"]]]
            rows.append((str(number.get(host, NONE)), host, one["name"], lines[0]))
            rows += [("", "", "", line) for line in lines[1:]]
    same = sum(1 for instances in found["hosts"].values() for one in instances if one["state"] == "same")
    if len(rows) == 1:
        return f"Nothing changes: {same} instances are as they should be."
    lines = columns.aligned(rows)
    return "\n".join([*lines, "", f"{same} instances stay as they are.", *found["warnings"]])


def change(entry: Mapping[str, Any]) -> str:
    """Say what changes in a line."""
    if entry["from"] is None and entry["to"] is None:
        return str(entry["what"])
    return f"{entry['what']}: {_value(entry['from'])} -> {_value(entry['to'])}"


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    return columns.shortened(value if isinstance(value, str) else json.dumps(value, sort_keys=True), LONGEST_VALUE)


def result(record: Mapping[str, Any]) -> str:
    """Show what became of each host that was to change, with what was measured before and after."""
    rows: list[tuple[str, ...]] = [RESULT]
    for host, entry in record["hosts"].items():
        if entry["batch"] is None:
            continue
        for name, one in entry["instances"].items():
            if one.get("state") not in ("change", "unproven"):
                continue
            rows.append(
                (
                    host,
                    name,
                    entry["state"].replace("_", " "),
                    _pair(one, "first_token_seconds", "{:.3f} s"),
                    _pair(one, "tokens_per_second", "{:.1f}"),
                )
            )
    return "\n".join(columns.aligned(rows)) if len(rows) > 1 else ""


def _pair(one: Mapping[str, Any], key: str, form: str) -> str:
    values = [(one.get(when) or {}).get(key) for when in ("before", "after")]
    return " -> ".join(NONE if value is None else form.format(value) for value in values)
