"""Real inputs made wrong: what a damaged disk, a full one, a stranger or an enemy leaves of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

LONG = 60_000
PIECES = (
    *("", " ", "\t", "\x00", "\r", "\x1b[2J", "\u2028", "\ufeff", "\ufffd", "²", "٣", "\ud800"),
    *("N/A", "null", "NaN", "-1", "1e400", "9" * 25, "9" * 5000, "0-999999999", "{{ 1 }}", "${HOME}", "%s"),
    *(
        "<",
        ">",
        "&",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "\\",
        "=",
        ":",
        "/",
        "../",
        "GPU0",
        "GPU999",
        "NV18",
        "X",
        "[[",
        "{}",
    ),
)
SCALARS: tuple[Any, ...] = (
    *(0, -1, 2**31, 2**63, 10**30, 1.5, 1e308, float("nan"), float("inf"), True, None, "", "x", "0", "1e400", "\ud800"),
    *([], [1], {}, {"a": 1}, [[]], ["\n"], "auto", 7),
)


def of_text(text: str, rnd: random.Random) -> str:
    """Change lines or letters of a text in some places; now and then one becomes very long."""
    separator = rnd.choice(["\n", "\n", "", " "])
    parts = text.split(separator) if separator else list(text)
    for _ in range(rnd.choice([1, 1, 2, 4, 8])):
        if not parts:
            break
        place, other = rnd.randrange(len(parts)), rnd.randrange(len(parts))
        change = rnd.randrange(9)
        if change == 0:
            del parts[place]
        elif change == 1:
            parts.insert(place, parts[other])
        elif change == 2:
            parts[place], parts[other] = parts[other], parts[place]
        elif change == 3:
            del parts[place:]
        elif change == 4:
            parts[place] = rnd.choice(PIECES)
        elif change == 5:
            parts[place] += rnd.choice(PIECES)
        elif change == 6:
            parts[place] = parts[place].replace(rnd.choice('0123456789 \tGPU:/=,<>"'), rnd.choice(PIECES))
        elif change == 7:
            parts[place] = "".join(rnd.sample(parts[place], len(parts[place])))
        else:
            unit = rnd.choice([parts[place][: rnd.randrange(1, 30)], rnd.choice(PIECES)]) or " "
            parts[place] += unit * (rnd.choice([50, 2000, LONG]) // len(unit))
    return separator.join(parts)


def of_json(text: str, rnd: random.Random) -> str:
    """Change values of a JSON document; of what is none, its text."""
    try:
        found = json.loads(text)
    except ValueError:
        return of_text(text, rnd)
    for _ in range(rnd.choice([1, 1, 2, 3, 6])):
        places = list(_places(found))
        if not places:
            break
        holder, key = rnd.choice(places)
        if isinstance(holder, dict) and rnd.random() < 0.2:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(rnd.choice(SCALARS)))
    return json.dumps(found)


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def of(text: str, rnd: random.Random) -> str:
    """Change a text in the way that suits it."""
    how: Callable[[str, random.Random], str] = (
        of_json if text.lstrip()[:1] in ("{", "[") and rnd.random() < 0.6 else of_text
    )
    return how(text, rnd)
