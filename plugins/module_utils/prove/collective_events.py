# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what all_reduce_worker wrote on one host: how far each rank came, and what was measured. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]
SUPERVISOR = -1


def parse(text: str) -> list[Event]:
    """Read the lines; one that is cut off at the end is not counted."""
    found: list[Event] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            found.append(event)
    return found


@dataclass
class Told:
    """The events of one host, sorted. ``last`` is the last event of each local rank."""

    began: Event | None = None
    ended: Event | None = None
    named: Event | None = None
    last: dict[int, Event] = field(default_factory=dict)
    reached: list[Event] = field(default_factory=list)
    sizes: list[Event] = field(default_factory=list)
    pairs: list[Event] = field(default_factory=list)
    wrong: list[Event] = field(default_factory=list)
    failed: dict[int, Event] = field(default_factory=dict)
    joined: set[int] = field(default_factory=set)
    members: Sequence[Mapping[str, Any]] = ()

    @property
    def finished(self) -> bool:
        """Whether every rank of this host came to its end."""
        return bool(self.last) and all(event["event"] == "finished" for event in self.last.values())


def sort(events: Sequence[Event]) -> Told:
    """Sort the events of one host."""
    told = Told()
    lists = {"reached": told.reached, "size": told.sizes, "pair": told.pairs, "wrong": told.wrong}
    for event in events:
        kind, rank = event["event"], event.get("rank", SUPERVISOR)
        if kind == "began":
            told.began = event
        elif kind == "ended":
            told.ended = event
        elif kind == "named":
            told.named = event
        elif kind == "members":
            told.members = event["members"]
        elif kind == "joined":
            told.joined.add(rank)
        elif kind == "failed":
            told.failed[rank] = event
        if kind in lists:
            lists[kind].append(event)
        if rank != SUPERVISOR:
            told.last[rank] = event
    return told


def size_words(size: int) -> str:
    """A size in bytes in the unit that suits it."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.0f} {unit}"
    return f"{size} bytes"


def stage(events: Sequence[Event]) -> str:
    """Say in a few words how far a check is, for the one who waits."""
    told = sort(events)
    if told.pairs:
        return f"measured {len(told.pairs)} pairs"
    if told.sizes:
        last = told.sizes[-1]
        return f"{size_words(last['bytes'])}: {last['bus_gb_s']:.1f} GB/s"
    if any(event["event"] != "started" for event in told.last.values()):
        return "exchanging"
    if told.last:
        return "the ranks meet"
    return "the hosts look for one another" if told.began else "starting"
