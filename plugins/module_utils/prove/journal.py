# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the telling lines in the journal of an engine."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import bounds, loglines, rootline

# What systemd says of a start, and Python of nothing.
BEGUN = re.compile(r"^(?:Starting|Started) ")
# Several API servers of one start print their banners together.
BANNERS_APART = 60
# Lines that only bury the telling ones.
NOISE = re.compile(
    r"Killing process \d+|nanobind|refleaks|^ - (?:leaked|\.\.\. skipped)|resource_tracker|^\s*[~^]+\s*$"
)
# What an engine is doing, by what it printed last: (pattern, words); the last match in the journal counts.
STAGES: Sequence[tuple[re.Pattern[str], str]] = (
    (
        bounds.compiled(
            r"JIT (?:compil|kernel|ops)|[Jj]it[- ]compil|Loading JIT ops|ninja: Entering|^\[\d+/\d+\] .*nvcc"
        ),
        "compiling kernels",
    ),
    (bounds.compiled(r"Downloading|Fetching \d+ files"), "downloading"),
    (bounds.compiled(r"Loading .*checkpoint shards:\s+(\d+)%"), "loading weights, {0} %"),
    (bounds.compiled(r"Model loading took|Loading weights took"), "weights loaded"),
    (bounds.compiled(r"Starting to load model|Loading weights"), "loading weights"),
    (
        bounds.compiled(r"Compiling a graph|Dynamo bytecode transform|torch\.compile takes|Warming up model"),
        "compiling",
    ),
    (bounds.compiled(r"Capturing CUDA graphs?.*?:\s+(\d+)%"), "capturing CUDA graphs, {0} %"),
    (bounds.compiled(r"Profiling CUDA graph memory|Initial profiling/warmup run"), "profiling memory"),
    (bounds.compiled(r"KV cache size: [\d,]+ tokens"), "KV cache allocated"),
    (bounds.compiled(r"Initializing a V1 LLM engine|Initializing an? .*engine"), "initializing the engine"),
    (bounds.compiled(r"Starting vLLM (?:API )?server|Application startup complete"), "starting the API server"),
)


def reason(lines: Sequence[str]) -> str | None:
    """Return what a start died of, or None: the first fatal line of the process that failed first."""
    root = rootline.first(loglines.lines(lines))
    return root.said if root else None


def starts(lines: Sequence[str], name: str) -> list[list[str]]:
    """Split a journal into the starts of the instance ``name``, the oldest first; what is before the first is one."""
    begin = re.compile(
        rf"^Starting (?:vllm@{re.escape(name)}\.service\b.*|.*vLLM instance {re.escape(name)})\.\.\.\s*$"
    )
    begins = [number for number, line in enumerate(lines) if line.startswith("Starting ") and begin.match(line)]
    if not begins:
        # a journal without systemd's lines: a banner of the server begins a start
        begins = [number for number, line in enumerate(lines) if "vLLM API server version" in line]
        # each of several API servers prints it
        begins = [number for at, number in enumerate(begins) if not at or number - begins[at - 1] > BANNERS_APART]
    edges = sorted({0, *begins, len(lines)})
    return [list(lines[one:next_one]) for one, next_one in zip(edges, edges[1:])] or [[]]


def telling(lines: Sequence[str], most: int) -> list[str]:
    """Return the last ``most`` lines that are not noise."""
    return [line.rstrip() for line in map(loglines.shortened, lines) if line.strip() and not NOISE.search(line)][-most:]


def stage(lines: Sequence[str]) -> str:
    """Say in a few words what an engine is doing, by the last line that tells."""
    for line in map(loglines.shortened, reversed(lines)):
        for pattern, words in STAGES:
            match = pattern.search(line)
            if match:
                return words.format(*match.groups())
    # Python imports torch, CUDA libraries and vLLM before the first word: a minute from a cold disk.
    return "starting" if any(line.strip() and not BEGUN.match(line) for line in lines) else "importing libraries"
