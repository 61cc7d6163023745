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
UNCHANGED, WAITING, CHANGING, DONE, LEFT = "unchanged", "waiting", "changing", "done", "left"
FAILED, RESTORED, NOT_RESTORED, UNSETTLED, LOST = "failed", "restored", "not_restored", "unsettled", "lost"
# What a step makes of the host's state; steps that are not here leave it.
STATE_AFTER = {"begun": CHANGING, "done": DONE, "failed": FAILED, "restored": RESTORED}
# After these a host is left as it is, and what came of it is told by what was done at the gateways: outcome().
SETTLING = frozenset(("left", "not_restored"))
STEPS = (
    "begun",
    "draining",
    "drained",
    "measured",
    "prepared",
    "switching",
    "switched",
    "warmed",
    "verified",
    "ready",
    "undraining",
    "serving",
    "done",
    "failed",
    "retracting",
    "retracted",
    "withdrawn",
    "restoring",
    "proven",
    "back",
    "left",
    "restored",
    "not_restored",
    "resumed",
)
# What the gateways were told last; between the first word and the last one nobody knows.
OUT, IN, BETWEEN = "out", "in", "between"
SERVICE = {
    "draining": BETWEEN,
    "drained": OUT,
    "retracted": OUT,
    "withdrawn": OUT,
    "undraining": BETWEEN,
    "retracting": BETWEEN,
    "serving": IN,
    "back": IN,
    "resumed": IN,
}
# What to do with a host that failed, and all that run an engine with it.
STAY, FINISH, LEAVE, PUT_BACK = "stay", "finish", "leave", "put_back"
# In the middle of something, or left there.
OPEN = frozenset((CHANGING, FAILED))
# Nothing failed on a host in one of these, unless there is a reason.
SOUND = frozenset((DONE, WAITING, UNCHANGED))
RUNNING, ENDED, STOPPED = "running", "done", "stopped"


def text(record: Mapping[str, Any]) -> str:
    """Write a record: the same content gives the same bytes."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read(written: str, path: str) -> dict[str, Any]:
    """Read a record; raises InputError for what is none."""
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
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
                "head": any(not one.get("node_rank") for one in found),
                "reason": None,
                "steps": [],
                "instances": {one["name"]: _instance(one) for one in found},
            }
            for host, found in hosts.items()
        },
    }


def _instance(one: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("state", "changes", "wanted", "old", "serves", "begun")
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
        known = entry["reason"]
        entry["reason"] = known if known and known.endswith(reason) else f"{known} Then: {reason}" if known else reason
    for instance, learnt in (instances or {}).items():
        entry["instances"].setdefault(instance, {}).update(learnt)
    if name == "failed" and way(found, host) in (FINISH, STAY):
        entry["state"] = DONE if _has(entry, ("switching",)) else WAITING
    if name in SETTLING:
        entry["state"] = outcome(found, host)
        # What another host of the engine settled before may be known better now.
        for other in _group(found, host):
            if _has(found["hosts"][other], SETTLING) and found["hosts"][other]["state"] not in OPEN:
                found["hosts"][other]["state"] = outcome(found, other)
    return found


def told(record: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record after steps that could not be written when they were made; arguments of :func:`step`."""
    found = dict(record)
    for event in events:
        found = step(found, **event)
    return found


def lines(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say what is known of hosts by steps that could not be written, where the record is gone."""
    return [
        f"{event['host']}: {event['name'].replace('_', ' ')}" + (f": {event['reason']}" if event["reason"] else "")
        for event in events
    ]


def _group(record: Mapping[str, Any], host: str) -> list[str]:
    return [host, *record["hosts"][host].get("together", ())]


def _names_of(entry: Mapping[str, Any]) -> list[str]:
    return [one["step"] for one in entry["steps"]]


def _has(entry: Mapping[str, Any], names: Iterable[str]) -> bool:
    return not set(names).isdisjoint(_names_of(entry))


def _still_out(entry: Mapping[str, Any]) -> bool:
    """Whether a host that an earlier run left out of service was not taken back by this one."""
    left = any(one.get("state") == "drained" for one in entry["instances"].values())
    return left and not _has(entry, ("resumed",))


def _attempt(record: Mapping[str, Any], host: str) -> int:
    """Count how often the engine was begun with; a back-out begins again."""
    return max(_names_of(record["hosts"][one]).count("begun") for one in _group(record, host))


def _reached(record: Mapping[str, Any], host: str, attempt: int) -> list[str]:
    """List the steps of a host since it was begun with for the nth time; none where it was not."""
    names = _names_of(record["hosts"][host])
    starts = [place for place, name in enumerate(names) if name == "begun"]
    return names[starts[attempt - 1] :] if len(starts) >= attempt > 0 else []


def goes_on(record: Mapping[str, Any], host: str) -> bool:
    """Tell whether the batch of a host may begin: every host of the batches before it is changed, and nothing failed.

    In its own batch a host goes on whatever the others came to, so that an engine is begun with on all of its hosts.
    """
    number = record["hosts"][host]["batch"]
    if number is None:
        return False
    for entry in record["hosts"].values():
        if entry["batch"] is not None and entry["batch"] < number and (entry["state"] != DONE or entry["reason"]):
            return False
        if entry["state"] in (NOT_RESTORED, UNSETTLED) or _still_out(entry):
            return False
    return True


def behind(record: Mapping[str, Any], host: str) -> list[str]:
    """Name the hosts that run an engine with this one and did not come as far as its last step."""
    attempt = _attempt(record, host)
    names = _names_of(record["hosts"][host])
    return [
        other
        for other in record["hosts"][host]["together"]
        if names and names[-1] not in _reached(record, other, attempt)
    ]


def answered(record: Mapping[str, Any], host: str) -> list[str]:
    """Name the instances that were seen to answer before the change, by this host or by the one with the server."""
    return sorted(
        name
        for name in record["hosts"][host]["instances"]
        if any(record["hosts"][one]["instances"].get(name, {}).get("answered") for one in _group(record, host))
    )


def way(record: Mapping[str, Any], host: str) -> str:
    """Say what to do with a host that failed: the same for all that run an engine with it.

    An engine that serves the new on all of its hosts is finished with; one that was touched on none, also by no earlier
    run, is left as it was and given requests again; any other is put back. Nothing is done to one of which that it was
    begun with could not be written down on all of its hosts.
    """
    attempt = _attempt(record, host)
    reached = [_reached(record, one, attempt) for one in _group(record, host)]
    if all("serving" in steps for steps in reached):
        return FINISH
    instances = [one for name in _group(record, host) for one in record["hosts"][name]["instances"].values()]
    if any("switching" in steps for steps in reached):
        return PUT_BACK
    if not any(one.get("begun") for one in instances):
        return LEAVE
    # Begun with by an earlier run, which may have left it anywhere.
    return PUT_BACK if all(reached) else STAY


def gateways_told(record: Mapping[str, Any], host: str) -> bool:
    """Tell whether a gateway was told anything of the engine of a host since it was done or begun with."""
    for one in _group(record, host):
        names = _names_of(record["hosts"][one])
        since = max((place for place, name in enumerate(names) if name in ("begun", "done")), default=0)
        if "draining" in names[since:]:
            return True
    return False


def unkept(record: Mapping[str, Any], host: str) -> bool:
    """Tell whether a host was changed, and what serves could not be kept: its mark then stays for the next run."""
    return _has(record["hosts"][host], ("switching",)) and not _has(record["hosts"][host], ("done",))


def service(record: Mapping[str, Any], host: str) -> str | None:
    """Say whether the engine of a host gets requests, by what the gateways were told last; None where it was nothing.

    Only those of its hosts that have the server are asked.
    """
    group = _group(record, host)
    heads = [one for one in group if record["hosts"][one].get("head", True)] or group
    last = {
        next((SERVICE[name] for name in reversed(_names_of(record["hosts"][one])) if name in SERVICE), None)
        for one in heads
    }
    return last.pop() if len(last) == 1 else BETWEEN


def outcome(record: Mapping[str, Any], host: str) -> str:
    """Say what became of a host after a failure, of what was done to its engine."""
    now = service(record, host)
    if now in (OUT, BETWEEN):
        return NOT_RESTORED if now == OUT else UNSETTLED
    entries = [record["hosts"][one] for one in _group(record, host)]
    if any(_has(entry, ("restoring",)) for entry in entries):
        return RESTORED
    return DONE if any(_has(entry, ("switching",)) for entry in entries) else LEFT


def to_back_out(record: Mapping[str, Any], host: str) -> bool:
    """Tell whether a host that was changed is to be put back, since the roll-out failed elsewhere.

    An engine is put back on all of its hosts or on none.
    """
    failed = any(entry["state"] not in SOUND or entry["reason"] for entry in record["hosts"].values())
    changed = all(record["hosts"][one]["state"] == DONE for one in _group(record, host))
    return failed and record["settings"].get("back_out") == "all" and changed


def conclude(record: Mapping[str, Any], time: str) -> dict[str, Any]:
    """Return the record at its end. A host that is in the middle of a step by then has been lost."""
    found = copy.deepcopy(dict(record))
    for entry in found["hosts"].values():
        if entry["state"] in OPEN or (_still_out(entry) and not entry["reason"]):
            last = entry["steps"][-1]["step"] if entry["steps"] else "nothing"
            entry["state"] = LOST
            entry["reason"] = entry["reason"] or f"It could not be reached any more after the step {last}."
    touched = [entry for entry in found["hosts"].values() if entry["batch"] is not None]
    whole = all(entry["state"] == DONE for entry in touched)
    sound = not any(entry["reason"] for entry in found["hosts"].values())
    found["state"] = ENDED if whole and sound else STOPPED
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


def _stood_still(record: Mapping[str, Any], host: str) -> bool:
    """Whether an instance of a host, or of its engine elsewhere, did not run or was left out of service before."""
    entries = [record["hosts"][one] for one in _group(record, host)]
    instances = [one for entry in entries for one in entry["instances"].values()]
    return any(one.get("serves") is False or one.get("begun") for one in instances)


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
    if states.get(UNSETTLED):
        told.append(
            f"Not known to be in service or out of it, since a gateway did not follow: {_names(states[UNSETTLED])}; "
            "look at the gateways, and run this again."
        )
    lost = {host: service(record, host) == OUT for host in states.get(LOST, ())}
    for out, words in ((True, "and out of service"), (False, "and not known to be in service or out of it")):
        names = [host for host, is_out in lost.items() if is_out == out]
        if names:
            told.append(
                f"Lost while being changed, {words}: {_names(names)}; when it is back, run this again, which carries "
                "on from what is there."
            )
    if states.get(DONE):
        told.append(f"Changed, and serving: {_names(states[DONE])}.")
    for state, words in ((LEFT, "Not changed"), (WAITING, "Not begun")):
        down = [host for host in states.get(state, ()) if _stood_still(record, host)]
        serving = [host for host in states.get(state, ()) if host not in down]
        if serving:
            told.append(f"{words}, and serving as before: {_names(serving)}.")
        if down:
            told.append(f"{words}, and not seen to serve before either: {_names(down)}.")
    return "\n".join(told)
