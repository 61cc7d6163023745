# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the telling lines in the journal of an engine."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import TABLE

# An exception as Python prints it, wherever vLLM's log prefix ends: "(EngineCore pid=12) ERROR ... ValueError: text".
EXCEPTION = re.compile(
    r"(?:^|\s)((?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout))\s*:\s+(\S.*)$"
)
# pydantic puts the sentence on a line of its own.
VALIDATION = re.compile(r"(?:^|\s)(Value error|Assertion failed), (.+?)(?: \[type=.*)?$")
USAGE = re.compile(r"(?:^|\s)(vllm(?: serve)?: error: .+)$")
# Exceptions without a text, as of a failed assertion.
BARE = re.compile(r"(?:^|\s)(AssertionError|NotImplementedError|KeyError|MemoryError)\s*$")
KILLED = re.compile(r"(Main process exited, code=\S+ status=\S+|Failed with result '\S+'|killed by the OOM killer.*)")
# What ended it on another host of its engine (roles/serve/files/ranks.py).
ELSEWHERE = re.compile(r"^ranks: (.+ is gone \(.+\)), so ")
# What is printed because of the first fault, and says nothing of it.
CONSEQUENCES = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "WorkerProc initialization failed",
    "WorkerProc failed to start",
    "Worker failed with error",
    "Executor failed",
    "cancelled",
    "Engine core proc",
    "EngineDeadError",
    "validation error for",
    "Process finished with exit code",
    "leaked",
)
# Lines that only bury the telling ones.
NOISE = re.compile(
    r"Killing process \d+|nanobind|refleaks|^ - (?:leaked|\.\.\. skipped)|resource_tracker|^\s*[~^]+\s*$"
)
# What an engine is doing, by what it printed last: (pattern, words); the last match in the journal counts.
STAGES: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"Downloading|Fetching \d+ files"), "downloading"),
    (re.compile(r"Loading .*checkpoint shards:\s+(\d+)%"), "loading weights, {0} %"),
    (re.compile(r"Model loading took|Loading weights took"), "weights loaded"),
    (re.compile(r"Starting to load model|Loading weights"), "loading weights"),
    (
        re.compile(r"Compiling a graph|Dynamo bytecode transform|torch\.compile takes|Warming up model"),
        "compiling",
    ),
    (re.compile(r"Capturing CUDA graphs?.*?:\s+(\d+)%"), "capturing CUDA graphs, {0} %"),
    (re.compile(r"Profiling CUDA graph memory|Initial profiling/warmup run"), "profiling memory"),
    (re.compile(r"KV cache size: [\d,]+ tokens"), "KV cache allocated"),
    (re.compile(r"Initializing a V1 LLM engine|Initializing an? .*engine"), "initializing the engine"),
    (re.compile(r"Starting vLLM (?:API )?server|Application startup complete"), "starting the API server"),
)


def reason(lines: Sequence[str]) -> str | None:
    """Return the fault that a journal tells of, or None: the last exception that is not only a consequence."""
    found = None
    elsewhere = fallback = None
    for line in lines:
        text = line.rstrip()
        for pattern in (EXCEPTION, VALIDATION, USAGE, BARE):
            match = pattern.search(text)
            if not match:
                continue
            groups = match.groups()
            said = f"{groups[0]}: {groups[1]}" if pattern is EXCEPTION else groups[-1]
            if not any(phrase in said for phrase in CONSEQUENCES):
                found = said
            break
        gone = ELSEWHERE.search(text)
        elsewhere = f"{gone.group(1)}; see the journal there" if gone else elsewhere
        killed = KILLED.search(text)
        if killed:
            fallback = killed.group(1)
    return found or elsewhere or fallback


def advice(lines: Sequence[str]) -> list[str]:
    """Return the cause and the numbered remedies of the fault that a journal tells of; nothing for one not known."""
    failures = [match for match in signature.matches(TABLE, lines) if match.signature.severity == signature.FAIL]
    if not failures:
        return []
    first = failures[0]
    return [first.cause, *(f"{number}. {remedy}" for number, remedy in enumerate(first.remedies, 1))]


def since_start(lines: Sequence[str], name: str, starts: int) -> list[str]:
    """Return the lines from the last ``starts`` starts of the instance ``name`` on, or all when there are fewer."""
    begins = [
        number
        for number, line in enumerate(lines)
        # "Starting vllm@x.service - vLLM instance x..."; before systemd 250 without the name of the unit
        if line.startswith("Starting ") and line.rstrip().endswith(f"vLLM instance {name}...")
    ]
    return list(lines[begins[-starts] :]) if 0 < starts <= len(begins) else list(lines)


def telling(lines: Sequence[str], most: int) -> list[str]:
    """Return the last ``most`` lines that are not noise."""
    return [line.rstrip() for line in lines if line.strip() and not NOISE.search(line)][-most:]


def stage(lines: Sequence[str]) -> str:
    """Say in a few words what an engine is doing, by the last line that tells."""
    for line in reversed(lines):
        for pattern, words in STAGES:
            match = pattern.search(line)
            if match:
                return words.format(*match.groups())
    return "starting"
