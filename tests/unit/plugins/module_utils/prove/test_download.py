"""Why a download ended, and how far it is."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.download import cause
from ansible_collections.gpufleet.vllm.plugins.module_utils.show.progress import download_line, duration

MIB = 1024**2


@pytest.mark.parametrize(
    ("line", "result", "said"),
    [
        ("OSError: [Errno 28] No space left on device", "exit-code", "the disk is full"),
        (
            "GatedRepoError: 403 Client Error. Access to model org/name is restricted",
            "exit-code",
            "does not give this model",
        ),
        ("401 Client Error: Unauthorized for url", "exit-code", "refuses the token"),
        ("403 Client Error: Forbidden for url", "exit-code", "refuses the host"),
        ("429 Client Error: Too Many Requests", "exit-code", "asks for patience"),
        ("httpx.ConnectError: [Errno -2] Name or service not known", "exit-code", "cannot be resolved"),
        ("ReadTimeout: The read operation timed out", "exit-code", "answers too slowly"),
        ("", "timeout", "model_download_timeout"),
        ("something else", "exit-code", "no more than the lines above"),
    ],
)
def test_cause(line: str, result: str, said: str) -> None:
    found = cause(["Downloading", line], result)
    assert said in found.said
    assert found.remedy


def test_what_it_ended_with_counts_and_not_what_it_got_over() -> None:
    lines = ["HTTP Error 503 thrown while requesting HEAD http://x", "OSError: [Errno 28] No space left on device"]
    assert "disk is full" in cause(lines, "exit-code").said
    assert not cause(lines, "exit-code").later
    assert "5xx" in cause([*lines[:1], "Error: Local entry not found."], "exit-code").said


@pytest.mark.parametrize(
    ("done", "total", "rate", "line"),
    [
        (0, 1024 * MIB, 0.0, "0 %, 0.0 MiB of 1.0 GiB"),
        (256 * MIB, 1024 * MIB, 64.0 * MIB, "25 %, 256.0 MiB of 1.0 GiB, 64.0 MiB/s, 12 s left"),
        (2048 * MIB, 1024 * MIB, 1.0 * MIB, "100 %, 1.0 GiB of 1.0 GiB, 1.0 MiB/s, 0 s left"),
    ],
)
def test_download_line(done: int, total: int, rate: float, line: str) -> None:
    assert download_line(done, total, rate) == line


@pytest.mark.parametrize(("seconds", "words"), [(3.2, "3 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
