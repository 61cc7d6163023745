# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which releases of the engine can go from a host. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def superfluous(ages: Mapping[str, float], used: Collection[str], keep: int) -> list[str]:
    """Return the names of the releases to remove, the oldest first.

    ``ages`` maps the names to when they were made, in seconds since the epoch. Those in ``used`` stay and count; of the
    others the newest stay, up to ``keep`` in all. ``keep`` 0 keeps all.
    """
    if keep < 1:
        return []
    others = sorted((name for name in ages if name not in used), key=lambda name: (-ages[name], name))
    room = max(0, keep - sum(1 for name in ages if name in used))
    return others[room:][::-1]
