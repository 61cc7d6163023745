# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Requests of every kind that a vLLM server may offer, and what a good answer to each is."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import answers, garbage
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.client import (
    Refusal,
    Server,
    WrongAnswer,
    member,
    said,
)

PROMPT = "Count from one to five."
MAX_TOKENS = 16
# Alternatives whose probabilities are asked for; vLLM gives up to 20 (--max-logprobs).
ALTERNATIVES = 5
# A server without that endpoint, or a model without a chat template, refuses with one of these.
NOT_OFFERED = (
    http.client.BAD_REQUEST,
    http.client.NOT_FOUND,
    http.client.METHOD_NOT_ALLOWED,
    http.client.NOT_IMPLEMENTED,
)


@dataclass(frozen=True)
class Kind:
    """An endpoint. ``body`` makes the request of a prompt, without the model; ``numbers`` reads an unstreamed answer.

    Kinds without ``numbers`` are streamed; ``logprobs`` are then the fields that ask for log probabilities.
    """

    path: str
    body: Callable[[str], Mapping[str, Any]]
    numbers: Callable[[Any], list[Any]] | None = None
    logprobs: Mapping[str, Any] = field(default_factory=dict)


# In the order in which they are tried (entrypoints/launchers/api_server/routers.py and entrypoints/pooling of 0.33.0).
KINDS: Mapping[str, Kind] = {
    "chat": Kind(
        "/v1/chat/completions",
        lambda prompt: {"messages": [{"role": "user", "content": prompt}]},
        logprobs={"logprobs": True, "top_logprobs": ALTERNATIVES},
    ),
    "completion": Kind("/v1/completions", lambda prompt: {"prompt": prompt}, logprobs={"logprobs": ALTERNATIVES}),
    "embedding": Kind("/v1/embeddings", lambda prompt: {"input": prompt}, answers.vectors),
    "score": Kind("/score", lambda prompt: {"text_1": PROMPT, "text_2": prompt}, answers.vectors),
    "rerank": Kind("/rerank", lambda prompt: {"query": PROMPT, "documents": [prompt]}, answers.relevances),
    "classification": Kind("/classify", lambda prompt: {"input": prompt}, answers.vectors),
    "pooling": Kind("/pooling", lambda prompt: {"input": prompt}, answers.vectors),
}


@dataclass
class Answer:
    """A good answer. ``size`` counts its tokens or numbers; times are seconds, None where they were not streamed."""

    kind: str
    size: int
    seconds: float
    prompt_tokens: int = 0
    first_token_seconds: float | None = None
    words: Sequence[garbage.Word] = ()


def ask(
    server: Server, name: str, kind: str, prompt: str = PROMPT, tokens: int = MAX_TOKENS, judged: bool = False
) -> Answer:
    """Send one request; ``tokens`` is the length of a generated answer, ``judged`` asks for log probabilities.

    Only an answer that is not judged is kept going after its natural end. Raises :class:`NoAnswer`, :class:`Refusal`
    (a status other than 200) or :class:`WrongAnswer` with the kind in the sentence.
    """
    wanted = KINDS[kind]
    try:
        if wanted.numbers is not None:
            return _numbers(server, kind, wanted, {"model": name, **wanted.body(prompt)})
        body = {
            "model": name,
            **wanted.body(prompt),
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            # vLLM then says with each piece how many tokens there are so far
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        if not judged:
            return _streamed(server, kind, wanted.path, {**body, "ignore_eos": True})
        try:
            return _streamed(server, kind, wanted.path, {**body, **wanted.logprobs})
        except Refusal as refusal:
            if "logprobs" not in refusal.said:
                raise
            # --max-logprobs 0, or a way of decoding that has none
            return _streamed(server, kind, wanted.path, body)
    except Refusal:
        raise
    except WrongAnswer as wrong:
        raise WrongAnswer(f"the answer to the {kind} request is no good: {wrong}") from wrong


def _streamed(server: Server, kind: str, path: str, body: Mapping[str, Any]) -> Answer:
    found = answers.generated(server.stream(path, body))
    fault = garbage.fault(found.words)
    if fault:
        raise WrongAnswer(fault)
    return Answer(
        kind=kind,
        size=found.tokens,
        seconds=found.seconds,
        prompt_tokens=found.prompt_tokens,
        first_token_seconds=found.first_token_seconds,
        words=found.words,
    )


def _numbers(server: Server, kind: str, wanted: Kind, body: Mapping[str, Any]) -> Answer:
    begin = time.monotonic()
    status, answer = server.request(wanted.path, body)
    if status != http.client.OK:
        sentence = said(answer)
        if garbage.NOT_JSON in sentence:
            raise WrongAnswer("some of its numbers are no numbers (NaN): the model computes garbage")
        raise Refusal(status, sentence)
    assert wanted.numbers is not None
    size = answers.check_numbers(wanted.numbers(answer))
    tokens = member(member(answer, "usage"), "prompt_tokens")
    return Answer(kind, size, time.monotonic() - begin, tokens if isinstance(tokens, int) else 0)


def candidates(paths: Collection[str]) -> list[str]:
    """Name the kinds that a server may offer: those of its ``paths``, all where it does not tell."""
    told = [kind for kind, wanted in KINDS.items() if wanted.path in paths]
    return told or list(KINDS)


def relatives(kind: str, paths: Collection[str]) -> list[str]:
    """Name the kinds that a server which answered ``kind`` may offer beside it: it generates, or it pools."""
    generates = KINDS[kind].numbers is None
    return [other for other in candidates(paths) if other != kind and (KINDS[other].numbers is None) == generates]


def first_request(server: Server, name: str, paths: Collection[str] = ()) -> Answer:
    """Send the first kind of request that the model takes, and judge the answer.

    Raises :class:`NoAnswer`, or :class:`WrongAnswer` with what is wrong.
    """
    refused = []
    for kind in candidates(paths):
        try:
            return ask(server, name, kind, judged=True)
        except Refusal as refusal:
            if refusal.status not in NOT_OFFERED:
                raise WrongAnswer(f"the {kind} request got {refusal}") from refusal
            refused.append(f"{kind}: {refusal.status} {refusal.said}")
    raise WrongAnswer(f"every kind of request was refused ({'; '.join(refused)})")
