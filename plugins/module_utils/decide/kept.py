# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep answers about a model or a host that are asked for many times while layouts are tried. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Callable, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


class Kept(dict[str, Any]):
    """What is known of a model or a host, with the answers that were given about it. Nobody changes either."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)
        self.known: dict[Any, Any] = {}


def of(facts: Mapping[str, Any]) -> Kept:
    """Return the facts as some whose answers are kept."""
    return facts if isinstance(facts, Kept) else Kept(facts)


def kept(function: Function) -> Function:
    """Keep the answers of a function of facts and of hashable values, where the facts are :class:`Kept`."""

    @functools.wraps(function)
    def asked(facts: Mapping[str, Any], *values: Any, **named: Any) -> Any:
        if not isinstance(facts, Kept):
            return function(facts, *values, **named)
        key = function, values, tuple(sorted(named.items()))
        if key not in facts.known:
            facts.known[key] = function(facts, *values, **named)
        return facts.known[key]

    return cast(Function, asked)
