"""Numbered steps with elapsed time, and long commands that are seen to move."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING

from tools.nodes.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_SILENCE_S = 15.0
_TAIL = 15


def elapsed(seconds: float) -> str:
    """Seconds as minutes and seconds, such as 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def run_steps(steps: Sequence[tuple[str, Callable[[], None]]]) -> None:
    """Run the steps in order, announcing each as `[2/5] 0:31  title`."""
    begun = time.monotonic()
    for number, (title, step) in enumerate(steps, start=1):
        print(f"[{number}/{len(steps)}] {elapsed(time.monotonic() - begun)}  {title}", flush=True)
        step()
    print(f"[done] {elapsed(time.monotonic() - begun)}", flush=True)


def _lines(stream: IO[str]) -> Iterator[str | None]:
    """Lines as they come; None whenever there was none for 15 s."""
    arrived: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            arrived.put(line.rstrip("\n"))
        arrived.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while True:
        try:
            line = arrived.get(timeout=_SILENCE_S)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def stream(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, show: bool = True) -> None:
    """Run a command; with `show` its output is passed on, else only kept for the case of failure.

    When it is silent for 15 s a line says how long it has run. Raises NodeError when it fails.
    """
    begun = time.monotonic()
    tail: list[str] = []
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
    ) as process:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            if line is None:
                print(f"    ... at work for {elapsed(time.monotonic() - begun)}", flush=True)
                continue
            tail = [*tail[1 - _TAIL :], line]
            if show:
                print(f"    {line}", flush=True)
    if process.returncode != 0:
        said = " The reason is above." if show else "\n    " + "\n    ".join(tail)
        raise NodeError(f"`{argv[0]}` failed with exit status {process.returncode}.{said}")
