# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Many names in few words: gpu[001-500]. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"(\d+)")


def fold(names: Iterable[str]) -> str:
    """Say host names shortly, sorted: ``gpu[01-03,07].example.com, other``."""
    shapes: dict[tuple[str, ...], list[list[str]]] = {}
    for name in sorted(set(names)):
        parts = _NUMBER.split(name)
        shapes.setdefault(tuple(parts[::2]), []).append(parts)
    return ", ".join(text for group in shapes.values() for text in _groups(group))


def numbers(values: Iterable[int]) -> str:
    """Say whole numbers shortly, sorted: ``0-3,6``."""
    return ",".join(_ranges([str(value) for value in sorted(set(values))]))


def _groups(names: Sequence[Sequence[str]]) -> list[str]:
    """Names of one shape, cut into groups that differ in one number only: the one that makes the fewest groups."""
    places = [place for place in range(1, len(names[0]), 2) if len({name[place] for name in names}) > 1]
    if not places:
        return ["".join(names[0])]
    cuts = [(len(_cut(names, place)), -place) for place in places]
    best = -min(cuts)[1]
    return [_folded(group, best) for group in _cut(names, best).values()]


def _cut(names: Sequence[Sequence[str]], place: int) -> dict[tuple[str, ...], list[Sequence[str]]]:
    groups: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for name in names:
        groups.setdefault((*name[:place], *name[place + 1 :]), []).append(name)
    return groups


def _folded(names: Sequence[Sequence[str]], place: int) -> str:
    first = names[0]
    if len(names) == 1:
        return "".join(first)
    inside = ",".join(_ranges(sorted((name[place] for name in names), key=lambda text: (int(text), len(text)))))
    return "".join((*first[:place], f"[{inside}]", *first[place + 1 :]))


def _ranges(texts: Sequence[str]) -> list[str]:
    """Runs of following numbers of one spelling: 08, 09, 10 are a run, 8, 09 are none."""
    runs: list[list[str]] = []
    for text in texts:
        if runs and text == str(int(runs[-1][-1]) + 1).zfill(len(runs[-1][-1])):
            runs[-1].append(text)
        else:
            runs.append([text])
    return [run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
