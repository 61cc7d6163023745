# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Divide the GPUs of a host among instances that leave them open: all at once, in whatever order they are listed. Pure.

First as many instances as possible run, then their contexts are as long as possible, then the product of what they
give, each raised to its share, is the largest (a proportionally fair division: twice the share, about twice the GPUs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import choice
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import Option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.space import Wish

# With more ways than this to spread instances over kinds of GPUs, all of them go to the largest kind.
MOST_WAYS = 4096
# Digits to which what instances give is compared, so that the order of adding up does not count.
DIGITS = 9


@dataclass(frozen=True)
class Tried:
    """What one instance could run on one kind of GPU: ``options`` on up to all of its GPUs."""

    wish: Wish
    options: Sequence[Option]

    def best(self, most: int) -> Option | None:
        """The best option on up to ``most`` GPUs."""
        fitting = [option for option in self.options if option.gpus <= most]
        return next(iter(choice.ranked(self.wish, fitting)), None)


@dataclass(frozen=True)
class Part:
    """What an instance gets: ``most`` GPUs of the kind with the number ``pool``. None of them when it cannot run."""

    pool: int
    most: int


Value = tuple[int, float, float]
_NOTHING: Value = (0, 0.0, 0.0)


def divide(
    rooms: Sequence[int], tried: Mapping[str, Mapping[int, Tried]], shares: Mapping[str, float]
) -> dict[str, Part]:
    """Divide pools of ``rooms`` GPUs; ``tried`` has, by instance and by number of a pool, what could run there.

    Instances that get nothing are not in the answer.
    """
    names = sorted(tried)
    values = {name: _values(rooms, tried[name], shares[name]) for name in names}
    choices: list[Sequence[int]] = [sorted(tried[name]) or [0] for name in names]
    if math.prod(map(len, choices)) > MOST_WAYS:
        choices = [sorted(tried[name])[:1] or [0] for name in names]
    best: tuple[Value, dict[str, Part]] | None = None
    for way in product(*choices):
        found = _by_pool(rooms, dict(zip(names, way)), values)
        if best is None or found[0] > best[0]:
            best = found
    return best[1] if best else {}


def _values(rooms: Sequence[int], tried: Mapping[int, Tried], share: float) -> dict[int, list[Value | None]]:
    """What an instance is worth, by pool and number of GPUs; in relation to the best that it could have."""
    found = {
        pool: [one.best(count) if count else None for count in range(rooms[pool] + 1)] for pool, one in tried.items()
    }
    options = [(tried[pool].wish, option) for pool, row in found.items() for option in row if option]
    by_speed = all(option.full for _, option in options)
    longest = max((choice.context(option, wish) for wish, option in options), default=1) or 1
    most = max((_gives(option, wish, by_speed) for wish, option in options), default=1.0) or 1.0

    def value(wish: Wish, option: Option | None) -> Value | None:
        if option is None:
            return None
        held = max(1, choice.context(option, wish)) / longest
        gives = max(_gives(option, wish, by_speed), 1e-9) / most
        return 1, round(share * math.log(held), DIGITS), round(share * math.log(gives), DIGITS)

    return {pool: [value(tried[pool].wish, option) for option in row] for pool, row in found.items()}


def _gives(option: Option, wish: Wish, by_speed: bool) -> float:
    found = choice.score(option, wish.objective, by_speed)
    return found if found >= 0 else -1.0 / found


def _by_pool(
    rooms: Sequence[int], way: Mapping[str, int], values: Mapping[str, Mapping[int, Sequence[Value | None]]]
) -> tuple[Value, dict[str, Part]]:
    total, parts = _NOTHING, {}
    for pool, room in enumerate(rooms):
        names = [name for name, number in way.items() if number == pool and values[name].get(pool)]
        worth, counts = _knapsack(room, [values[name][pool] for name in names])
        total = _add(total, worth)
        parts.update({name: Part(pool, count) for name, count in zip(names, counts) if count})
    return total, parts


def _knapsack(room: int, values: Sequence[Sequence[Value | None]]) -> tuple[Value, tuple[int, ...]]:
    """The best division of ``room`` GPUs; of equal ones that with the fewest, the first instance first."""
    best: list[tuple[Value, tuple[int, ...]]] = [(_NOTHING, ())] * (room + 1)
    for row in values:
        after = []
        for left in range(room + 1):
            choices = [(best[left][0], (*best[left][1], 0))]
            for count in range(1, left + 1):
                value = row[count]
                if value is not None:
                    before = best[left - count]
                    choices.append((_add(before[0], value), (*before[1], count)))
            after.append(max(choices, key=lambda one: (one[0], -sum(one[1]), one[1])))
        best = after
    return best[room]


def _add(first: Value, second: Value) -> Value:
    return first[0] + second[0], round(first[1] + second[1], DIGITS), round(first[2] + second[2], DIGITS)
