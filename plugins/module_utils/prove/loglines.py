# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lines of a log taken apart: when, by whom, how loud, and what is said. Pure.

Two layers: what journald or dmesg put around a line (:func:`entry`), and what vLLM, Python, torch and NCCL put before
their words (:func:`line`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

# A longer line is data, not words: its head and its tail are kept.
LONGEST = 4000
HEAD = 3000
# "Nov 23 20:31:07" has no zone and no year: it may be off by the clock's zone.
DAY = 86400.0

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SOURCE = r"(?:(?P<source>[^\s:\[]+)(?:\[\d+\])?: )"
# journalctl --output=short-unix, with and without --no-hostname
_UNIX = re.compile(rf"^(?P<unix>\d{{9,}}\.\d+) (?:{_SOURCE}|\S+ {_SOURCE.replace('source', 'source2')})?(?P<text>.*)$")
# journalctl's default, short-precise, and the rest of syslog: "Nov 23 20:31:07 gpu01 vllm[812]: text"
_SHORT = re.compile(
    rf"^(?P<month>{'|'.join(MONTHS)}) {{1,2}}(?P<day>\d{{1,2}}) (?P<time>\d\d:\d\d:\d\d)(?:\.\d+)? \S+ {_SOURCE}"
    r"(?P<text>.*)$"
)
# --output=short-iso(-precise), rsyslog's RFC 5424 file format, short-full ("Mon 2026-11-23 20:31:07 UTC")
_ISO = re.compile(
    r"^(?:[A-Z][a-z]{2} )?(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:[.,]\d+)? ?"
    rf"(?P<zone>Z|UTC|[+-]\d\d:?\d\d|[A-Z]{{3,4}})? (?:\S+ )?{_SOURCE}(?P<text>.*)$"
)
# dmesg, and journalctl --output=short-monotonic
_UPTIME = re.compile(rf"^\[ *(?P<uptime>\d+\.\d+)\] (?:\S+ {_SOURCE})?(?P<text>.*)$")
# dmesg -T
_READABLE = re.compile(
    rf"^\[[A-Z][a-z]{{2}} (?P<month>{'|'.join(MONTHS)}) {{1,2}}(?P<day>\d{{1,2}}) (?P<time>\d\d:\d\d:\d\d)"
    r" (?P<year>\d{4})\] (?P<text>.*)$"
)
# Text that dmesg or a recording puts before what journald already stamped.
_KERNEL = re.compile(r"^(?:\S+ )?kernel: ")


@dataclass(frozen=True)
class Entry:
    """A line of a log without its stamp: ``at`` is the second of the epoch, ``exact`` whether year and zone are "
    "sure."""

    text: str
    source: str | None = None
    at: float | None = None
    exact: bool = False


def entry(line: str, now: float | None = None, booted: float | None = None) -> Entry:
    """Take a line of journalctl or dmesg apart; ``now`` gives the year, ``booted`` the begin of the uptime."""
    first = line[:1]
    if first.isdigit():
        match = _UNIX.match(line)
        if match:
            source = match["source"] or match["source2"]
            return Entry(match["text"], source, float(match["unix"]), True)
    if first == "{" and '"MESSAGE"' in line:
        return _json(line)
    if first == "[":
        match = _UPTIME.match(line)
        if match:
            uptime = float(match["uptime"])
            return Entry(match["text"], match["source"] or "kernel", booted + uptime if booted else None, True)
        match = _READABLE.match(line)
        if match:
            return Entry(match["text"], "kernel", _at(match, int(match["year"])), False)
        return Entry(line)
    if first.isalnum():
        match = _SHORT.match(line)
        if match:
            return Entry(match["text"], match["source"], _of_this_year(match, now), False)
        match = _ISO.match(line)
        if match:
            return _iso(match)
    return Entry(line)


def _json(line: str) -> Entry:
    try:
        found = json.loads(line)
        message = found["MESSAGE"]
        if isinstance(message, list):
            message = bytes(message).decode(errors="replace")
        at = int(found.get("__REALTIME_TIMESTAMP") or 0) / 1e6
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return Entry(line)
    return Entry(str(message), str(found.get("SYSLOG_IDENTIFIER") or "") or None, at or None, bool(at))


def _at(match: re.Match[str], year: int) -> float | None:
    hours, minutes, seconds = (int(part) for part in match["time"].split(":"))
    try:
        moment = datetime(year, MONTHS.index(match["month"]) + 1, int(match["day"]), tzinfo=timezone.utc)
        return (moment + timedelta(hours=hours, minutes=minutes, seconds=seconds)).timestamp()
    except (ValueError, OverflowError):
        return None


def _of_this_year(match: re.Match[str], now: float | None) -> float | None:
    """The last day of that name: a log has no future."""
    if now is None:
        return None
    try:
        year = datetime.fromtimestamp(now, timezone.utc).year
    except (ValueError, OverflowError, OSError):
        return None
    at = _at(match, year)
    return _at(match, year - 1) if at is not None and at > now + DAY else at


def _iso(match: re.Match[str]) -> Entry:
    zone = match["zone"]
    known = zone in ("Z", "UTC") or (zone or " ")[0] in "+-"
    offset = "+0000" if not known or zone in ("Z", "UTC") else zone.replace(":", "")
    try:
        at = datetime.strptime(f"{match['date']}T{match['time']}{offset}", "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (ValueError, OverflowError):
        return Entry(match["text"], match["source"])
    return Entry(match["text"], match["source"], at, known)


def is_past(one: Entry, since: float) -> bool:
    """Whether a line is surely older than a moment."""
    return one.at is not None and one.at < (since if one.exact else since - DAY)


def shortened(text: str) -> str:
    """A line with as much of it as is searched."""
    return text if len(text) <= LONGEST else f"{text[:HEAD]} ... {text[-(LONGEST - HEAD) :]}"


# The process that vLLM or Ray names first: "(EngineCore_DP0 pid=812)", "(Worker_TP1 pid=815)".
_PROCESS = re.compile(r"^\((?P<name>[A-Za-z_]\w*)(?: [\w=.]+)*? pid=\d+(?:, ip=[\w.:]+)?\)(?:\x1b\[0m)? ?")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOGGED = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? ?(?:\[[^\]]*\]|[\w./]+:\d+\])? ?"
)
_UVICORN = re.compile(r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): {1,6}")
_DATED = re.compile(
    r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S{0,20}[ |:-]{1,3}(?:[^\s|]{1,60}[ |:-]{1,3})??"
    r"(?P<level>DEBUG|INFO|WARN\w*|ERROR|CRITICAL)\b"
)
# torch: "[rank1]:[E1218 20:27:21.433 ProcessGroupNCCL.cpp:629] ", "[W1218 ...]"
_TORCH = re.compile(r"^(?:\[rank\d+\]:)?\[?(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d")
_RANK = re.compile(r"^\[rank\d+\]: ?")
_WARNED = re.compile(r"^\S+:\d+: (?:\w*Warning): |^\w*Warning: |^\w+Warning: ")
_QUIET = re.compile(r"\bNCCL (?:INFO|TRACE)\b|^(?:NOTE|note|warning|WARNING)\b[: ]|: (?:warning|note): ")

LOW, WARNED, LOUD, PLAIN = "low", "warning", "error", ""
_LEVELS = {"D": LOW, "I": LOW, "W": WARNED, "E": LOUD, "C": LOUD, "F": LOUD}

API, CORE, WORKER, SYSTEMD, UNNAMED = "API server", "engine core", "worker", "systemd", ""


@dataclass(frozen=True)
class Line:
    """What a program said: ``text`` is the whole line, ``said`` that without its prefix, ``level`` how loud."""

    number: int
    text: str
    said: str
    level: str
    process: str
    name: str

    @property
    def can_be_fatal(self) -> bool:
        """Whether a program may have died of it: what is only warned of was survived."""
        return self.level in (LOUD, PLAIN)


def line(number: int, text: str) -> Line:
    """Take apart what a program said."""
    if not text.strip():
        return Line(number, text, "", PLAIN, UNNAMED, "")
    rest = shortened(COLOUR.sub("", text) if "\x1b" in text else text).rstrip()
    if rest.startswith("vllm@") and ".service: " in rest:
        return Line(number, text, rest, PLAIN, SYSTEMD, SYSTEMD)
    name = ""
    while rest.startswith("("):
        match = _PROCESS.match(rest)
        if not match:
            break
        name, rest = match["name"], rest[match.end() :]
    level = PLAIN
    for pattern in (_LOGGED, _UVICORN, _DATED, _TORCH):
        found = pattern.match(rest)
        if found:
            level = _LEVELS[found["level"][0]]
            rest = rest[found.end() :] if pattern in (_LOGGED, _UVICORN) else rest
            break
    else:
        rest = _RANK.sub("", rest, count=1) if rest.startswith("[rank") else rest
        if "arning" in rest[:400] and _WARNED.match(rest):
            level = WARNED
        elif _QUIET.search(rest[:400]):
            level = LOW
    return Line(number, text, rest, level, _process(name), name)


def _process(name: str) -> str:
    lowered = name.lower()
    if "worker" in lowered:
        return WORKER
    if "core" in lowered:
        return CORE
    return API if lowered.startswith("api") else UNNAMED


def lines(texts: Iterable[str]) -> list[Line]:
    """Take a log apart."""
    return [line(number, text) for number, text in enumerate(texts)]


def plain(texts: Sequence[str]) -> list[str]:
    """Lines as evidence: what is said, without the prefix of vLLM's logger."""
    return [line(0, text).said.strip() for text in texts]
