# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HTML and SVG from plain functions, in which text cannot become markup. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any, Union

_WITHOUT_CONTENT = frozenset(("meta", "link"))


class Markup(str):
    """Text that is markup already."""


Child = Union[str, Markup, None]


def tag(element: str, /, *children: Child, **attributes: Any) -> Markup:
    """An element. Children that are no Markup are escaped, those that are None left out.

    An attribute is written with _ for -; class_ is class. None leaves it out, True writes its name alone.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if element in _WITHOUT_CONTENT:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{join(children)}</{element}>")


def join(children: Iterable[Child]) -> Markup:
    """Children in a row, escaped where they are no Markup."""
    return Markup("".join(_child(child) for child in children if child is not None))


def _child(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(child, quote=False)


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{html.escape(str(value), quote=True)}"'
