# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far a long step is, in a line. Pure."""

from __future__ import annotations

GIB = 1024**3
MIB = 1024**2


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def download_line(done: int, total: int, rate: float) -> str:
    """``done`` of ``total`` bytes at ``rate`` bytes per second, and the time that is left."""
    share = min(100.0, 100 * done / total) if total else 100.0
    line = f"{share:.0f} %, {size(min(done, total))} of {size(total)}"
    if rate > 0:
        line += f", {rate / MIB:.1f} MiB/s, {duration(max(0, total - done) / rate)} left"
    return line
