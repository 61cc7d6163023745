# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell an answer that was computed from one that only looks like one, by the server's own numbers. Pure.

What is judged is the arithmetic, not the text. A model with random weights, as in the tests and the quick start, says
nothing that makes sense and soon repeats one word with a probability of 0.6, and is in order: so neither the words nor
their repetition alone are held against a server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Few tokens may agree by chance.
LARGEST = 10**300
LEAST_TOKENS = 8
# Python's json refuses to write NaN, which vLLM then takes for a fault of the request: status 400.
NOT_JSON = "Out of range float values are not JSON compliant"


@dataclass(frozen=True)
class Word:
    """One generated token: its text, its log probability, and those of the likeliest tokens in its place.

    None stands for a number that JSON cannot say: streamed NaN and infinity arrive as null.
    """

    text: str
    logprob: float | None
    best: tuple[float | None, ...] = ()


def is_number(value: Any) -> bool:
    """Tell whether a value of JSON is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # a whole number of JSON may be larger than any float
    return abs(value) < LARGEST if isinstance(value, int) else math.isfinite(value)


def fault(words: Sequence[Word]) -> str | None:
    """Say what shows that the answer was not computed, or None.

    * A probability that is no number, or above 1: a NaN or an overflow somewhere in the layers. The token is then that
      of id 0 every time ("!!!!" in many vocabularies), because that is where the maximum of NaNs is found.
    * The likeliest tokens are equally likely, to the last digit, in every place: the logits are all the same, so
      nothing of the prompt reached them (weights that were never loaded). Random weights give unequal logits; in
      16 bits two of them may tie, five in every place do not.
    """
    for place, word in enumerate(words):
        if word.logprob is None or not math.isfinite(word.logprob) or word.logprob > 1e-3:
            return (
                f"token {place + 1} of its answer ({word.text!r}) has no probability (NaN or infinite): the model "
                "computes garbage"
            )
    if len(words) >= LEAST_TOKENS and all(len(word.best) >= 5 and len(set(word.best)) == 1 for word in words):
        return "in every place of its answer all tokens are equally likely: the model computes nothing"
    return None


def remark(words: Sequence[Word]) -> str | None:
    """Say what is odd about an answer that may be right, or None.

    One word again and again with a probability of exactly 1: logits far out of scale, as wrong quantization scales
    give them. A sensible answer to the warm-up's question has different words, and random weights are not sure.
    """
    if len(words) >= LEAST_TOKENS and one_token(words) and all((word.logprob or 0.0) > -1e-6 for word in words):
        return (
            f"it answers with {words[0].text!r} alone and is certain of it each time; the weights or their "
            "quantization may be broken"
        )
    return None


def one_token(words: Sequence[Word]) -> bool:
    """Tell whether an answer is one token, repeated."""
    return len({word.text for word in words}) == 1 and len(words) > 1
