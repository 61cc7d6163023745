# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an engine is asked to do, for an estimate of how fast it does it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# Answers of people's questions are of very different lengths: shares of the requests, and their length over the mean.
# An exponential distribution cut at five times the mean, in seven parts.
VARIED = ((0.25, 0.14), (0.25, 0.49), (0.20, 0.94), (0.15, 1.58), (0.10, 2.4), (0.04, 3.5), (0.01, 4.8))


@dataclass(frozen=True)
class Workload:
    """Requests of ``prompt_tokens`` and ``answer_tokens`` (means).

    ``concurrency`` are requests that are kept under way; None: as many as the engine takes. ``requests`` come at once
    and the last one's end counts; None: there is no end. ``varied`` says that answers differ in length as those of
    people do, else all are of one length.
    """

    prompt_tokens: int = 1024
    answer_tokens: int = 256
    concurrency: int | None = None
    requests: int | None = None
    varied: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of a request."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def held_tokens(self) -> float:
        """Tokens that a running request has in the cache, on the average over time."""
        return self.prompt_tokens + self.answer_tokens * (1.0 if self.varied else 0.5)


DEFAULT = Workload()
