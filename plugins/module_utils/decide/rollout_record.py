# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The record of a roll-out: what was wanted, and what became of each host, step by step. Pure.

docs/operations.md says what each field is. A change of a field's meaning raises SCHEMA_VERSION.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

SCHEMA_VERSION = 1
ROLLOUT, ROLLBACK = "rollout", "rollback"
# States of a host.
UNCHANGED, WAITING, CHANGING, DONE = "unchanged", "waiting", "changing", "done"
FAILED, RESTORED, NOT_RESTORED, LOST = "failed", "restored", "not_restored", "lost"
# What a step makes of the host's state; steps that are not here leave it.
STATE_AFTER = {
    "begun": CHANGING,
    "done": DONE,
    "failed": FAILED,
    "restored": RESTORED,
    "not_restored": NOT_RESTORED,
}
STEPS = (
    "begun",
    "drained",
    "measured",
    "switched",
    "warmed",
    "verified",
    "ready",
    "done",
    "failed",
    "restored",
    "not_restored",
)
# In the middle of something, or left there.
OPEN = frozenset((CHANGING, FAILED))
RUNNING, ENDED, STOPPED = "running", "done", "stopped"


def text(record: Mapping[str, Any]) -> str:
    """Write a record: the same content gives the same bytes."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read(written: str, path: str) -> dict[str, Any]:
    """Read a record; raises InputError for what is none."""
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION or "hosts" not in found:
        raise InputError(f"{path} is no record of a roll-out; name another file in rollout_record, or remove it.")
    return found


def begin(
    kind: str,
    batches: Sequence[Sequence[str]],
    hosts: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: Mapping[str, Any],
    by: Mapping[str, str],
    time: str,
    together: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Begin a record. ``hosts`` are the comparisons of every host, ``settings`` what bounds the roll-out.

    ``together`` names, by host, those that run an engine together that changes (:func:`rollout.partners`).
    """
    number = {host: place for place, group in enumerate(batches) for host in group}
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "by": dict(by),
        "started": time,
        "finished": None,
        "state": RUNNING,
        "reason": None,
        "settings": dict(settings),
        "batches": [list(group) for group in batches],
        "hosts": {
            host: {
                "state": WAITING if host in number else UNCHANGED,
                "batch": number.get(host),
                "together": [name for name in (together or {}).get(host, ()) if name != host],
                "reason": None,
                "steps": [],
                "instances": {one["name"]: _instance(one) for one in found},
            }
            for host, found in hosts.items()
        },
    }


def _instance(one: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("state", "changes", "wanted", "old")
    return {key: one.get(key) for key in keys} | {"before": None, "after": None, "worse": []}


def step(
    record: Mapping[str, Any],
    host: str,
    name: str,
    time: str,
    reason: str | None = None,
    instances: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the record after a step of a host; ``instances`` has what was learnt of each, such as ``after``."""
    found = copy.deepcopy(dict(record))
    entry = found["hosts"][host]
    entry["steps"].append({"step": name, "time": time} | ({"reason": reason} if reason else {}))
    entry["state"] = STATE_AFTER.get(name, entry["state"])
    # What failed first is why; what then failed of the way back is told beside it.
    if reason:
        entry["reason"] = reason if not entry["reason"] or name == "failed" else f"{entry['reason']} Then: {reason}"
    for instance, learnt in (instances or {}).items():
        entry["instances"].setdefault(instance, {}).update(learnt)
    return found


def goes_on(record: Mapping[str, Any], host: str) -> bool:
    """Tell whether the batch of a host may begin: every host of the batches before it has been changed."""
    number = record["hosts"][host]["batch"]
    if number is None:
        return False
    return all(
        entry["state"] == DONE
        for entry in record["hosts"].values()
        if entry["batch"] is not None and entry["batch"] < number
    )


def not_ready(record: Mapping[str, Any], host: str) -> list[str]:
    """Name the hosts that run an engine with this one and are not seen to be good."""
    return [
        other
        for other in record["hosts"][host]["together"]
        if "ready" not in [step["step"] for step in record["hosts"][other]["steps"]]
    ]


def to_back_out(record: Mapping[str, Any], host: str) -> bool:
    """Tell whether a host that was changed is to be put back, since the roll-out failed elsewhere."""
    failed = any(entry["state"] not in (DONE, WAITING, UNCHANGED) for entry in record["hosts"].values())
    return failed and record["settings"].get("back_out") == "all" and record["hosts"][host]["state"] == DONE


def conclude(record: Mapping[str, Any], time: str) -> dict[str, Any]:
    """Return the record at its end. A host that is in the middle of a step by then has been lost."""
    found = copy.deepcopy(dict(record))
    for entry in found["hosts"].values():
        if entry["state"] in OPEN:
            last = entry["steps"][-1]["step"] if entry["steps"] else "nothing"
            entry["state"] = LOST
            entry["reason"] = entry["reason"] or f"It could not be reached any more after the step {last}."
    touched = [entry for entry in found["hosts"].values() if entry["batch"] is not None]
    found["state"] = ENDED if all(entry["state"] == DONE for entry in touched) else STOPPED
    found["reason"] = sentence(found) if found["state"] == STOPPED else None
    found["finished"] = time
    return found


def reason_of(failure: Mapping[str, Any]) -> str:
    """Say why a task failed, of its result: the first line of its message, or of those of its failed items."""
    items = [one for one in failure.get("results") or [] if isinstance(one, Mapping) and one.get("failed")]
    lines = [(str(one.get("msg") or "").splitlines() or [""])[0].strip() for one in items or [failure]]
    return " ".join(line for line in lines if line) or "A task failed without a message; see the output of the play."


def _names(found: Iterable[str]) -> str:
    return ", ".join(sorted(found))


def sentence(record: Mapping[str, Any]) -> str:
    """Say how a roll-out ended, in a few sentences."""
    states: dict[str, list[str]] = {}
    for host, entry in record["hosts"].items():
        states.setdefault(entry["state"], []).append(host)
    word = {ROLLOUT: "roll-out", ROLLBACK: "roll-back"}[record["kind"]]
    count = sum(1 for entry in record["hosts"].values() if entry["batch"] is not None)
    if record["state"] == ENDED:
        return f"The {word} is done: {count} hosts changed." if count else f"The {word} has nothing to change."
    told = [f"The {word} was stopped."]
    told += [
        f"{host}: {record['hosts'][host]['reason']}"
        for host in sorted(record["hosts"])
        if record["hosts"][host]["reason"]
    ]
    if states.get(RESTORED):
        told.append(f"Back at the last good state, which serves: {_names(states[RESTORED])}.")
    if states.get(NOT_RESTORED):
        told.append(f"Not back, out of service, and to be looked at: {_names(states[NOT_RESTORED])}.")
    if states.get(LOST):
        told.append(
            f"Lost while being changed, and out of service: {_names(states[LOST])}; when it is back, run this again, "
            "which carries on from what is there."
        )
    if states.get(DONE):
        told.append(f"Changed, and serving: {_names(states[DONE])}.")
    if states.get(WAITING):
        told.append(f"Not begun, and serving as before: {_names(states[WAITING])}.")
    return "\n".join(told)
