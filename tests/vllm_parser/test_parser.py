"""vLLM's own parser takes the options that the collection writes, and refuses those that it says are gone."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions, instances, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_arguments import ADDED, REMOVED
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import FIELDS
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, model
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import report

from tools import engine_venv

SCRIPT = Path(__file__).with_name("parse.py")
Ask = Callable[[list[list[str]]], list[str | None]]


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Give the parser of the CPU build command lines, and get its answers; None is a yes."""
    python = engine_venv.ensure()
    home = tmp_path_factory.mktemp("vllm")
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (
        (home / "log").open("w") as log,
        subprocess.Popen(
            [str(python), str(SCRIPT)], env=environment, stdin=PIPE, stdout=PIPE, stderr=log, text=True
        ) as parser,
    ):
        assert parser.stdin
        assert parser.stdout

        def answers(command_lines: list[list[str]]) -> list[str | None]:
            print(json.dumps(command_lines), file=parser.stdin, flush=True)
            line = parser.stdout.readline() if parser.stdout else ""
            assert line, (home / "log").read_text()[-4000:]
            found: list[str | None] = json.loads(line)
            return found

        yield answers


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Spell a mapping of options as vLLM spells its configuration file (utils/argparse_utils.py:516-604)."""
    words: list[str] = []
    for name, value in arguments.items():
        if name == "model":
            words.insert(0, str(value))
        elif isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", json.dumps(value) if isinstance(value, Mapping) else str(value)]
    return words


# A value for the option of every field; a field without one here fails the test
VALUES: dict[str, list[Any]] = {
    "host": ["127.0.0.1", "0.0.0.0"],
    "port": [8000],
    "master-port": [29501],
    "tensor-parallel-size": [2],
    "pipeline-parallel-size": [2],
    "data-parallel-size": [2],
    "enable-expert-parallel": [True, False],
    "decode-context-parallel-size": [2],
    "distributed-executor-backend": ["mp", "ray"],
    "dtype": ["auto", "float16", "bfloat16", "float32", "half", "float"],
    "quantization": ["fp8", "awq", "gptq_marlin", "compressed-tensors", "mxfp8"],
    "max-model-len": [4096, "auto"],
    "max-num-seqs": [64],
    "max-num-batched-tokens": [4096],
    "gpu-memory-utilization": [0.5, 1],
    "kv-cache-memory-bytes": [2 * 1024**3],
    "kv-cache-dtype": sorted(engine_versions.of("0.32.0").kv_cache_dtypes),
    "block-size": [1, 16, 128],
    "mamba-cache-dtype": sorted(engine_versions.of("0.32.0").mamba_cache_dtypes),
    "mamba-ssm-cache-dtype": sorted(engine_versions.of("0.32.0").mamba_cache_dtypes),
    "enable-prefix-caching": [True, False],
    "disable-hybrid-kv-cache-manager": [True, False],
    "enforce-eager": [True, False],
    "max-cudagraph-capture-size": [64],
    "cpu-offload-gb": [0, 0.5, 8],
    "language-model-only": [True, False],
    "limit-mm-per-prompt": [{"image": 2, "video": 0}, {"video": {"count": 1, "num_frames": 32}}],
    "mm-encoder-tp-mode": ["weights", "data"],
    "speculative-config": [{"method": "ngram", "num_speculative_tokens": 3}],
}
# Sets of options as layouts write them
WRITTEN: dict[str, dict[str, Any]] = {
    "one GPU": {
        "model": "Qwen/Qwen3-8B",
        "served-model-name": ["qwen3-8b"],
        "host": "127.0.0.1",
        "port": 8000,
        "device-ids": "3",
        "revision": "main",
        "tensor-parallel-size": 1,
        "pipeline-parallel-size": 1,
        "shutdown-timeout": 60,
    },
    "experts over two axes": {
        "model": "/srv/models/deepseek",
        "device-ids": "0,1,2,3,4,5,6,7",
        "tensor-parallel-size": 4,
        "data-parallel-size": 2,
        "enable-expert-parallel": True,
        "mm-encoder-tp-mode": "data",
        "max-model-len": 65536,
        "disable-custom-all-reduce": True,
    },
    "the head of two nodes": {
        "model": "/srv/models/big",
        "tensor-parallel-size": 8,
        "pipeline-parallel-size": 2,
        "nnodes": 2,
        "node-rank": 0,
        "master-addr": "10.0.0.1",
        "master-port": 29501,
    },
    "the second of two nodes": {
        "model": "/srv/models/big",
        "tensor-parallel-size": 16,
        "nnodes": 2,
        "node-rank": 1,
        "master-addr": "10.0.0.1",
        "headless": True,
    },
    "bound to NUMA nodes": {"model": "/m", "numa-bind": True, "numa-bind-nodes": [0, 0, 1, 1]},
    "a CPU host": {"model": "/m", "kv-cache-memory-bytes": 536870912, "dtype": "bfloat16"},
}


def test_every_field_and_value_is_taken(ask: Ask) -> None:
    assert set(VALUES) == {field.argument for field in FIELDS.values() if field.argument}
    lines = [command_line({"model": "/m", name: value}) for name, values in VALUES.items() for value in values]
    refused = {" ".join(line): said for line, said in zip(lines, ask(lines), strict=True) if said}
    assert not refused


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
MIXTRAL = {
    **LLAMA,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
}
NODES = {"nodes": ["a", "b"], "network_interface": "eth1"}


@pytest.mark.parametrize(
    ("config", "profile", "entry"),
    [
        pytest.param(LLAMA, {"name": "H100", "count": 8}, {}, id="replicas"),
        pytest.param(LLAMA, {"name": "H100", "count": 8}, {"objective": "latency"}, id="latency"),
        pytest.param(LLAMA, {"name": "T4", "count": 4}, {}, id="float16, a shorter context"),
        pytest.param(MIXTRAL, {"name": "H100", "count": 8}, {}, id="experts"),
        pytest.param(MIXTRAL, {"name": "A100-SXM4-40GB", "count": 2}, NODES, id="two hosts"),
        pytest.param(
            MIXTRAL,
            {"name": "H100", "count": 4},
            {**NODES, "data_parallel_size": 8, "tensor_parallel_size": 1, "enable_expert_parallel": True},
            id="replicas over two hosts",
        ),
        pytest.param(
            LLAMA,
            {"name": "H100", "count": 2},
            {"gpus": [1], "kv_cache_dtype": "fp8", "enforce_eager": True, "extra_args": {"seed": 1}},
            id="what a person wrote",
        ),
    ],
)
def test_whole_layouts_are_taken(
    ask: Ask, config: dict[str, Any], profile: dict[str, Any], entry: dict[str, Any]
) -> None:
    asked = {
        "gpu_facts": facts.facts_from_profile(profile),
        "models": [{"name": "m", "model": "/m", **entry}],
        "model_facts": {"m": model.facts(config)},
    }
    planned = plan.plan_hosts({"a": asked, "b": asked} if "nodes" in entry else {"a": asked})
    layouts = [host["instances"][0] for host in planned.values()]
    assert [layout["rejected"] for layout in layouts] == [None] * len(layouts)
    assert ask([report.argv(layout["serve_args"]) for layout in layouts]) == [None] * len(layouts)


def test_what_layouts_write_is_taken(ask: Ask) -> None:
    answers = ask([command_line(arguments) for arguments in WRITTEN.values()])
    assert dict(zip(WRITTEN, answers, strict=True)) == dict.fromkeys(WRITTEN)


def test_what_the_tables_say_of_a_release_is_so(ask: Ask) -> None:
    """Of each option that came or went, the parser knows those that the tables say it knows."""
    release = engine_venv.engine_variables()["__engine_variants"]["cpu"]["version"]
    engine = engine_versions.of(release)
    names = sorted({*ADDED, *REMOVED})
    # an option without its value is known; what is gone may be the beginning of two others, or have a hint of its own
    unknown = [
        bool(re.search("unrecognized arguments|ambiguous option|is not a vllm serve option", said or ""))
        for said in ask([["/m", f"--{name}"] for name in names])
    ]
    expected = [engine.argument_problem(name) is not None for name in names]
    assert dict(zip(names, unknown, strict=True)) == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/m", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["/m", "--swap-space", "4"], "unrecognized arguments: --swap-space"),
        (["/m", "--tensor-parallel-size", "two"], "invalid"),
        (["/m", "--kv-cache-dtype", "fp16"], "invalid choice"),
        (["/m", "--mm-encoder-tp-mode", "both"], "invalid choice"),
    ],
)
def test_planted_faults_are_refused(ask: Ask, words: list[str], said: str) -> None:
    (answer,) = ask([words])
    assert answer is not None
    assert said in answer


def test_an_option_cut_short_is_taken_for_the_whole_one(ask: Ask) -> None:
    """Why extra_args refuses them: the parser would let them by."""
    assert ask([["/m", "--kv-cache-memory", "1"], ["/m", "--tensor-parallel", "2"]]) == [None, None]
    assert instances.problems([{"name": "a", "model": "/m", "extra_args": {"kv-cache-memory": 1}}])
