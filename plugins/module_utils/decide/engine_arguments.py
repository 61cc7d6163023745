# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of ``vllm serve`` that came or went, so that they are refused with a sentence and not by a dying unit.

Read from the wheels named in engine_history: engine/arg_utils.py, entrypoints/openai/cli_args.py. A release is the
first read one without the option, or with it. Options are written without the leading dashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DROP = "leave it out"


@dataclass(frozen=True)
class Removed:
    """``release`` is the first without the option; ``instead`` ends a sentence: "leave it out"."""

    release: str
    instead: str


def _gone(version: str, *options: str, instead: str = DROP) -> dict[str, Removed]:
    return dict.fromkeys(options, Removed(version, instead))


REMOVED: Mapping[str, Removed] = {
    **_gone(
        "0.8.3",
        "num-speculative-tokens",
        "ngram-prompt-lookup-max",
        "ngram-prompt-lookup-min",
        "speculative-model",
        "speculative-draft-tensor-parallel-size",
        "speculative-max-model-len",
        "speculative-model-quantization",
        "spec-decoding-acceptance-method",
        instead="write speculative_config, a mapping",
    ),
    **_gone("0.10.0", "device", "use-v2-block-manager", "tokenizer-pool-size", "tokenizer-pool-type"),
    **_gone("0.10.0", "long-lora-scaling-factors", "qlora-adapter-name-or-path"),
    **_gone("0.10.0", "enable-reasoning", instead="write reasoning-parser alone"),
    **_gone("0.10.1", "num-scheduler-steps", "multi-step-stream-outputs"),
    **_gone("0.10.2", "enable-prompt-adapter", "override-neuron-config"),
    **_gone("0.11.0", "disable-async-output-proc", "preemption-mode", "scheduler-delay-factor"),
    **_gone("0.11.0", "max-seq-len-to-capture", instead="write max-cudagraph-capture-size"),
    **_gone("0.11.1", "enable-lora-bias"),
    **_gone("0.11.1", "rope-scaling", "rope-theta", instead="write hf-overrides, a mapping"),
    **_gone("0.12.0", "num-lookahead-slots", "lora-extra-vocab-size"),
    **_gone(
        "0.12.0",
        "guided-decoding-backend",
        "guided-decoding-disable-additional-properties",
        "guided-decoding-disable-any-whitespace",
        "guided-decoding-disable-fallback",
        instead="write structured-outputs-config, a mapping",
    ),
    **_gone(
        "0.12.0",
        "eplb-log-balancedness",
        "eplb-step-interval",
        "eplb-window-size",
        "num-redundant-experts",
        instead="write eplb-config, a mapping",
    ),
    **_gone("0.12.0", "override-pooler-config", instead="write pooler-config, a mapping"),
    **_gone("0.13.0", "task", instead="write runner and convert"),
    **_gone("0.13.0", "cuda-graph-sizes", instead="write cudagraph-capture-sizes"),
    **_gone("0.13.0", "disable-mm-preprocessor-cache", instead="write mm-processor-cache-gb: 0"),
    **_gone("0.13.0", "enable-multimodal-encoder-data-parallel", instead="write mm-encoder-tp-mode: data"),
    **_gone("0.17.0", "logits-processor-pattern"),
    **_gone("0.17.0", "disable-log-requests", instead="leave it out: requests are not logged by default"),
    **_gone("0.18.0", "swap-space", instead="leave it out: requests are computed again where they were swapped out"),
    **_gone("0.19.0", "disable-frontend-multiprocessing"),
    **_gone("0.27.0", "max-long-partial-prefills", "max-num-partial-prefills"),
    **_gone("0.28.0", "calculate-kv-scales", "override-attention-dtype"),
    # in none of the releases read
    **_gone("0.7.3", "worker-use-ray", "engine-use-ray", instead="write distributed-executor-backend: ray"),
}

# What the collection or its users write, and the first release that takes it; the others were always there.
ADDED: Mapping[str, str] = {
    "enable-expert-parallel": "0.8.0",
    "speculative-config": "0.8.2",
    "data-parallel-size": "0.8.3",
    "data-parallel-address": "0.9.0",
    "data-parallel-size-local": "0.9.0",
    "headless": "0.9.0",
    "data-parallel-rank": "0.9.2",
    "enable-eplb": "0.9.2",
    "async-scheduling": "0.10.0",
    "mamba-cache-dtype": "0.10.1",
    "mamba-ssm-cache-dtype": "0.10.1",
    "mm-processor-cache-gb": "0.10.1",
    "decode-context-parallel-size": "0.10.2",
    "kv-cache-memory-bytes": "0.10.2",
    "mm-encoder-tp-mode": "0.10.2",
    "kv-offloading-size": "0.11.1",
    "mamba-block-size": "0.11.1",
    "master-addr": "0.11.1",
    "master-port": "0.11.1",
    "max-cudagraph-capture-size": "0.11.1",
    "nnodes": "0.11.1",
    "node-rank": "0.11.1",
    "prefill-context-parallel-size": "0.12.0",
    "attention-backend": "0.13.0",
    "mamba-cache-mode": "0.15.0",
    "language-model-only": "0.17.0",
    "moe-backend": "0.17.0",
    "performance-mode": "0.17.0",
    "shutdown-timeout": "0.18.0",
    "numa-bind": "0.20.0",
    "numa-bind-nodes": "0.20.0",
    "device-ids": "0.24.0",
    "mm-ipc-gpu-memory-gb": "0.25.0",
    "device-memory-utilization": "0.31.0",
}
