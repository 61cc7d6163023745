"""Start one engine of vLLM with random weights, let it answer, and say what it became.

Runs with the Python that has vLLM, and needs nothing else of this checkout. ``job.json`` has ``arguments`` (of ``vllm
serve``, as words) and ``tokens`` (how many each request makes). What vLLM prints goes on as it is; the lines of this
program begin with :data:`MARK` and are JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

MARK = "GPU-LAB "
PROMPT_TOKENS = 128
# One alone, as the estimate has it, and some at once.
BATCHES = (1, 32)


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


def generate(engine: Any, batch: int, tokens: int) -> dict[str, Any]:
    """Let requests of random tokens run together; times are in milliseconds, a step makes a token of each."""
    from vllm import SamplingParams

    parameters = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False)
    begin = time.perf_counter()
    for number in range(batch):
        prompt = {"prompt_token_ids": [(number * 7919 + place * 31) % 1000 + 10 for place in range(PROMPT_TOKENS)]}
        engine.add_request(f"{batch}-{number}-{time.time_ns()}", prompt, parameters)
    times, made = [], 0
    while engine.has_unfinished_requests():
        outputs = engine.step()
        if outputs:
            times.append(time.perf_counter())
        made += sum(len(one.outputs[0].token_ids) for one in outputs if one.finished)
    gaps = [after - before for before, after in zip(times, times[1:])]
    return {
        "batch": batch,
        "tokens": made,
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
    for batch in BATCHES:
        generate(engine, batch, 4)
        say("answered", **generate(engine, batch, job["tokens"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
