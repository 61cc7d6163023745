# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a decision says no."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable, Union

Remedies = Union[Sequence[str], Callable[[], Iterable[str]]]


class Refused(Exception):
    """Something cannot run as asked.

    ``reason`` is a clause without a full stop, ``rule`` a short id for programs, ``remedies`` are clauses that
    say what to write or do instead, best first; as a function they are searched for when they are read. Where several
    things are wrong at once, ``faults`` has each alone.
    """

    def __init__(self, reason: str, rule: str, remedies: Remedies = (), faults: Sequence[Refused] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule
        self.faults = tuple(faults)
        self._remedies = remedies

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to write or do instead."""
        if callable(self._remedies):
            self._remedies = tuple(self._remedies())
        return tuple(self._remedies)

    def sentence(self) -> str:
        """The reason and its remedies as sentences in one line."""
        remedy = "; or ".join(self.remedies)
        return f"{_capital(self.reason)}." + (f" {_capital(remedy)}." if remedy else "")


def _capital(text: str) -> str:
    # an option's name is written as it is
    return text if "_" in text.split(" ", 1)[0] else text[:1].upper() + text[1:]
