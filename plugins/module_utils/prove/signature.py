# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a signature of a fault is, and how it is found in the lines of a log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FAIL, WARN, NOTE = "fail", "warn", "note"
SEVERITIES = (FAIL, WARN, NOTE)
# Where its lines are printed: the journal of an instance, the kernel's log, the journal of the fabric manager.
ENGINE, KERNEL, FABRIC = "engine", "kernel", "fabric"
MOST_EVIDENCE = 4
LONGEST_LINE = 400


@dataclass(frozen=True)
class Signature:
    """A fault that is told by what a program prints.

    ``patterns`` are searched for line by line; ``cause`` may name their groups ("{length}"). Remedies stand in the
    order in which a person should try them. ``sample`` are lines as they are printed, from records of real failures or
    from the source that prints them, and the signature's test. ``explains`` are signatures that are only a consequence
    when this one is there too. A ``generic`` one says that something failed and not what: it counts when nothing else
    was found.
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
    where: str = ENGINE
    explains: tuple[str, ...] = ()
    generic: bool = False
    compiled: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the patterns once."""
        object.__setattr__(self, "compiled", tuple(re.compile(pattern) for pattern in self.patterns))


@dataclass(frozen=True)
class Match:
    """A signature that was found: the groups of the last line that matched, and the lines themselves."""

    signature: Signature
    groups: Mapping[str, str]
    lines: tuple[str, ...]

    @property
    def cause(self) -> str:
        """The cause with what the line says filled in."""
        return said(self.signature.cause, self.groups)

    @property
    def remedies(self) -> list[str]:
        """The remedies with what the line says filled in."""
        return [said(remedy, self.groups) for remedy in self.signature.remedies]


def said(text: str, groups: Mapping[str, str]) -> str:
    """Fill groups into a text; what no line said is a question mark."""
    return re.sub(r"\{(\w+)\}", lambda match: groups.get(match[1]) or "?", text)


def found(signature: Signature, lines: Sequence[str]) -> Match | None:
    """Look for one signature."""
    groups: dict[str, str] = {}
    evidence: dict[str, None] = {}
    for line in lines:
        for pattern in signature.compiled:
            match = pattern.search(line)
            if match:
                groups.update({name: text for name, text in match.groupdict().items() if text})
                evidence[shortened(line)] = None
                break
    if not evidence:
        return None
    return Match(signature, groups, tuple(evidence)[-MOST_EVIDENCE:])


def shortened(line: str) -> str:
    """A line as it is shown."""
    text = " ".join(line.split())
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 3] + "..."


def matches(table: Iterable[Signature], lines: Sequence[str], where: str = ENGINE) -> list[Match]:
    """Return what the lines tell of, in the order of the table, without what another of them explains."""
    candidates = [one for one in table if one.where == where]
    all_found = [match for match in (found(one, lines) for one in candidates) if match]
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
