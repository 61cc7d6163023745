# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the answers of vLLM's endpoints: streamed tokens, vectors, scores. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.client import WrongAnswer, data, member, said
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.garbage import Word, is_number

PREFIX = "data:"
END = "[DONE]"


@dataclass
class Generated:
    """A streamed answer. Times are seconds since the request was sent; ``words`` is empty without log probabilities."""

    tokens: int = 0
    prompt_tokens: int = 0
    first_token_seconds: float | None = None
    seconds: float = 0.0
    words: list[Word] = field(default_factory=list)


def generated(lines: Iterable[tuple[float, str]]) -> Generated:
    """Read a stream of server-sent events, each line with its time.

    Raises :class:`WrongAnswer` for an error in the middle, an end without ``[DONE]`` and an answer of no tokens.
    """
    answer = Generated()
    done = False
    for seconds, line in lines:
        if not line.startswith(PREFIX):
            continue
        text = line[len(PREFIX) :].strip()
        if text == END:
            done = True
            continue
        event = _event(text)
        if event.get("error"):
            raise WrongAnswer(f"it broke off: {said(event)}")
        _add(answer, event, seconds)
    if not done:
        raise WrongAnswer("it broke off before its end")
    if answer.tokens < 1:
        raise WrongAnswer("it is empty")
    return answer


def _event(text: str) -> Mapping[str, Any]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        raise WrongAnswer(f"it is not JSON: {said(text)}") from None
    if not isinstance(event, dict):
        raise WrongAnswer(f"it is not an object: {said(event)}")
    return event


def _add(answer: Generated, event: Mapping[str, Any], seconds: float) -> None:
    for choice in _list(event.get("choices")):
        delta = member(choice, "delta")
        texts = [value for key, value in delta.items() if key != "role"] if isinstance(delta, dict) else []
        if any([*texts, member(choice, "text")]):
            if answer.first_token_seconds is None:
                answer.first_token_seconds = seconds
            answer.seconds = seconds
        answer.words.extend(_words(member(choice, "logprobs")))
    usage = event.get("usage")
    tokens = member(usage, "completion_tokens")
    if isinstance(tokens, int):
        answer.tokens = tokens
        prompt_tokens = member(usage, "prompt_tokens")
        answer.prompt_tokens = prompt_tokens if isinstance(prompt_tokens, int) else 0
        # a token may be an incomplete character, which is sent with the next one
        answer.seconds = answer.seconds or seconds


def _words(logprobs: Any) -> Iterator[Word]:
    """Read log probabilities: of a chat a list of objects, of a completion parallel lists."""
    for entry in _list(member(logprobs, "content")):
        best = [member(one, "logprob") for one in _list(member(entry, "top_logprobs"))]
        yield Word(str(member(entry, "token")), _number(member(entry, "logprob")), tuple(map(_number, best)))
    tokens = _list(member(logprobs, "tokens"))
    numbers = _list(member(logprobs, "token_logprobs"))
    tops = _list(member(logprobs, "top_logprobs")) or [None] * len(tokens)
    for token, number, top in zip(tokens, numbers, tops):
        best = list(top.values()) if isinstance(top, dict) else []
        yield Word(str(token), _number(number), tuple(map(_number, best)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def vectors(answer: Any) -> list[Any]:
    """Return the numbers of an embedding, a classification or a pooled answer, nested lists flattened."""
    found: list[Any] = []
    for entry in data(answer):
        for key in ("embedding", "probs", "data", "score"):
            if key in entry:
                found.extend(_flat(entry[key]))
    return found


def relevances(answer: Any) -> list[Any]:
    """Return the scores of a rerank."""
    results = member(answer, "results")
    return [member(entry, "relevance_score") for entry in results] if isinstance(results, list) else []


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def check_numbers(numbers: list[Any]) -> int:
    """Check that numbers were computed, and return how many; raises :class:`WrongAnswer`."""
    if not numbers:
        raise WrongAnswer("it is empty")
    bad = [number for number in numbers if not is_number(number)]
    if bad:
        raise WrongAnswer(f"{len(bad)} of its {len(numbers)} numbers are no numbers (NaN): the model computes garbage")
    if len(numbers) > 1 and not any(numbers):
        raise WrongAnswer(f"its {len(numbers)} numbers are all 0: the model computes nothing")
    return len(numbers)
