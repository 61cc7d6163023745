# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fields of an entry of ``vllm_models``: what each may be, and which option of vllm serve it becomes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_history import (
    KV_CACHE_DTYPES,
    MAMBA_CACHE_DTYPES,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_versions import VERSION

# A systemd instance name that needs no escaping, a file name and a metric label at once.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# huggingface_hub/utils/_validators.py, validate_repo_id: letters, digits, '-', '_', '.', no '--' or '..', no '.git' at
# the end, each part beginning and ending with a letter, digit or '_' and 96 characters at most
HUB_ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A name or an address without a zone, as it stands unquoted in a unit and in an address of HTTP
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
# systemd ends a line at a carriage return too; a lone surrogate cannot be written to any file
LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# The same, with tab and line break, which stand in a quoted value; and what is no character in Unicode
VALUE = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]*")
# As git-check-ref-format(1) has it; it becomes an argument and the name of a file in the hub's cache
REVISION = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/$|\.$))[^\s~^:?*\[\\]{1,255}")
# An option of vllm serve as its configuration file takes it, perhaps with the key of a mapping
ARGUMENT = re.compile(r"-{0,2}[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_.+-]+)?")
# What may be asked of an instance: times and a rate, then the lengths of requests
TARGETS = ("ttft_p95_ms", "tpot_p95_ms", "requests_per_second", "prompt_tokens", "answer_tokens")
# net/core/dev.c of Linux, dev_valid_name: 15 characters, none of '/', ':' and spaces; here in ASCII
NETWORK_INTERFACE = re.compile(r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}")


@dataclass(frozen=True)
class Field:
    """One field of an entry: ``check`` names the rule, ``argument`` the vllm serve option it becomes."""

    check: str
    argument: str | None = None


# Everything that moves the memory account is a field under vLLM's own name, so that the plan knows of it; the rest goes
# under extra_args. vllm serve spells its options with dashes; a false value survives in its configuration file only
# under the dashed name (vllm/utils/argparse_utils.py:653-673).
FIELDS: Mapping[str, Field] = {
    "name": Field("name"),
    "state": Field("state"),
    "model": Field("model"),
    "model_source": Field("folder"),
    "revision": Field("revision"),
    "gpus": Field("gpus"),
    "objective": Field("objective"),
    "min_concurrency": Field("count"),
    "shared_gpus": Field("flag"),
    "share": Field("share"),
    "targets": Field("targets"),
    "host": Field("host", "host"),
    "port": Field("port", "port"),
    "nodes": Field("nodes"),
    "network_interface": Field("interface"),
    "master_port": Field("port", "master-port"),
    "tensor_parallel_size": Field("count_or_auto", "tensor-parallel-size"),
    "pipeline_parallel_size": Field("count_or_auto", "pipeline-parallel-size"),
    "data_parallel_size": Field("count_or_auto", "data-parallel-size"),
    "enable_expert_parallel": Field("flag", "enable-expert-parallel"),
    "decode_context_parallel_size": Field("count_or_auto", "decode-context-parallel-size"),
    "distributed_executor_backend": Field("executor", "distributed-executor-backend"),
    "dtype": Field("text", "dtype"),
    "quantization": Field("text", "quantization"),
    "max_model_len": Field("count_or_auto", "max-model-len"),
    "max_num_seqs": Field("count", "max-num-seqs"),
    "max_num_batched_tokens": Field("count", "max-num-batched-tokens"),
    "gpu_memory_utilization": Field("fraction", "gpu-memory-utilization"),
    "kv_cache_memory_gib": Field("amount"),
    "kv_cache_memory_bytes": Field("count", "kv-cache-memory-bytes"),
    "kv_cache_dtype": Field("kv_cache_dtype", "kv-cache-dtype"),
    "block_size": Field("count", "block-size"),
    "mamba_cache_dtype": Field("mamba_cache_dtype", "mamba-cache-dtype"),
    "mamba_ssm_cache_dtype": Field("mamba_cache_dtype", "mamba-ssm-cache-dtype"),
    "enable_prefix_caching": Field("flag", "enable-prefix-caching"),
    "disable_hybrid_kv_cache_manager": Field("flag", "disable-hybrid-kv-cache-manager"),
    "enforce_eager": Field("flag", "enforce-eager"),
    "max_cudagraph_capture_size": Field("count", "max-cudagraph-capture-size"),
    "cpu_offload_gb": Field("amount_or_none", "cpu-offload-gb"),
    "language_model_only": Field("flag", "language-model-only"),
    "limit_mm_per_prompt": Field("limits", "limit-mm-per-prompt"),
    "mm_encoder_tp_mode": Field("encoder", "mm-encoder-tp-mode"),
    "speculative_config": Field("settings", "speculative-config"),
    "speculative_model_config": Field("file"),
    "model_config": Field("file"),
    "weights_bytes": Field("count"),
    "weights_index": Field("file"),
    "engine_version": Field("version"),
    "extra_args": Field("arguments"),
    "environment": Field("environment"),
}

# The part of the configuration that this collection decides itself; a second place for it would contradict the first.
RESERVED_ARGUMENTS: Mapping[str, str] = {
    **{field.argument: name for name, field in FIELDS.items() if field.argument},
    "model": "model",
    "served-model-name": "name",
    "device-ids": "gpus",
    "device-memory-utilization": "gpu_memory_utilization",
    "nnodes": "nodes",
    "node-rank": "nodes",
    "master-addr": "nodes",
    "headless": "nodes",
    "shutdown-timeout": "serve_drain_seconds",
    "config": "extra_args",
}
# Short names of vllm serve (engine/arg_utils.py:992-1306, 1866): its configuration file does not know them, and on the
# command line they would contradict the plan.
SHORT_ARGUMENTS: Mapping[str, str] = {
    "q": "quantization",
    "n": "nodes",
    "r": "nodes",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "ep": "enable_expert_parallel",
    "dcp": "decode_context_parallel_size",
    "sc": "speculative_config",
}


def whole(value: object) -> bool:
    """Tell whether a value is a whole number; YAML's true is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _line(value: object) -> bool:
    return isinstance(value, str) and bool(LINE.fullmatch(value))


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _gpus(value: object) -> bool:
    if value == "auto" or (isinstance(value, int) and whole(value) and value > 0):
        return True
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(whole(item) and item >= 0 for item in value)
        and len(set(value)) == len(value)
    )


def _nodes(value: object) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 1
        and all(_line(item) and not re.search(r"\s", item) for item in value)
        and len(set(value)) == len(value)
    )


def _limits(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and (isinstance(v, Mapping) or (whole(v) and v >= 0)) for k, v in value.items())
    )


def _targets(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    rates = all(_number(value[name]) and 0 < value[name] < math.inf for name in TARGETS[:3] if name in value)
    counts = all(whole(value[name]) and value[name] > 0 for name in TARGETS[3:] if name in value)
    return set(value) <= set(TARGETS) and rates and counts


def _scalar(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda v: isinstance(v, str) and v in names), f"{', '.join(names[:-1])} or {names[-1]}"


# check -> (test, what to write)
CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (
        lambda v: isinstance(v, str) and bool(NAME.fullmatch(v)),
        "lower-case letters, digits, '.', '_' and '-', 63 characters at most, beginning with a letter or digit",
    ),
    "model": (
        lambda v: _line(v) and (v.startswith("/") or bool(HUB_ID.fullmatch(v))),
        "an absolute path on the host, or a hub id such as Qwen/Qwen3-8B",
    ),
    "folder": (
        lambda v: _line(v) and v.startswith("/"),
        "the absolute path of a folder on the control node, such as {{ inventory_dir }}/models/x",
    ),
    "file": (
        _line,
        "the path of a file on the control node, such as {{ inventory_dir }}/models/x/config.json",
    ),
    "text": (_line, "a line of text without control characters"),
    "revision": (
        lambda v: _line(v) and bool(REVISION.fullmatch(v)),
        "a branch, a tag or a commit of the model on the hub, such as main",
    ),
    "host": (
        lambda v: isinstance(v, str) and bool(HOST.fullmatch(v)),
        "an address such as 0.0.0.0 or ::1, without a zone, or the name of the host",
    ),
    "flag": (lambda v: isinstance(v, bool), "true or false"),
    "state": _one_of("present", "absent"),
    "objective": _one_of("throughput", "latency"),
    "executor": _one_of("mp", "ray"),
    "encoder": _one_of("weights", "data"),
    "kv_cache_dtype": _one_of(*sorted(KV_CACHE_DTYPES)),
    "mamba_cache_dtype": _one_of(*sorted(MAMBA_CACHE_DTYPES)),
    "gpus": (_gpus, "auto, a count of GPUs, or a list of different GPU indexes such as [0, 1]"),
    "nodes": (_nodes, "a list of two or more different inventory names, the one that answers requests first"),
    "interface": (
        lambda v: isinstance(v, str) and bool(NETWORK_INTERFACE.fullmatch(v)),
        "the name of a network interface that the nodes share, such as eth1",
    ),
    "port": (lambda v: whole(v) and 1 <= v <= 65535, "a port from 1 to 65535"),
    "count": (lambda v: whole(v) and v > 0, "a whole number above 0"),
    "count_or_auto": (lambda v: v == "auto" or (whole(v) and v > 0), "auto, or a whole number above 0"),
    "fraction": (lambda v: _number(v) and 0 < v <= 1, "a number above 0 and up to 1"),
    "amount": (lambda v: _number(v) and 0 < v < math.inf, "a number of GiB above 0"),
    "share": (lambda v: _number(v) and 0 < v < math.inf, "a number above 0, such as 2 for twice the share of others"),
    "targets": (
        _targets,
        "a mapping of ttft_p95_ms, tpot_p95_ms, requests_per_second (numbers above 0), prompt_tokens and answer_tokens "
        "(whole numbers above 0), any of them",
    ),
    "amount_or_none": (lambda v: _number(v) and 0 <= v < math.inf, "a number of GiB, 0 or more"),
    "limits": (_limits, "a mapping such as {image: 2, video: 0}"),
    "settings": (
        lambda v: isinstance(v, Mapping) and len(v) > 0,
        "a mapping such as {method: ngram, num_speculative_tokens: 3}",
    ),
    "version": (
        lambda v: isinstance(v, str) and bool(VERSION.fullmatch(v)),
        "a release of vLLM as text, such as '0.33.0'",
    ),
    "arguments": (
        lambda v: isinstance(v, Mapping),
        "a mapping of vllm serve options, without the leading dashes",
    ),
    "environment": (
        lambda v: (
            isinstance(v, Mapping)
            and all(isinstance(k, str) and ENVIRONMENT_NAME.fullmatch(k) and _scalar(i) for k, i in v.items())
        ),
        "a mapping of environment variable names to text or numbers",
    ),
}


def good(name: str, value: object) -> bool:
    """Tell whether a value will do for a field."""
    return CHECKS[FIELDS[name].check][0](value)
