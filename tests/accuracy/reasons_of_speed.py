"""Why some public rows cannot be predicted: what can be told from the rows themselves, without any prediction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Figures of one command and benchmark that differ by more than this are not of one engine.
SAME = 0.10
# What tells one benchmark of one command, and what a figure that was copied to another page keeps
ONE = ("hw", "version", "cmd", "input_tokens", "requests", "source", "concurrency")
COPIED = ("cmd", "total_tps", "input_tokens", "requests")


def _key(row: Mapping[str, Any], *fields: str) -> tuple[Any, ...]:
    return tuple(row.get(field) for field in fields)


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """For each row why it is no measurement of its command, or None."""
    figures: dict[tuple[Any, ...], list[float]] = {}
    places: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        figures.setdefault(_key(row, *ONE), []).append(row["total_tps"])
        places.setdefault(_key(row, *COPIED), set()).add(row["hw"])
    found: list[str | None] = []
    for row in rows:
        found.append(_reason(row, figures[_key(row, *ONE)], places[_key(row, *COPIED)]))
    return found


def _reason(row: Mapping[str, Any], same: Sequence[float], hosts: set[str]) -> str | None:
    if len(hosts) > 1:
        return f"the same figure is given for {len(hosts)} kinds of hosts: one of them is a copy"
    if max(same) > min(same) * (1 + SAME):
        return (
            f"{len(same)} figures from {min(same):.0f} to {max(same):.0f} for this command and these requests: what "
            "was changed between them (load, engine, checkpoint) is not in the row"
        )
    page = _page_model(row["source"])
    if page and not re.search(page, row["cmd"], re.IGNORECASE):
        return "the command names another model than its page"
    return None


def _page_model(source: str) -> str | None:
    """Read the model of a page from "owner/repo@commit:.../gpt-oss-20b/h100.md", as a pattern; "x" is any number."""
    match = re.search(r"/performance-lab/([^/]+)/", source)
    if not match:
        return None
    return re.escape(match.group(1)).replace(r"\.x", r"\.\d")
