# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a roll-out changes, in which order, and whether the changed instance is as good as the old one. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

# What becomes of an instance: nothing; taken back into service (an earlier run ended before it did that); checked and
# taken back (changed, and not seen to serve yet); changed.
SAME, DRAINED, UNPROVEN, CHANGE = "same", "drained", "unproven", "change"
TOUCHED = frozenset((UNPROVEN, CHANGE))
SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
# Written by the role serve into every environment file; it differs whenever anything does.
DIGEST = "GPUFLEET_DIGEST"


def compare(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a roll-out has to do with an instance.

    ``wanted`` has ``name``, ``digest``, ``settings``, ``environment``, ``release`` (name of the folder), and of an
    engine over several hosts ``nodes``, their names, and ``node_rank``, the place of this one among them. ``found`` is
    what the module instance_state says of it, with ``settings`` and ``environment`` read.
    """
    process = found["process"] or {}
    good = found["good"] or {}
    changes = [
        *_difference("release", found["release"], wanted["release"]),
        *_differences("setting", found["settings"], wanted["settings"]),
        *_differences("environment", found["environment"], wanted["environment"]),
    ]
    # an earlier version of this collection wrote digests of another form
    digest = found["earlier_digest"] if found.get("earlier_digest") and not changes else wanted["digest"]
    state = CHANGE
    if process.get("digest") == digest == found["written_digest"]:
        state = UNPROVEN
        if good.get("digest") == digest or (found["proven"] and not found["change"]):
            state = DRAINED if found["change"] else SAME
    if state == CHANGE and not changes:
        changes = [{"what": _reason(process, found), "from": None, "to": None}]
    return {
        "name": wanted["name"],
        "state": state,
        "changes": changes if state == CHANGE else [],
        "serves": bool(process),
        "begun": bool(found["change"]),
        "nodes": list(wanted.get("nodes") or ()),
        "node_rank": wanted.get("node_rank") or 0,
        "address": {"host": found["settings"].get("host", "127.0.0.1"), "port": found["settings"].get("port", 8000)},
        "baseline": (found["change"] or {}).get("baseline") or _receipt_baseline(good),
        "wanted": {key: wanted.get(key) for key in ("digest", "release")}
        | {key: wanted["settings"].get(key) for key in ("model", "revision")},
        "old": {key: found.get(key) for key in ("release", "written_digest")}
        | {key: found["settings"].get(key) for key in ("model", "revision")},
        # what it runs from, where that can be kept
        "runs": process.get("digest") if process.get("digest") == found["written_digest"] else None,
        "good": found["good"],
        "previous": found.get("previous"),
    }


def compare_back(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a roll-back has to do with an instance, of what the module instance_state says of it.

    ``problem`` is the reason why there is nothing to go back to, or empty.
    """
    good, previous = found["good"] or {}, found["previous"] or {}
    now = {key: good.get(key) for key in ("release", "model", "revision", "digest")}
    back = {key: previous.get(key) for key in now}
    changes = [change for key in ("release", "model", "revision") for change in _difference(key, now[key], back[key])]
    problem = "no state before this one is kept" if not previous else previous["problem"]
    return {
        "name": name,
        "state": SAME if problem else CHANGE,
        "changes": changes or [{"what": "settings", "from": good.get("time"), "to": previous.get("time")}],
        "problem": problem,
        "serves": bool(found["process"]),
        "begun": bool(found["change"]),
        "nodes": list((previous or good).get("nodes") or ()),
        "node_rank": (previous or good).get("node_rank") or 0,
        "baseline": None,
        "wanted": back,
        "old": now,
        "good": found["good"],
    }


def back_problems(comparisons: Mapping[str, Sequence[Mapping[str, Any]]], asked: Sequence[str]) -> list[str]:
    """Say which of the instances that a person ``asked`` for cannot go back; of none asked for, when none can.

    An engine over several hosts that can on some of them only is always said.
    """
    told = {
        (host, one["name"]): f"{host}: {one['name']} cannot be rolled back: {one['problem']}."
        for host, instances in comparisons.items()
        for one in instances
        if one["problem"]
    }
    found = list(told.values())
    halves = [
        told[(other, one["name"])]
        for instances in comparisons.values()
        for one in instances
        for other in one["nodes"]
        if not one["problem"] and (other, one["name"]) in told
    ]
    if halves:
        return sorted(set(halves))
    named = {one["name"] for instances in comparisons.values() for one in instances}
    missing = [f"{name} runs on none of these hosts; correct rollout_only." for name in asked if name not in named]
    some = any(not one["problem"] for instances in comparisons.values() for one in instances)
    if missing or (found and (asked or not some)):
        return missing + found
    return [] if some else ["There is no instance on these hosts; name others in vllm_hosts or --limit."]


def _reason(process: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if not process:
        return "it does not run"
    if process.get("digest") != found["written_digest"]:
        return "it runs from other settings than those in its files"
    return "the user or the folders of the service, the files of the model or the token"


def _receipt_baseline(good: Mapping[str, Any]) -> dict[str, Any] | None:
    measured = good.get("measured") or {}
    return {"source": "receipt", "errors": [], **measured} if any(measured.values()) else None


def _difference(what: str, old: Any, new: Any) -> list[dict[str, Any]]:
    return [] if old == new else [{"what": what, "from": old, "to": new}]


def _differences(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        change
        for key in sorted({*old, *new} - {DIGEST})
        for change in _difference(f"{kind} {key}", old.get(key), new.get(key))
    ]


def size(written: Any, hosts: int, variable: str) -> int:
    """Read the size of a batch, a number or a share of ``hosts`` such as 25%; at least 1."""
    share = SHARE.fullmatch(str(written).strip())
    if share and 0 < float(share[1]) <= 100:
        return max(1, math.floor(hosts * float(share[1]) / 100))
    if re.fullmatch(r"[1-9]\d*", str(written).strip()):
        return int(str(written).strip())
    raise InputError(f"{variable} is {written!r}; write a number of hosts from 1, or a share of them such as 25%.")


def partners(comparisons: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[str]]:
    """By host that changes, all that change with it, itself among them: they run an engine together that changes."""
    touched = {
        host: [one for one in found if one["state"] in TOUCHED]
        for host, found in comparisons.items()
        if any(one["state"] in TOUCHED for one in found)
    }
    groups = {host: {host} for host in touched}
    for host, found in touched.items():
        for one in found:
            merged = set().union(*(groups[name] for name in {host, *one["nodes"]} if name in groups))
            groups.update(dict.fromkeys(merged, merged))
    return {host: [name for name in touched if name in group] for host, group in groups.items()}


def whole_engines(
    comparisons: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, list[dict[str, Any]]]:
    """Return the comparisons with every engine over several hosts touched on all of them, or on none.

    Raises InputError where one of its hosts is not in the play.
    """
    touched: dict[tuple[str, str], list[str]] = {}
    for host, found in comparisons.items():
        for one in found:
            if one["state"] in TOUCHED:
                missing = [other for other in one["nodes"] if other not in comparisons]
                if missing:
                    raise InputError(
                        f"{one['name']} runs on {', '.join(one['nodes'])} as one engine, and {', '.join(missing)} is "
                        "not in this play; name all of them in --limit."
                    )
                for other in one["nodes"]:
                    touched.setdefault((other, one["name"]), []).append(host)
    found_all: dict[str, list[dict[str, Any]]] = {}
    for host, found in comparisons.items():
        found_all[host] = []
        for one in found:
            others = touched.get((host, one["name"]))
            along = {}
            if others and one["state"] not in TOUCHED:
                what = f"nothing, but it runs an engine with {', '.join(others)}"
                along = {"state": UNPROVEN, "changes": [{"what": what, "from": None, "to": None}]}
            found_all[host].append({**one, **along})
    return found_all


def ways_back(comparisons: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, list[str]]]:
    """By host and instance that is touched, the digests of the states to come back to, best first.

    First what runs now, if it is kept before the change; then the last good state. Where what is wanted is the last
    good state of some hosts of an engine only, their one before that is what the others call good.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for host, instances in comparisons.items():
        for one in instances:
            if one["state"] not in TOUCHED:
                continue
            engine = [
                other
                for name in (one["nodes"] or [host])
                for other in comparisons.get(name, ())
                if other["name"] == one["name"]
            ]
            kept_by_all = all(_digest(other, "good") == _digest(other, "wanted") for other in engine)
            ahead = not kept_by_all and _digest(one, "good") == _digest(one, "wanted")
            runs = one.get("runs") if one["state"] == CHANGE and one.get("runs") != _digest(one, "wanted") else None
            digests = [runs, _digest(one, "previous" if ahead else "good")]
            if any(digests):
                found.setdefault(host, {})[one["name"]] = [digest for digest in digests if digest]
    return found


def _digest(one: Mapping[str, Any], which: str) -> str | None:
    return (one.get(which) or {}).get("digest")


def batches(
    hosts: Sequence[str],
    begun: Sequence[str],
    canary: Any,
    batch: Any,
    together: Mapping[str, Sequence[str]] | None = None,
) -> list[list[str]]:
    """Divide the hosts that change: first the canary, then the others in batches.

    ``canary`` is a number of hosts (0 for none) or a list of names; ``batch`` a number or a share of all that change.
    Those of ``begun`` are out of service already, and come first. Those of
    :func:`partners` are in one batch, which may be larger for it. Raises InputError.
    """
    if isinstance(canary, Sequence) and not isinstance(canary, str):
        unknown = sorted(set(map(str, canary)) - set(hosts))
        if unknown and hosts:
            raise InputError(
                f"rollout_canary names {', '.join(unknown)}, where nothing changes; name hosts of {', '.join(hosts)}."
            )
        wanted = {name for host in hosts if host in canary for name in (together or {}).get(host, [host])}
        first = [host for host in hosts if host in wanted]
        others = [host for host in hosts if host not in first]
        ordered = first + sorted(others, key=lambda host: host not in begun)
    else:
        if not re.fullmatch(r"\d+", str(canary).strip()):
            raise InputError(f"rollout_canary is {canary!r}; write a number of hosts, or a list of their names.")
        ordered = sorted(hosts, key=lambda host: host not in begun)
        first = _taken(ordered, int(canary), together or {})
    step = size(batch, len(hosts), "rollout_batch")
    found = [first] if first else []
    rest = [host for host in ordered if host not in first]
    while rest:
        found.append(_taken(rest, step, together or {}))
        rest = [host for host in rest if host not in found[-1]]
    return found


def _taken(hosts: Sequence[str], count: int, together: Mapping[str, Sequence[str]]) -> list[str]:
    """Take hosts from the front, each with its partners, until there are as many as wanted."""
    taken: list[str] = []
    for host in hosts:
        if len(taken) >= count:
            break
        taken += [name for name in together.get(host, [host]) if name not in taken]
    return taken


def replica_problems(
    groups: Sequence[Sequence[str]],
    comparisons: Mapping[str, Sequence[Mapping[str, Any]]],
    elsewhere: Mapping[str, int],
) -> tuple[list[str], list[str]]:
    """Say which batches take all replicas of a model out of service at once: faults, and what cannot be helped.

    ``comparisons`` are those of all hosts of the play, by host, ``elsewhere`` counts the others that an instance is on.
    Replicas are instances of one name; an engine over several hosts is one.
    """
    faults, warnings = [], []
    for name, replicas in sorted(_replicas(comparisons).items()):
        mine = {host: one for host, found in comparisons.items() for one in found if one["name"] == name}
        touched = {host for host, one in mine.items() if one["state"] in TOUCHED}
        if elsewhere.get(name) or not touched:
            continue
        hosts = ", ".join(host for replica in replicas for host in replica)
        if len(replicas) == 1:
            warnings.append(f"{name} runs on {hosts} alone, so nobody answers for it while it is changed.")
            continue
        serving = {replica for replica in replicas if all(_serves(mine.get(host)) for host in replica)}
        for group in groups:
            taken = {replica for replica in replicas if set(replica) & set(group) & touched}
            if serving and serving <= taken:
                faults.append(_fault(name, replicas, serving, taken, hosts))
                break
            serving |= taken
    return faults, warnings


def _serves(one: Mapping[str, Any] | None) -> bool:
    """Whether an instance of a replica runs and was not taken out of service by an earlier run."""
    return one is not None and one.get("serves", True) and not one["begun"]


def _fault(
    name: str,
    replicas: Sequence[tuple[str, ...]],
    serving: set[tuple[str, ...]],
    taken: set[tuple[str, ...]],
    hosts: str,
) -> str:
    if len(taken) == len(replicas):
        return (
            f"A batch takes all {len(replicas)} replicas of {name} out of service at once ({hosts}); write a smaller "
            "rollout_batch or rollout_canary."
        )
    last = ", ".join(host for replica in sorted(serving) for host in replica)
    down = ", ".join(host for replica in replicas if replica not in serving for host in replica)
    return (
        f"A batch takes the last replicas of {name} that serve out of service ({last}), while {down} is down; write a "
        f"smaller rollout_batch, or a rollout_canary with {down} in it."
    )


def _replicas(comparisons: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[tuple[str, ...]]]:
    """By name of an instance, the hosts of each of its replicas."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for host, instances in comparisons.items():
        for one in instances:
            hosts = tuple(one["nodes"]) or (host,)
            if hosts not in found.setdefault(one["name"], []):
                found[one["name"]].append(hosts)
    return found


def plan(
    comparisons: Mapping[str, Sequence[Mapping[str, Any]]],
    canary: Any,
    batch: Any,
    elsewhere: Mapping[str, int],
) -> dict[str, Any]:
    """Make the plan of a roll-out of the comparisons of every host of the play.

    ``elsewhere`` counts by name the hosts outside of the play (--limit) that the inventory gives an instance. Raises
    InputError with a sentence for each fault.
    """
    comparisons = whole_engines(comparisons)
    together = partners(comparisons)
    touched = {host: [one for one in comparisons[host] if one["state"] in TOUCHED] for host in together}
    # Replicas that are down come first, then those that an earlier run began with, which may serve yet.
    down = {host for host, found in touched.items() if not all(one.get("serves", True) for one in found)}
    out = {host for host, found in touched.items() if not all(map(_serves, found))}
    hosts = sorted(together, key=lambda host: not down.intersection(together[host]))
    begun = [host for host in hosts if out.intersection(together[host])]
    groups = batches(hosts, begun, canary, batch, together)
    faults, warnings = replica_problems(groups, comparisons, elsewhere)
    if faults:
        raise InputError("\n".join(faults))
    return {
        "batches": groups,
        "together": together,
        "touched": {
            host: [one["name"] for one in found if one["state"] in TOUCHED]
            for host, found in comparisons.items()
            if host in together
        },
        "back": ways_back(comparisons),
        "drained": [host for host, found in comparisons.items() if any(one["state"] == DRAINED for one in found)],
        "hosts": {host: list(found) for host, found in comparisons.items()},
        "alone": sorted(
            name for name, replicas in _replicas(comparisons).items() if len(replicas) == 1 and not elsewhere.get(name)
        ),
        "warnings": warnings,
    }


def verdict(old: Mapping[str, Any] | None, new: Mapping[str, Any], bounds: Mapping[str, float]) -> list[str]:
    """Say why a changed instance is worse than the bounds allow; nothing when it is good.

    ``old`` and ``new`` have ``errors`` (sentences), ``first_token_seconds`` and ``tokens_per_second`` (medians, None
    where the kind of request has none). ``bounds`` has ``max_ttft_ratio``, ``min_tokens_ratio`` and ``ttft_slack``,
    seconds by which the first token may be late whatever the ratio.
    """
    found = (
        [f"{len(new['errors'])} of its requests failed, the first with: {new['errors'][0]}"] if new["errors"] else []
    )
    before, now = (old or {}).get("first_token_seconds"), new.get("first_token_seconds")
    if before and now and now > before * bounds["max_ttft_ratio"] and now - before > bounds["ttft_slack"]:
        found.append(
            f"the first token came after {now:.3f} s and before the change after {before:.3f} s, which is "
            f"{now / before:.2f} times as long (rollout_max_ttft_ratio {bounds['max_ttft_ratio']:g})"
        )
    before, now = (old or {}).get("tokens_per_second"), new.get("tokens_per_second")
    if before and now and now < before * bounds["min_tokens_ratio"]:
        found.append(
            f"it gives {now:.1f} tokens/s and before the change {before:.1f}, which is {now / before:.2f} of that "
            f"(rollout_min_tokens_ratio {bounds['min_tokens_ratio']:g})"
        )
    return found
