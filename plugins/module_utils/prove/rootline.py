# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the line that a start of an engine died of, by the structure of its log. Pure.

An engine is many processes, and one fault is printed by all of them: by the worker that met it, by the engine core that
waited for the worker, by the API server that waited for the core, and by systemd. What counts is the first fatal line
in time, of the process that failed first:

- a line of level INFO or WARNING was survived, and so was an exception after which its process got further;
- an exception that only says that something else failed (an unfinished list of them: CONSEQUENCES) is not the first;
- one that wraps a tool (Ninja, NCCL, Inductor) is explained by the tool's own line, before or below it;
- of a chain of exceptions the first counts, but for a failed look-up that Python went on from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import bounds, loglines
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.loglines import Line

# An exception as Python prints it, wherever vLLM's log prefix ends: "(EngineCore pid=12) ERROR ... ValueError: text".
EXCEPTION = re.compile(
    r"(?:^|\s)(?P<name>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout|OutOfResources))\s*:"
    r"\s+(?P<text>\S.*)$"
)
# An exception whose name ends otherwise has the path of its module before it, and stands alone.
DOTTED = re.compile(r"^(?P<name>(?:[a-z_]\w*\.)+[A-Z]\w+): (?P<text>\S.*)$")
# pydantic puts the sentence on a line of its own.
VALIDATION = re.compile(r"(?:^|\s)(?:Value error|Assertion failed), (?P<text>.+?)(?: \[type=.*)?$")
USAGE = re.compile(r"(?:^|\s)(?P<text>vllm(?: serve)?: error: .+)$")
# Exceptions without a text, as of a failed assertion.
BARE = re.compile(
    r"(?:^|\s)(?P<text>AssertionError|NotImplementedError|KeyError|MemoryError|RuntimeError|EOFError)\s*$"
)
# What compilers, linkers, loaders and GPU runtimes print themselves.
TOOLS = tuple(
    re.compile(pattern)
    for pattern in (
        # gcc, nvcc and clang name file and line
        r"^\S+?(?::\d+(?::\d+)?|\(\d+\)): (?:fatal |catastrophic |internal compiler )?error[: ]",
        r"^(?:ptxas|nvcc|nvlink|cicc|fatbinary|cudafe\+\+)\s+(?:fatal|error)\s*:",
        r"^(?:ptxas|nvcc) \S+, line \d+; (?:fatal|error)",
        r"^(?:\S*/)?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+|cc1plus|ld|ld\.\w+|as|ninja|cmake|make)(?:-\d+)?: "
        r"(?!build stopped|Entering|Leaving|no work)\S",
        r"^(?:\S*/)?(?:sh|bash|env): .+(?:not found|Permission denied|No such file)",
        r"error while loading shared libraries:|symbol lookup error:|version `[\w.]+' not found",
        r"\bNCCL (?:WARN|ERROR)\b",
        r"^\s*what\(\):\s+\S",
        r"Memory access fault by GPU|HSA_STATUS_ERROR|HW Exception by GPU",
        r"^Failed: (?:Cuda|CUDA|NCCL|Hip|HIP) error",
        r"^Fatal Python error: |: Assertion [`'].+' failed|^CUDA (?:driver )?error: |^.{0,80}\bCUDA error at\b",
        r"^(?:thread '.*' )?panicked at |^thread '.*' panicked",
    )
)
# Which of those are of NCCL, that warns of much it goes on from.
NCCL = re.compile(r"\bNCCL (?:WARN|ERROR)\b")
# An exception that says that a tool failed, and not with what.
WRAPPERS = re.compile(
    r"Ninja build failed|CalledProcessError|returned non-zero exit status|InductorError|BackendCompilerFailed"
    r"|NCCL error|DistBackendError|ncclSystemError|ncclUnhandledCudaError|Internal Triton PTX codegen"
    r"|Failed to run autotuning|failed to be inspected|Error in inspecting model|Error building extension"
    r"|ld returned \d+ exit status|PTXASError|compilation failed|subprocess-exited-with-error"
    r"|Failed to load the model config|error code: 1\b"
)
# What is printed because of the first fault, and says nothing of it.
CONSEQUENCES = re.compile(
    r"Engine core initialization failed|EngineCore encountered an issue|EngineCore failed to start"
    r"|WorkerProc initialization failed|WorkerProc failed to start|WorkerProc hit an exception"
    r"|Worker failed with error|Worker proc \S+ died|Executor failed|[Cc]ancelled|Engine core proc|EngineDeadError"
    r"|validation error for|Process finished with exit code|leaked|died unexpectedly|EngineCore encountered a fatal"
    r"|DP Coordinator process failed|Engine process failed|RPC call to \w+ failed|SystemExit|KeyboardInterrupt"
    r"|process group has NOT been destroyed|Failed core proc"
)
# A rank that only saw another one go.
SEEN = re.compile(
    r"Connection (?:closed by peer|reset by peer|refused)|Broken ?[Pp]ipe|ncclRemoteError|remote process exited"
    r"|EOFError|Socket closed|recvValue failed|sendBytes failed|store->get|Exception ignored in|__del__"
)
# A look-up that failed, and that Python may have gone on from.
LOOKUPS = re.compile(r"(?:^|\.)(?:KeyError|AttributeError|IndexError|StopIteration|LookupError)\b")
DURING = "During handling of the above exception, another exception occurred"
DIRECT = "The above exception was the direct cause of the following exception"
# How systemd says that it ended.
ENDED = re.compile(
    r"Failed at step \w+|Main process exited, code=\S+ status=\S+|Failed with result '\S+'|killed by the OOM killer.*"
    r"|start operation timed out|Control process exited, code=\S+ status=\S+"
)
# What ended it on another host of its engine (roles/serve/files/ranks.py).
ELSEWHERE = re.compile(r"^ranks: (.+ is gone \(.+\)), so ")
KILLED = re.compile(r"Main process exited, code=killed, status=9/KILL")
STOPPED_LATE = re.compile(r"State 'stop-sig\w+' timed out|killed by the OOM killer|oom-kill")
# How far an engine is; a process that says one of these has survived what it said before.
PROGRESS = bounds.compiled(
    r"Initializing an? .*engine|Starting to load model|Loading weights took|Model loading took"
    r"|torch\.compile to(?:ok|takes)|KV cache size: [\d,]+ tokens|Graph capturing finished|init engine \("
    r"|Available KV cache memory|Capturing CUDA graphs?.*?:\s+\d+%|Application startup complete|Maximum concurrency for"
    r"|Loading .*checkpoint shards:\s+\d+%|world_size=\d+ .*rank=|Resolved architecture|Using max model len"
)
# A line of a traceback, which tells nothing by itself.
FRAME = re.compile(r'^\s+File "|^\s*[~^]+\s*$|^\s*Traceback \(|^\s{4,}\S')
ORDINARY, WRAPPING, CONSEQUENCE = range(3)
MOST_CONTEXT = 3


@dataclass(frozen=True)
class Event:
    """Something that may have ended a process: the line, what it says, and what kind of thing it is."""

    line: Line
    said: str
    kind: int
    tool: bool = False

    @property
    def number(self) -> int:
        """Where it stands."""
        return self.line.number


@dataclass(frozen=True)
class Root:
    """What a start died of: what was said, by which process, where, and the lines around it."""

    said: str
    process: str
    number: int
    context: tuple[str, ...]
    # Only systemd, or another host, says that it ended.
    from_outside: bool = False


def event(line: Line) -> Event | None:
    """What a line says of an end, or None."""
    if not line.can_be_fatal or line.process == loglines.SYSTEMD or not line.said:
        return None
    said = line.said
    # ordinary words of a log that is not vLLM's are short of both
    if "rror" in said or ":" in said or "Exit" in said:
        for pattern in (EXCEPTION, DOTTED):
            match = pattern.search(said)
            if match:
                words = f"{match['name']}: {match['text']}"
                return Event(line, words, _kind(said))
        for pattern in (VALIDATION, USAGE):
            match = pattern.search(said)
            if match:
                return Event(line, match["text"], _kind(match["text"]))
    match = BARE.search(said)
    if match:
        return Event(line, match["text"], CONSEQUENCE if SEEN.search(said) else ORDINARY)
    if any(pattern.search(said) for pattern in TOOLS):
        return Event(line, said.strip(), _kind(said), tool=True)
    return None


def _kind(said: str) -> int:
    if CONSEQUENCES.search(said) or SEEN.search(said):
        return CONSEQUENCE
    return WRAPPING if WRAPPERS.search(said) else ORDINARY


def survived(lines: Sequence[Line]) -> int:
    """Up to which line (its number) an engine got further after whatever it said: -1 where it never did.

    Ranks run side by side, so only the engine core, which waits for all of them, speaks for the others; a log without
    names of processes speaks for itself.
    """
    named = any(line.process in (loglines.CORE, loglines.WORKER) for line in lines)
    found = -1
    for line in lines:
        if line.level in (loglines.LOW, loglines.PLAIN) and PROGRESS.search(line.said):
            speaks = line.process == loglines.CORE or (not named and line.process != loglines.WORKER)
            found = line.number if speaks else found
    return found


def own_progress(lines: Sequence[Line]) -> dict[str, int]:
    """The last line of each named process in which it got further."""
    return {
        line.text[: line.text.find(")") + 1]: line.number
        for line in lines
        if line.process and line.level == loglines.LOW and PROGRESS.search(line.said)
    }


def events(lines: Sequence[Line]) -> list[Event]:
    """Everything that may have ended a process and was not survived, in time."""
    limit, own = survived(lines), own_progress(lines)
    found = []
    for line in lines:
        if line.number < limit:
            continue
        if line.process and line.number < own.get(line.text[: line.text.find(")") + 1], -1):
            continue
        one = event(line)
        if one:
            found.append(one)
    killed = any(KILLED.search(line.said) for line in lines if line.process == loglines.SYSTEMD)
    if killed and not any(STOPPED_LATE.search(line.said) for line in lines):
        # The main process was killed from outside: what it said itself did not end it.
        found = [one for one in found if one.line.process not in (loglines.API, loglines.UNNAMED)]
    return found


def _tools_count(found: Sequence[Event]) -> list[Event]:
    """Tools' lines count where an exception says that a tool failed, or where nothing else was said."""
    wrapped = any(one.kind == WRAPPING for one in found)
    exceptions = [one for one in found if one.kind == ORDINARY and not one.tool]
    return [
        one
        for one in found
        if not one.tool or wrapped or (not exceptions and not NCCL.search(one.said)) or _before(one, exceptions)
    ]


def _before(one: Event, exceptions: Sequence[Event]) -> bool:
    """A runtime that aborts a process prints before Python does; NCCL warns of much that it goes on from."""
    return bool(exceptions) and not NCCL.search(one.said) and one.number < exceptions[0].number


def first(lines: Sequence[Line]) -> Root | None:
    """What a start died of."""
    found = _tools_count(events(lines))
    ordinary = [one for one in found if one.kind == ORDINARY]
    wrapping = [one for one in found if one.kind == WRAPPING]
    # a chain of exceptions begins with what failed first
    chosen = _of_chain(lines, ordinary) if ordinary else None
    if chosen is None and wrapping:
        chosen = wrapping[0]
    if chosen is None:
        seen = [one for one in found if SEEN.search(one.said)]
        chosen = seen[0] if seen else None
    if chosen is None:
        return _from_outside(lines)
    others = [one.said for one in (*ordinary, *wrapping) if one.said != chosen.said and one.number > chosen.number]
    return Root(
        chosen.said,
        chosen.line.process or chosen.line.name,
        chosen.number,
        tuple(dict.fromkeys(others))[:MOST_CONTEXT],
    )


def _of_chain(lines: Sequence[Line], ordinary: Sequence[Event]) -> Event:
    chosen = ordinary[0]
    for after in ordinary[1:]:
        if not LOOKUPS.search(chosen.said.split(":", 1)[0]):
            break
        between = lines[chosen.number + 1 : after.number]
        if not any(DURING in line.said for line in between):
            break
        chosen = after
    return chosen


def _from_outside(lines: Sequence[Line]) -> Root | None:
    for line in reversed(lines):
        match = ELSEWHERE.search(line.said)
        if match:
            return Root(f"{match[1]}; see the journal there", "", line.number, (), True)
    for line in reversed(lines):
        match = ENDED.search(line.said)
        if match:
            return Root(match[0], loglines.SYSTEMD, line.number, (), True)
    return None
