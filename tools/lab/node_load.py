"""Completions of random tokens from an OpenAI server, so many at once: how many tokens it makes in a second."""

from __future__ import annotations

import json
import random
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

_TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Point:
    """So many requests at once, the tokens of each prompt and of each answer."""

    at_once: int
    prompt: int
    answer: int


def points(text: str) -> list[Point]:
    """Read "1x128x256,32x1024x256". Raises ValueError."""
    found = []
    for word in text.split(","):
        numbers = [int(number) for number in word.split("x")]
        if len(numbers) != 3 or min(numbers) < 1:
            raise ValueError(f"{word!r} is not REQUESTSxPROMPTxANSWER, such as 32x1024x256.")
        found.append(Point(*numbers))
    return found


def healthy(url: str, timeout: float = 2.0) -> bool:
    """Whether the server says that it serves."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=timeout) as answer:  # noqa: S310 - a URL of this tool
            return bool(answer.status == 200)
    except OSError:
        return False


def complete(url: str, model: str, prompt: Sequence[int], answer: int) -> int:
    """One completion; returns the tokens that it made. Raises OSError or ValueError."""
    body = {"model": model, "prompt": list(prompt), "max_tokens": answer, "temperature": 1.0, "ignore_eos": True}
    request = urllib.request.Request(  # noqa: S310 - a URL of this tool
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
        return int(json.load(reply)["usage"]["completion_tokens"])


def measure(url: str, model: str, point: Point, seed: int = 0) -> dict[str, Any]:
    """Send the requests of a point together; prompts differ, so that no cache answers."""
    source = random.Random(seed)  # noqa: S311
    prompts = [[source.randrange(300, 30000) for _ in range(point.prompt)] for _ in range(point.at_once)]
    problems: list[str] = []

    def one(prompt: list[int]) -> tuple[int, float]:
        begin = time.monotonic()
        try:
            return complete(url, model, prompt, point.answer), time.monotonic() - begin
        except (OSError, ValueError) as error:
            problems.append(f"{type(error).__name__}: {error}")
            return 0, time.monotonic() - begin

    begin = time.monotonic()
    with ThreadPoolExecutor(max_workers=point.at_once) as pool:
        answers = list(pool.map(one, prompts))
    seconds = time.monotonic() - begin
    made = sum(tokens for tokens, _seconds in answers)
    return {
        **asdict(point),
        "tokens": made,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(made / seconds, 1),
        "median_seconds": round(statistics.median(taken for _tokens, taken in answers), 2),
        "failed": len(problems),
        "problem": problems[0] if problems else None,
    }
