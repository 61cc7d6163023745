# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of a warm-up: what traffic will use, asked for before there is any.

vLLM compiles and captures before its port answers; what is left for the first requests are kernels that are built for
a shape when it first occurs (Triton, FlashInfer), the allocator's first large blocks, and the tokenizer's caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import requests
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.client import Refusal, Server, WrongAnswer, member

# Tokens of a measured answer: enough for a rate.
MEASURED_TOKENS = 64
# A prompt takes no more of max_model_len than this; the rest is for the chat template and the answer.
LONGEST_SHARE = 0.75
# Shorter "long" prompts would warm nothing that the short one has not.
LEAST_LONG_TOKENS = 64
# The room of an answer in a short context.
ANSWER_SHARE = 0.125
FILLER = "The harbour was quiet, and nine small boats lay in a row beside the old stone wall. "


@dataclass(frozen=True)
class Step:
    """Requests that are sent at once: one for each entry of ``prompts``, its length in tokens, 0 for a short one."""

    words: str
    kind: str
    prompts: tuple[int, ...]
    tokens: int
    measured: bool = False


def plan(
    kind: str, paths: Collection[str], max_model_len: int | None, concurrency: int, prompt_tokens: int
) -> list[dict[str, Any]]:
    """Plan the steps after the first request, as dictionaries of :class:`Step`.

    ``kind`` is the one that was answered, ``concurrency`` how many requests go out at once, ``prompt_tokens`` the
    longest prompt, which :data:`LONGEST_SHARE` of ``max_model_len`` limits too.
    """
    length = max_model_len or 2048
    long = min(prompt_tokens, int(length * LONGEST_SHARE))
    tokens = max(1, min(requests.MAX_TOKENS, int(length * ANSWER_SHARE)))
    measured = max(1, min(MEASURED_TOKENS, int(length * ANSWER_SHARE)))
    at_once = f"{concurrency} {kind} requests at once"
    steps = [Step(f"a {other} request", other, (0,), tokens) for other in requests.relatives(kind, paths)]
    if concurrency > 1:
        steps.append(Step(f"{at_once}, short", kind, (0,) * concurrency, tokens))
    if long >= LEAST_LONG_TOKENS:
        steps.append(Step(f"a prompt of up to {long} tokens", kind, (long,), tokens))
        if concurrency > 1:
            # halves, so that all of them together are no longer than the long one
            lengths = tuple(long >> (place + 1) for place in range(concurrency))
            steps.append(Step(f"{at_once}, of several lengths", kind, lengths, tokens))
    steps.append(Step("the time to the first token" if _generates(kind) else "the time", kind, (0,), measured, True))
    if concurrency > 1:
        steps.append(Step(f"the rate of {at_once}", kind, (0,) * concurrency, measured, True))
    return [asdict(step) for step in steps]


def _generates(kind: str) -> bool:
    return requests.KINDS[kind].numbers is None


def run(server: Server, name: str, step: Step) -> dict[str, Any]:
    """Send the requests of a step at once and measure them; times in seconds, rates per second.

    A kind that is not offered, or a prompt that is too long for a setting of the server, is ``refused`` with what it
    said. Raises :class:`NoAnswer` or :class:`WrongAnswer` for everything else.
    """
    each = _tokens_of_filler(server, name) if max(step.prompts) else 1.0
    prompts = [_prompt(step.words, place, length, each) for place, length in enumerate(step.prompts)]
    begin = time.monotonic()
    with ThreadPoolExecutor(len(prompts)) as pool:
        sent = [pool.submit(requests.ask, server, name, step.kind, prompt, step.tokens) for prompt in prompts]
    seconds = time.monotonic() - begin
    try:
        answers = [one.result() for one in sent]
    except Refusal as refusal:
        if refusal.status not in requests.NOT_OFFERED:
            raise WrongAnswer(f"{step.words}: the {step.kind} request got {refusal}") from refusal
        return {"words": step.words, "kind": step.kind, "refused": f"{refusal.status} {refusal.said}"}
    return measure(step, answers, seconds)


def measure(step: Step, answers: Sequence[requests.Answer], seconds: float) -> dict[str, Any]:
    """Sum up the answers of a step."""
    firsts = [one.first_token_seconds for one in answers if one.first_token_seconds is not None]
    tokens = sum(one.size for one in answers) if _generates(step.kind) else None
    # By the whole answers: a client that is busy itself sees the pieces of a stream late and all at once.
    rate = tokens / seconds if tokens and seconds else None
    return {
        "words": step.words,
        "kind": step.kind,
        "requests": len(answers),
        "longest_prompt_tokens": max(one.prompt_tokens for one in answers),
        "answer_tokens": tokens,
        "seconds": round(seconds, 3),
        "first_token_seconds": round(statistics.median(firsts), 4) if firsts else None,
        "tokens_per_second": round(rate, 1) if rate is not None else None,
        "measured": step.measured,
    }


def _tokens_of_filler(server: Server, name: str) -> float:
    """Ask how many tokens a repetition of the filler is; without an answer as many as it has characters.

    vLLM's /tokenize is open and there for every model (entrypoints/serve/tokenize/api_router.py).
    """
    times = 8
    _status, answer = server.request("/tokenize", {"model": name, "prompt": FILLER * times})
    count = member(answer, "count")
    return max(1.0, count / times) if isinstance(count, int) and count > 0 else float(len(FILLER))


def _prompt(words: str, place: int, length: int, each: float) -> str:
    """Write a prompt of about ``length`` tokens, no more.

    It begins with what no other has, or the prefix cache would answer for the model.
    """
    head = f"{place + 1}: {words}. "
    if not length:
        return head + requests.PROMPT
    spare = each * len(head) / len(FILLER) * 2
    return head + FILLER * max(0, int((length - spare) / each))


def summary(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pick the figures that a receipt and a table show out of the measured steps; None where nothing measured them."""
    measured = [step for step in steps if step.get("measured") and "refused" not in step]
    alone = next((step for step in measured if step["requests"] == 1), None)
    many = next((step for step in measured if step["requests"] > 1), None)
    return {
        "first_token_seconds": alone["first_token_seconds"] if alone else None,
        "tokens_per_second": alone["tokens_per_second"] if alone else None,
        "at_once": many["requests"] if many else None,
        "tokens_per_second_at_once": many["tokens_per_second"] if many else None,
    }


def sentence(was_warm: bool, warmed: dict[str, Any]) -> str:
    """Say how a warm-up went in a line."""
    told = f"answered a {warmed['kind']} request in {warmed['first_request_seconds']:.2f} s"
    if was_warm:
        return f"{told}; it is warm"
    if warmed["first_token_seconds"] is not None:
        told += f"; warm: {warmed['first_token_seconds']:.3f} s to the first token"
    if warmed["tokens_per_second"] is not None:
        told += f", {warmed['tokens_per_second']:.0f} tokens/s"
    if warmed["tokens_per_second_at_once"] is not None:
        told += f", {warmed['tokens_per_second_at_once']:.0f} tokens/s with {warmed['at_once']} requests at once"
    return told
