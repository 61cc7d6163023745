# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Corrections of the planner as text for a terminal. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import columns

HEADER = ("NUMBER", "RELEASE", "RANKS", "CAPABILITY", "WAS", "IS", "UNIT", "RECEIPTS", "SPREAD")
RIGHT = frozenset((2, 3, 4, 5, 7, 8))
# All other numbers are memory.
UNITS = {"speed": "x estimate"}


def table(
    found: Sequence[Mapping[str, Any]],
    receipts: int,
    before: Sequence[float],
    after: Sequence[float],
    lost: Sequence[str] = (),
) -> str:
    """Show corrections, and the errors of the predicted KV cache ``before`` and ``after`` them, as signed shares."""
    lines = []
    if found:
        rows = [
            (
                str(one["name"]),
                str(one["release"]),
                str(one["ranks"]),
                f"{one['capability']:g}",
                f"{one['was']:.2f}",
                f"{one['value']:.2f}",
                UNITS.get(one["name"], "GiB"),
                str(one["receipts"]),
                f"{one['spread']:.2f}",
            )
            for one in found
        ]
        lines.extend([*columns.aligned([HEADER, *rows], RIGHT), ""])
    lines.extend(f"! {host}: its receipts could not be read." for host in lost)
    if not before:
        if any(one["name"] in UNITS for one in found):
            return "\n".join(lines).rstrip("\n")
        return "\n".join([*lines, f"None of {receipts} receipts says by how much a prediction was off."])
    told = (
        f"{receipts} receipts, {len(before)} of them with a predicted KV cache: off by {_median(before)} in the median"
    )
    return "\n".join([*lines, f"{told}, with these corrections {_median(after)}." if found else f"{told}."])


def _median(errors: Sequence[float]) -> str:
    return f"{statistics.median(map(abs, errors)):.1%}"
