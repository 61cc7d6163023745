# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel's log says of a host now: without consequences, corrected errors, and what is over. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import loglines, signature, xids
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.loglines import Entry
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import (
    FAIL,
    KERNEL,
    NOTE,
    REBOOT,
    RESET,
    RESTART,
    WARN,
    Match,
    Signature,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import TABLE

NUMBER = re.compile(r"NVRM: Xid(?: \(PCI:(?P<gpu>[^)]+)\))?: (?P<xid>\d+)")
# "Ch 0000000c caused by previous Xid 145"
FOLLOWS = re.compile(r"caused by previous Xid")
# NVLink 5 says whether it went on: "145, RLW_RXPIPE Nonfatal XC0 i0 Link 13"
NOT_FATAL = re.compile(r": (?:14[4-9]|150), \S+ Non-?fatal\b")
RECOVERY = re.compile(r"GPU recovery action changed (?:from .+ )?to 0x(?P<action>[0-9a-fA-F]+)")
WHOLE_HOST = "every"
CURES = {xids.APP: RESTART, xids.IGNORE: RESTART, xids.RESET: RESET, xids.REBOOT: REBOOT}
OVER = " It is older than every engine that serves here now."


def matches(lines: Sequence[str], now: float | None, booted: float | None, since: float | None) -> list[Match]:
    """What the log tells of.

    ``since`` is when the engines were started that all serve now; None where one of them does not. A fault that a new
    start of a program cures is over then, and one that a reset cures is doubtful: the engines seem to have what they
    need.
    """
    entries = [loglines.entry(line, now, booted) for line in lines]
    kept = _of_now([(one, line) for one, line in zip(entries, lines) if one.text and _counts(one.text)])
    joined = "\n".join(one.text for one, _line in kept)
    candidates = [one for one in TABLE if one.where == KERNEL and one.of(joined)]
    found = []
    for one in candidates:
        match = _match(one, kept, since)
        if match:
            found.append(match)
    return found


def _counts(text: str) -> bool:
    return not FOLLOWS.search(text) and not NOT_FATAL.search(text)


def _of_now(lines: Sequence[tuple[Entry, str]]) -> list[tuple[Entry, str]]:
    """Without recoveries that were asked for and then done: the last word of the driver counts."""
    last: dict[str, tuple[int, bool]] = {}
    for number, (one, _line) in enumerate(lines):
        asked = RECOVERY.search(one.text)
        if asked:
            gpu = (NUMBER.search(one.text) or {"gpu": None})["gpu"] or WHOLE_HOST
            last[gpu] = (number, int(asked["action"], 16) != 0)
    keep = {number for number, open_ in last.values() if open_}
    return [pair for number, pair in enumerate(lines) if number in keep or not RECOVERY.search(pair[0].text)]


def _match(one: Signature, lines: Sequence[tuple[Entry, str]], since: float | None) -> Match | None:
    fresh: list[tuple[Entry, str]] = []
    over: list[tuple[Entry, str]] = []
    for entry, line in lines:
        if one.search(entry.text):
            old = since is not None and loglines.is_past(entry, since) and _cure(one, entry.text) != REBOOT
            (over if old else fresh).append((entry, line))
    match = _found(one, fresh)
    if match or not over:
        return match
    doubtful = [pair for pair in over if _cure(one, pair[0].text) == RESET]
    match = _found(one, doubtful or over)
    if match is None or (not doubtful and one.severity != FAIL):
        return None
    severity = WARN if doubtful and one.severity == FAIL else NOTE
    return replace(match, signature=replace(one, severity=severity, cause=one.cause + OVER))


def _found(one: Signature, lines: Sequence[tuple[Entry, str]]) -> Match | None:
    """The signature in some lines, with what the catalogue says of the gravest of their Xids."""
    match = signature.found(one, [line for _entry, line in lines]) if lines else None
    if match is None or "xid" not in match.groups:
        return match
    number = int(match.groups["xid"][:6])
    return replace(match, groups={"meaning": xids.meaning(number), "action": xids.action(number), **match.groups})


def _cure(one: Signature, text: str) -> str:
    """After what a line's fault is over: by its Xid, where it has one."""
    match = NUMBER.search(text)
    if match and int(match["xid"][:6]) in xids.CATALOGUE:
        return CURES.get(xids.action(int(match["xid"][:6])), one.cured)
    return one.cured
