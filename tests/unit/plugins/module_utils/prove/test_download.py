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
        ("httpx.ConnectError: [Errno -2] Name or service not known", "exit-code", "does not reach the hub"),
        ("ReadTimeout: The read operation timed out", "exit-code", "answers too slowly"),
        ("", "timeout", "model_download_timeout"),
        ("something else", "exit-code", "no more than the lines above"),
    ],
)
def test_cause(line: str, result: str, said: str) -> None:
    found, remedy = cause(["Downloading", line], result)
    assert said in found
    assert remedy


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
