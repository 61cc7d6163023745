"""Start one engine of vLLM with random weights, let it answer, and say what it became.

Runs with the Python that has vLLM, and needs nothing else of this checkout. ``job.json`` has ``arguments`` (of ``vllm
serve``, as words) and ``points``: requests at once, the tokens of each prompt, and those that each answer makes. What
vLLM prints goes on as it is; the lines of this program begin with :data:`MARK` and are JSON.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from typing import Any

MARK = "GPU-LAB "
# Every vocabulary has more.
TOKENS = range(10, 20000)


def say(event: str, **more: Any) -> None:
    """Write a line."""
    print(MARK + json.dumps({"event": event, **more}), flush=True)


def engine_of(words: list[str]) -> Any:
    """Make the engine as the server would: its own parser, and the defaults of a server."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.llm_engine import LLMEngine

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    arguments, left = parser.parse_known_args(words)
    if left:
        say("left_out", words=left)
    return LLMEngine.from_engine_args(
        EngineArgs.from_cli_args(arguments), usage_context=UsageContext.OPENAI_API_SERVER, enable_multiprocessing=True
    )


def sizes(engine: Any) -> dict[str, Any]:
    """What vLLM settled on where nothing was written."""
    config = engine.vllm_config
    return {
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "gpu_memory_utilization": config.cache_config.gpu_memory_utilization,
        "kv_cache_dtype": config.cache_config.cache_dtype,
        "block_size": config.cache_config.block_size,
        "num_gpu_blocks": config.cache_config.num_gpu_blocks,
        "dtype": str(config.model_config.dtype),
        "quantization": config.model_config.quantization,
    }


def generate(engine: Any, batch: int, prompt_tokens: int, tokens: int, seed: str) -> dict[str, Any]:
    """Let requests of random tokens run together; a step makes a token of each.

    Another seed is other prompts, which no cache has seen.
    """
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False)
    source = random.Random(seed)  # noqa: S311
    prompts = [source.choices(TOKENS, k=prompt_tokens) for _ in range(batch)]
    begin = time.perf_counter()
    for number, prompt in enumerate(prompts):
        engine.add_request(f"{seed}-{number}", {"prompt_token_ids": prompt}, parameters)
    times, made = [], 0
    while engine.has_unfinished_requests():
        outputs = engine.step()
        if outputs:
            times.append(time.perf_counter())
        made += sum(len(one.outputs[0].token_ids) for one in outputs if one.finished)
    seconds = time.perf_counter() - begin
    gaps = [after - before for before, after in zip(times, times[1:])]
    return {
        "batch": batch,
        "prompt": prompt_tokens,
        "answer": tokens,
        "tokens": made,
        "tokens_per_second": round(made / seconds, 1),
        "first_token_ms": round((times[0] - begin) * 1000, 2) if times else None,
        "step_ms": round(statistics.median(gaps) * 1000, 3) if gaps else None,
    }


def main() -> int:
    """Do it; 1 when it did not come to its end."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        job = json.load(stream)
    begin = time.monotonic()
    import vllm

    say("imported", vllm=vllm.__version__, seconds=round(time.monotonic() - begin, 1))
    engine = engine_of(job["arguments"])
    say("started", seconds=round(time.monotonic() - begin, 1), sizes=sizes(engine))
    for number, (batch, prompt, answer) in enumerate(job["points"]):
        generate(engine, batch, prompt, 4, f"first-{number}")
        say("answered", **generate(engine, batch, prompt, answer, f"then-{number}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
