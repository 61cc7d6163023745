# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a signature of a fault is, and how it is found in the lines of a log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import bounds, literals, loglines, rootline
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.loglines import Line
from ansible_collections.gpufleet.vllm.plugins.module_utils.visible import visible

FAIL, WARN, NOTE = "fail", "warn", "note"
SEVERITIES = (FAIL, WARN, NOTE)
# Where its lines are printed: the journal of an instance, the kernel's log, the journal of the fabric manager.
ENGINE, KERNEL, FABRIC = "engine", "kernel", "fabric"
MOST_EVIDENCE = 4
LONGEST_LINE = 400


# A GPU is usable again after the program was started anew, after it was reset, after the host was booted.
RESTART, RESET, REBOOT = "restart", "reset", "reboot"


@dataclass(frozen=True)
class Signature:
    """A fault that is told by what a program prints.

    ``patterns`` are searched for line by line; ``cause`` may name their groups ("{length}"). Remedies stand in the
    order in which a person should try them. ``sample`` are lines as they are printed, from records of real failures or
    from the source that prints them, and the signature's test; ``near`` are lines like them that mean something else.
    ``explains`` are signatures that are only a consequence when this one is there too. A ``generic`` one says that
    something failed and not what: it counts when nothing else was found. One that was only ``seen`` is what a rank
    says of another that went away. ``cured`` says after what a fault of the kernel's log is over.
    """

    id: str
    area: str
    title: str
    severity: str
    patterns: tuple[str, ...]
    cause: str
    remedies: tuple[str, ...]
    sources: tuple[str, ...]
    sample: str
    near: str = ""
    where: str = ENGINE
    explains: tuple[str, ...] = ()
    generic: bool = False
    seen: bool = False
    cured: str = REBOOT
    compiled: tuple[tuple[str, re.Pattern[str]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the patterns once."""
        both = tuple((literals.needed(pattern), bounds.compiled(pattern)) for pattern in self.patterns)
        object.__setattr__(self, "compiled", both)

    def search(self, text: str) -> re.Match[str] | None:
        """Look for the patterns in a line, in their order."""
        return _search(self.compiled, text)

    def of(self, log: str) -> list[tuple[str, re.Pattern[str]]]:
        """The patterns that may fit a line of a log.

        Most logs hold the words of few signatures, and one look at all of a log costs less than one at each line.
        """
        return [(literal, pattern) for literal, pattern in self.compiled if literal in log]

    @property
    def strength(self) -> int:
        """How much it says: 0 for a cause, 1 for what a rank saw of another, 2 for an end without a cause."""
        return 2 if self.generic else int(self.seen)


def _search(patterns: Iterable[tuple[str, re.Pattern[str]]], text: str) -> re.Match[str] | None:
    for literal, pattern in patterns:
        if literal in text:
            match = pattern.search(text)
            if match:
                return match
    return None


@dataclass(frozen=True)
class Match:
    """A signature that was found: the groups of the line that tells most, the lines themselves, and where they are."""

    signature: Signature
    groups: Mapping[str, str]
    lines: tuple[str, ...]
    number: int = 0
    width: int = 0
    last: int = 0

    @property
    def cause(self) -> str:
        """The cause with what the line says filled in."""
        return said(self.signature.cause, self.groups)

    @property
    def remedies(self) -> list[str]:
        """The remedies with what the line says filled in."""
        return [said(remedy, self.groups) for remedy in self.signature.remedies]


_CHOICE = re.compile(r"\[\[(.*?)\]\]")
_FIELD = re.compile(r"\{(\w+)\}")


def said(text: str, groups: Mapping[str, str]) -> str:
    """Fill groups into a text. Of ``[[one {a}||another]]`` the first is taken whose groups are all known, if any."""

    def chosen(match: re.Match[str]) -> str:
        return next((one for one in match[1].split("||") if groups.keys() >= set(_FIELD.findall(one))), "")

    return _FIELD.sub(lambda match: groups.get(match[1], "?"), _CHOICE.sub(chosen, text))


def first_said(text: str) -> str:
    """A text as it is where all groups are known, with their names."""
    return _CHOICE.sub(lambda match: match[1].partition("||")[0], text)


def needed(text: str) -> set[str]:
    """Groups that a text cannot do without: those outside of choices, and those of a last alternative."""

    def last(match: re.Match[str]) -> str:
        _others, more, one = match[1].rpartition("||")
        return one if more else ""

    return set(_FIELD.findall(_CHOICE.sub(last, text)))


def found(signature: Signature, lines: Sequence[str]) -> Match | None:
    """Look for one signature."""
    numbered = list(enumerate(map(loglines.shortened, lines)))
    return _found(signature, numbered, _joined(numbered))


def _joined(lines: Sequence[tuple[int, str]]) -> str:
    return "\n".join(line for _number, line in lines)


def _found(signature: Signature, lines: Sequence[tuple[int, str]], joined: str) -> Match | None:
    patterns = signature.of(joined)
    groups: dict[str, str] = {}
    evidence: dict[str, None] = {}
    first = width = last = 0
    for number, line in lines if patterns else ():
        match = _search(patterns, line)
        if match:
            if not evidence:
                first, width = number, match.end() - match.start()
            last = number
            # what was said first is the cause; what comes later may only add to it
            groups = {**{name: text for name, text in match.groupdict().items() if text}, **groups}
            evidence[shortened(line)] = None
    if not evidence:
        return None
    return Match(signature, groups, tuple(evidence)[:MOST_EVIDENCE], first, width, last)


def shortened(line: str) -> str:
    """A line as it is shown."""
    text = visible(" ".join(loglines.COLOUR.sub("", line).split()))
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 3] + "..."


def matches(table: Iterable[Signature], lines: Sequence[str], where: str = ENGINE) -> list[Match]:
    """Return what the lines tell of, without what another of them explains.

    An engine dies of one thing: of the failures in its journal the first that is returned is that, and the others are
    left out. Other logs tell of many things, which are returned in the order of the table.
    """
    candidates = [one for one in table if one.where == where]
    if where != ENGINE:
        return _unexplained([match for match in (found(one, lines) for one in candidates) if match])
    return of_engine(candidates, loglines.lines(lines))


def of_engine(table: Iterable[Signature], lines: Sequence[Line]) -> list[Match]:
    """What the journal of an engine tells of: at most one failure, first, and what is only worth a warning."""
    limit = rootline.survived(lines)
    words = [(line.number, line.said) for line in lines if line.said]
    fatal = [
        (line.number, line.said)
        for line in lines
        if line.said and line.can_be_fatal and line.number >= limit and not rootline.FRAME.search(line.said)
    ]
    of_fatal, of_words = _joined(fatal), _joined(words)
    fails: list[Match] = []
    others: list[Match] = []
    for one in table:
        if one.where != ENGINE:
            continue
        match = _found(one, fatal, of_fatal) if one.severity == FAIL else _found(one, words, of_words)
        if match:
            (fails if one.severity == FAIL else others).append(match)
    told = _unexplained([*fails, *others])
    failures = [match for match in told if match.signature.severity == FAIL]
    rest = [match for match in told if match.signature.severity != FAIL]
    return [*sorted(failures, key=_order)[:1], *rest]


def _order(match: Match) -> tuple[int, int, int]:
    """What says most comes first; of those what was said first, and of one line what fits more of it."""
    return (match.signature.strength, match.number, -match.width)


def _unexplained(all_found: Sequence[Match]) -> list[Match]:
    explained = {name for match in all_found for name in match.signature.explains}
    if any(match.signature.severity == FAIL and not match.signature.generic for match in all_found):
        explained |= {match.signature.id for match in all_found if match.signature.generic}
    return [match for match in all_found if match.signature.id not in explained]


def as_data(signature: Signature) -> dict[str, Any]:
    """A signature as plain data."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(signature).items()
        if name != "compiled"
    }
