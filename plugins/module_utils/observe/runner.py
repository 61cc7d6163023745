# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs all tools of a table at once, each with its own time limit. The only place that starts programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import IO

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import (
    FAILED,
    MISSING,
    OK,
    TIMEOUT,
    Command,
    Outputs,
    ToolOutput,
)

# Where vendors put tools that a service's or sudo's PATH lacks; WSL keeps nvidia-smi in the first one.
EXTRA_PATH = ("/usr/lib/wsl/lib", "/opt/rocm/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin")
POLL_SECONDS = 0.01
# A tool that floods its output would otherwise fill the host's /tmp and our memory.
OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024


class _Running:
    """One started tool, its output going to unnamed temporary files so that a full pipe cannot block it."""

    def __init__(self, argv: Command, env: Mapping[str, str]) -> None:
        self.stdout: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in finish()
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            env=dict(env),
            start_new_session=True,
        )

    def finish(self, status: str | None) -> ToolOutput:
        """Collect what was written so far; ``status`` None means judge by the exit code."""
        code = self.process.poll()
        if status is None:
            status = OK if code == 0 else FAILED
        return ToolOutput(
            status,
            _take(self.stdout),
            _take(self.stderr),
            None if status == TIMEOUT else code,
            round(time.monotonic() - self.started, 3),
        )

    def kill(self) -> None:
        """Kill the whole process group, without waiting.

        A tool stuck in the kernel (state D, usual for a lost GPU) does not die, and waiting for it would
        hang us too.
        """
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _take(stream: IO[bytes]) -> str:
    stream.seek(0)
    text = stream.read(OUTPUT_LIMIT_BYTES).decode("utf-8", errors="replace")
    stream.close()
    return text


def tool_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment with English messages and the vendors' folders at the end of PATH."""
    env = dict(environ)
    env["LC_ALL"] = "C"
    env["PATH"] = os.pathsep.join([env.get("PATH", os.defpath), *EXTRA_PATH])
    return env


def run_all(commands: Mapping[str, Command], timeout: float, environ: Mapping[str, str]) -> Outputs:
    """Start every command, then wait for all of them.

    ``timeout`` is in seconds and counts for each tool from its own start; since all start together, the
    whole call takes about as long as the slowest tool and never much longer than ``timeout``.
    """
    env = tool_environment(environ)
    outputs: Outputs = {}
    running: dict[str, _Running] = {}
    for name, argv in commands.items():
        program = shutil.which(argv[0], path=env["PATH"])
        if program is None:
            outputs[name] = ToolOutput(MISSING)
            continue
        try:
            running[name] = _Running((program, *argv[1:]), env)
        except OSError as error:
            outputs[name] = ToolOutput(FAILED, error=f"{argv[0]} could not be started: {error.strerror}.")
    while running:
        for name, tool in list(running.items()):
            if tool.process.poll() is not None:
                outputs[name] = running.pop(name).finish(None)
            elif time.monotonic() - tool.started >= timeout:
                tool.kill()
                outputs[name] = running.pop(name).finish(TIMEOUT)
        if running:
            time.sleep(POLL_SECONDS)
    return {name: outputs[name] for name in commands}
