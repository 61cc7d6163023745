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

    ``wanted`` has ``name``, ``digest``, ``settings``, ``environment`` and ``release`` (name of the folder). ``found``
    is what the module instance_state says of it, with ``settings`` and ``environment`` read.
    """
    process = found["process"] or {}
    good = found["good"] or {}
    state = CHANGE
    if process.get("digest") == wanted["digest"] == found["written_digest"]:
        state = UNPROVEN
        if good.get("digest") == wanted["digest"] or (found["proven"] and not found["change"]):
            state = DRAINED if found["change"] else SAME
    changes = [
        *_difference("release", found["release"], wanted["release"]),
        *_differences("setting", found["settings"], wanted["settings"]),
        *_differences("environment", found["environment"], wanted["environment"]),
    ]
    if state == CHANGE and not changes:
        changes = [{"what": _reason(process, found), "from": None, "to": None}]
    return {
        "name": wanted["name"],
        "state": state,
        "changes": changes if state == CHANGE else [],
        "serves": bool(process),
        "begun": bool(found["change"]),
        "several_hosts": bool(wanted.get("several_hosts")),
        "address": {"host": found["settings"].get("host", "127.0.0.1"), "port": found["settings"].get("port", 8000)},
        "baseline": (found["change"] or {}).get("baseline") or _receipt_baseline(good),
        "wanted": {key: wanted.get(key) for key in ("digest", "release")}
        | {key: wanted["settings"].get(key) for key in ("model", "revision")},
        "old": {key: found.get(key) for key in ("release", "written_digest")}
        | {key: found["settings"].get(key) for key in ("model", "revision")},
        "good": found["good"],
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
        "several_hosts": False,
        "baseline": None,
        "wanted": back,
        "old": now,
        "good": found["good"],
    }


def back_problems(comparisons: Mapping[str, Sequence[Mapping[str, Any]]], asked: Sequence[str]) -> list[str]:
    """Say which of the instances that a person ``asked`` for cannot go back; of none asked for, when none can."""
    found = [
        f"{host}: {one['name']} cannot be rolled back: {one['problem']}."
        for host, instances in comparisons.items()
        for one in instances
        if one["problem"]
    ]
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
    return "the unit, the files of the model or the token"


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


def batches(hosts: Sequence[str], begun: Sequence[str], canary: Any, batch: Any) -> list[list[str]]:
    """Divide the hosts that change: first the canary, then the others in batches.

    ``canary`` is a number of hosts (0 for none) or a list of names; ``batch`` a number or a share of all that change.
    Hosts that an earlier run had ``begun`` with are out of service already, and come first. Raises InputError.
    """
    if isinstance(canary, Sequence) and not isinstance(canary, str):
        unknown = sorted(set(map(str, canary)) - set(hosts))
        if unknown and hosts:
            raise InputError(
                f"rollout_canary names {', '.join(unknown)}, where nothing changes; name hosts of {', '.join(hosts)}."
            )
        first = [host for host in hosts if host in canary]
        others = [host for host in hosts if host not in first]
        ordered = first + sorted(others, key=lambda host: host not in begun)
    else:
        if not re.fullmatch(r"\d+", str(canary).strip()):
            raise InputError(f"rollout_canary is {canary!r}; write a number of hosts, or a list of their names.")
        ordered = sorted(hosts, key=lambda host: host not in begun)
        first = ordered[: int(canary)]
    step = size(batch, len(hosts), "rollout_batch")
    rest = ordered[len(first) :]
    found = [first] if first else []
    return found + [rest[place : place + step] for place in range(0, len(rest), step)]


def replica_problems(
    groups: Sequence[Sequence[str]],
    comparisons: Mapping[str, Sequence[Mapping[str, Any]]],
    elsewhere: Mapping[str, int],
) -> tuple[list[str], list[str]]:
    """Say which batches take all replicas of a model out of service at once: faults, and what cannot be helped.

    ``comparisons`` are those of all hosts of the play, by host, ``elsewhere`` counts the others that an instance is on.
    Replicas are instances of one name.
    """
    holders: dict[str, list[str]] = {}
    for host, found in comparisons.items():
        for one in found:
            holders.setdefault(one["name"], []).append(host)
    faults, warnings = [], []
    for name, hosts in sorted(holders.items()):
        touched = {
            host for host in hosts for one in comparisons[host] if one["name"] == name and one["state"] in TOUCHED
        }
        if elsewhere.get(name):
            continue
        if len(hosts) == 1 and touched:
            warnings.append(f"{name} runs on {hosts[0]} alone, so nobody answers for it while it is changed.")
        elif touched and any(set(hosts) <= set(group) & touched for group in groups):
            faults.append(
                f"A batch takes all {len(hosts)} replicas of {name} out of service at once ({', '.join(hosts)}); write "
                "a smaller rollout_batch or rollout_canary."
            )
    return faults, warnings


def plan(
    comparisons: Mapping[str, Sequence[Mapping[str, Any]]],
    canary: Any,
    batch: Any,
    elsewhere: Mapping[str, int],
) -> dict[str, Any]:
    """Make the plan of a roll-out of the comparisons of every host of the play.

    ``elsewhere`` counts by name the hosts outside of the play (--limit) that the inventory gives an instance. An engine
    over several hosts is refused where it changes. Raises InputError with a sentence for each fault.
    """
    faults = [
        f"{host}: {one['name']} is an engine over several hosts, which a roll-out does not change yet; change it with "
        "the playbook deploy."
        for host, found in comparisons.items()
        for one in found
        if one["several_hosts"] and one["state"] in TOUCHED
    ]
    hosts = [host for host, found in comparisons.items() if any(one["state"] in TOUCHED for one in found)]
    begun = [host for host in hosts if any(one["begun"] for one in comparisons[host])]
    groups = batches(hosts, begun, canary, batch)
    more, warnings = replica_problems(groups, comparisons, elsewhere)
    if faults or more:
        raise InputError("\n".join([*faults, *more]))
    return {
        "batches": groups,
        "drained": [host for host, found in comparisons.items() if any(one["state"] == DRAINED for one in found)],
        "hosts": {host: list(found) for host, found in comparisons.items()},
        "alone": sorted(name for name, count in _holders(comparisons, elsewhere).items() if count == 1),
        "warnings": warnings,
    }


def _holders(comparisons: Mapping[str, Sequence[Mapping[str, Any]]], elsewhere: Mapping[str, int]) -> dict[str, int]:
    names = [one["name"] for found in comparisons.values() for one in found]
    return {name: names.count(name) + elsewhere.get(name, 0) for name in names}


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
