# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether an engine is compiling kernels now: its log says nothing of that for minutes. I/O only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of

# The programs of the toolkit and of gcc that do the work, and ninja, which runs them (comm is cut at 15 letters).
COMPILERS = ("ninja", "nvcc", "cicc", "ptxas", "cudafe++", "cc1plus", "cc1", "fatbinary", "nvlink", "hipcc", "clang")
PROC = Path("/proc")


def running(pids: Iterable[int]) -> list[str]:
    """The compilers among some processes, by name."""
    names = {(text_of(PROC / str(pid) / "comm") or "").strip() for pid in pids}
    return sorted(names & set(COMPILERS))


def stage(pids: Iterable[int]) -> str | None:
    """What an engine does, where it compiles."""
    found = running(pids)
    return f"compiling kernels ({', '.join(found)})" if found else None
