"""What a person may write in vllm_models, and what they are told of everything else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances
from hypothesis import example, given
from hypothesis import strategies as st

ENTRY: dict[str, Any] = {"name": "chat", "model": "/srv/models/chat"}


def problems_of(**fields: Any) -> list[str]:
    return instances.problems([{**ENTRY, **fields}])


GOOD: dict[str, list[Any]] = {
    "shared_gpus": [False],
    "share": [1, 0.5, 20],
    "targets": [
        {"ttft_p95_ms": 500},
        {"tpot_p95_ms": 40.5, "requests_per_second": 2, "prompt_tokens": 1, "answer_tokens": 9},
    ],
    "state": ["present"],
    "name": ["chat", "0", "llama-3.1_70b", "a" * 63],
    "model": ["/srv/m", "/", "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-70B-Instruct"],
    "model_source": ["/models/chat", "/home/me/chat"],
    "revision": [
        "main",
        "refs/pr/1",
        "v1.0+fp8",
        "gptq-4bit-32g-actorder_True",
        "9213176726f574b556790deb65791e0c5aa438b6",
    ],
    "gpus": ["auto", 1, 8, [0], [3, 1]],
    "host": ["127.0.0.1", "::", "0.0.0.0"],
    "port": [1, 8000, 65535],
    "tensor_parallel_size": ["auto", 1, 6],
    "pipeline_parallel_size": ["auto", 1, 2],
    "dtype": ["auto", "float16"],
    "max_model_len": ["auto", 1, 131072],
    "max_num_seqs": [1, 256],
    "max_num_batched_tokens": [1, 8192],
    "gpu_memory_utilization": [0.1, 1, 1.0],
    "kv_cache_memory_gib": [0.5, 40],
    "objective": ["throughput", "latency"],
    "min_concurrency": [1, 16],
    "nodes": [["a", "b"], ["gpu01.example.com", "gpu02.example.com", "gpu03"]],
    "network_interface": ["eth1", "enp65s0f0np0", "bond0.12"],
    "master_port": [29501],
    "data_parallel_size": ["auto", 1, 8],
    "enable_expert_parallel": [True, False],
    "decode_context_parallel_size": ["auto", 1, 8],
    "distributed_executor_backend": ["mp", "ray"],
    "quantization": ["fp8", "awq_marlin"],
    "kv_cache_memory_bytes": [1, 40 * 1024**3],
    "kv_cache_dtype": ["auto", "fp8", "nvfp4"],
    "block_size": [1, 16, 128],
    "mamba_cache_dtype": ["auto", "float32"],
    "mamba_ssm_cache_dtype": ["auto", "bfloat16"],
    "enable_prefix_caching": [True, False],
    "disable_hybrid_kv_cache_manager": [True, False],
    "enforce_eager": [True, False],
    "max_cudagraph_capture_size": [1, 512],
    "cpu_offload_gb": [0, 0.5, 64],
    "language_model_only": [True, False],
    "limit_mm_per_prompt": [{"image": 2}, {"image": 0, "video": {"count": 1, "num_frames": 32}}],
    "mm_encoder_tp_mode": ["weights", "data"],
    "speculative_config": [{"method": "ngram", "num_speculative_tokens": 3}],
    "model_config": ["/models/x/config.json"],
    "speculative_model_config": ["/models/draft/config.json"],
    "weights_bytes": [1, 1_400_000_000_000],
    "weights_index": ["/models/x/model.safetensors.index.json"],
    "engine_version": ["0.33.0", "0.32.0+cpu", "v0.26.1rc1.dev156+g0eec"],
    "extra_args": [{}, {"seed": 1}, {"compilation_config": {"level": 3}}],
    "environment": [{}, {"VLLM_LOGGING_LEVEL": "DEBUG", "_A1": 1, "b": 0.5, "C": True}],
}
WHOLE = "write a whole number above 0."
COUNT_OR_AUTO = "write auto, or a whole number above 0."
HOST = "write an address such as 0.0.0.0 or ::1"
LINE = "write a line of text without control characters."
YES_OR_NO = ([0, 1, "true", "yes", None, "auto", []], "write true or false.")
FILE = (["", "a\nb", 7, None], "write the path of a file on the control node, such as")
COUNT: tuple[list[Any], str] = ([0, -2, "2", 2.0, True, None, "auto"], WHOLE)
FLAGS = (
    "shared_gpus",
    "enable_expert_parallel",
    "enable_prefix_caching",
    "disable_hybrid_kv_cache_manager",
    "enforce_eager",
    "language_model_only",
)
COUNTS = (
    "min_concurrency",
    "kv_cache_memory_bytes",
    "block_size",
    "max_cudagraph_capture_size",
    "weights_bytes",
)
BAD: dict[str, tuple[list[Any], str]] = {
    "share": (
        [0, -1, "2", True, None, float("inf")],
        "write a number above 0, such as 2 for twice the share of others.",
    ),
    "targets": (
        [{}, [], 5, None, {"ttft": 1}, {"ttft_p95_ms": 0}, {"tpot_p95_ms": "9"}, {"prompt_tokens": 1.5}],
        "write a mapping of ttft_p95_ms, tpot_p95_ms, requests_per_second",
    ),
    "decode_context_parallel_size": ([0, -2, "2", 2.0, True, None], COUNT_OR_AUTO),
    **dict.fromkeys(FLAGS, YES_OR_NO),
    **dict.fromkeys(COUNTS, COUNT),
    **dict.fromkeys(("model_config", "speculative_model_config", "weights_index"), FILE),
    "state": (["", "gone", True, None], "write present or absent."),
    "objective": (["", "speed", "Throughput", 1, None, ["latency"]], "write throughput or latency."),
    "nodes": (
        [[], ["a"], ["a", "a"], ["a", ""], ["a", "b c"], ["a", 1], "a,b", 2, {}, None],
        "write a list of two or more different inventory names, the one that answers requests first.",
    ),
    "network_interface": (
        ["", "eth 0", "a/b", "eth\x07", "\ud800", "eth0:1", "..", "a" * 16, 7, None],
        "write the name of a network interface that the nodes share, such as eth1.",
    ),
    "master_port": ([0, 65536, "29501", True, None], "write a port from 1 to 65535."),
    "distributed_executor_backend": (["uni", "", 1, None, []], "write mp or ray."),
    "quantization": (["", 8, None, ["fp8"]], LINE),
    "kv_cache_dtype": (["", "fp16", "FP8", 8, None, ["fp8"]], "write auto, bfloat16, float16, fp8, "),
    "mamba_cache_dtype": (["", "fp8", 16, None], "write auto, bfloat16, float16 or float32."),
    "mamba_ssm_cache_dtype": (["", "fp8", 16, None], "write auto, bfloat16, float16 or float32."),
    "cpu_offload_gb": ([-1, "4", True, float("nan"), float("inf"), None], "write a number of GiB, 0 or more."),
    "limit_mm_per_prompt": (
        [{}, [], 2, None, {"image": -1}, {"image": "2"}, {1: 2}, {"image": True}],
        "write a mapping such as {image: 2, video: 0}.",
    ),
    "mm_encoder_tp_mode": (["", "both", 1, None], "write weights or data."),
    "speculative_config": (
        [{}, [], "ngram", None],
        "write a mapping such as {method: ngram, num_speculative_tokens: 3}.",
    ),
    "engine_version": (
        ["", "latest", 0.33, 1, None, "0.33.0; rm"],
        "write a release of vLLM as text, such as '0.33.0'.",
    ),
    "name": (
        ["", "Chat", "-a", ".a", "a b", "a/b", "a@b", "é", "a" * 64, "a\n", 7, None, ["a"]],
        "write lower-case letters, digits, '.', '_' and '-', 63 characters at most, beginning with a letter or digit.",
    ),
    "model": (
        [
            "",
            "chat",
            "./chat",
            "a/b/c",
            "-a/b",
            "a/b--c",
            "a/b..c",
            "a/b.",
            "a/b-",
            "a/b.git",
            "a/" + "b" * 97,
            7,
            None,
        ],
        "write an absolute path on the host, or a hub id such as Qwen/Qwen3-8B.",
    ),
    "model_source": (["", "models/chat", 7, None], "write the absolute path of a folder on the control node, such as"),
    "revision": (
        ["", "a\nb", "a b", "--help", "../x", "a/../b", "a//b", "a/", "/a", "a^", "a@{1}", "a" * 256, 7, None],
        "write a branch, a tag or a commit of the model on the hub, such as main.",
    ),
    "gpus": (
        [0, -1, True, 1.0, "all", "0,1", [], [0, 0], [-1], [True], ["0"], [[0]], {}, None],
        "write auto, a count of GPUs, or a list of different GPU indexes such as [0, 1].",
    ),
    "host": (["", "a\nb", "a\rExecStartPre=+/bin/sh", "fe80::1%eth0", "a b", "\ud800", 7, None], HOST),
    "port": ([0, -1, 65536, "8000", 8000.0, True, None], "write a port from 1 to 65535."),
    "tensor_parallel_size": ([0, -2, "2", 2.0, True, None, "all"], COUNT_OR_AUTO),
    "pipeline_parallel_size": ([0, -2, "2", 2.0, True, None, "all"], COUNT_OR_AUTO),
    "data_parallel_size": ([0, -2, "2", 2.0, True, None, "all"], COUNT_OR_AUTO),
    "dtype": (["", 16, None], LINE),
    "max_model_len": ([0, -1, "32k", 1.5, False, None], COUNT_OR_AUTO),
    "max_num_seqs": ([0, "auto", None], WHOLE),
    "max_num_batched_tokens": ([0, "auto", None], WHOLE),
    "gpu_memory_utilization": (
        [0, -0.1, 1.01, 90, "0.9", True, float("nan"), None],
        "write a number above 0 and up to 1.",
    ),
    "kv_cache_memory_gib": (
        [0, -1, "4 GiB", True, float("nan"), float("inf"), None],
        "write a number of GiB above 0.",
    ),
    "extra_args": (
        [[], "--enforce-eager", 1, None],
        "write a mapping of vllm serve options, without the leading dashes.",
    ),
    "environment": (
        [
            [],
            "A=s3cret",
            1,
            None,
            {"1A": "x"},
            {"A-B": "x"},
            {"A B": "x"},
            {"A": None},
            {"A": []},
            {"A": {}},
            {"1": "s3cret"},
        ],
        "write a mapping of environment variable names to text or numbers.",
    ),
}


# What else an entry has to say for a field to make sense
NEEDS: dict[str, dict[str, Any]] = {
    "nodes": {"network_interface": "eth1"},
    "network_interface": {"nodes": ["a", "b"]},
    "master_port": {"nodes": ["a", "b"], "network_interface": "eth1"},
}


def test_the_tables_know_every_field() -> None:
    assert set(GOOD) == set(BAD) == set(instances.FIELDS)


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in GOOD.items() for value in values])
def test_good_values(field: str, value: Any) -> None:
    assert problems_of(**{**NEEDS.get(field, {}), field: value}) == []


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [(field, value, remedy) for field, (values, remedy) in BAD.items() for value in values],
)
def test_bad_values_are_named_with_what_to_write(field: str, value: Any, remedy: str) -> None:
    found = problems_of(**{field: value})
    place = "vllm_models[0] (chat)" if field != "name" else "vllm_models[0]"
    fault = "cannot be used" if field in ("environment", "extra_args") else f"is {value!r}"
    assert any(line.startswith(place) and f": {field} {fault}; {remedy}" in line for line in found), found


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("tensor_paralel_size", "did you mean 'tensor_parallel_size'?"),
        ("max_modellen", "did you mean 'max_model_len'?"),
        ("zzz", "the fields are block_size, cpu_offload_gb, data_parallel_size,"),
    ],
)
def test_unknown_field(written: str, told: str) -> None:
    (found,) = problems_of(**{written: 1})
    assert found.startswith(f"vllm_models[0] (chat) has the unknown field '{written}': {told}")
    assert found.endswith("Other options of vllm serve go under 'extra_args'.")


@pytest.mark.parametrize("models", [None, [], (), {}, "chat", 0, {"chat": {}}])
def test_no_models(models: Any) -> None:
    assert instances.problems(models) == [
        "There are no models to serve: 'vllm_models' is empty or not a list. "
        "Write a list of entries with at least 'name' and 'model' in the inventory."
    ]


@pytest.mark.parametrize("entry", ["Qwen/Qwen3-8B", None, 1, ["a"]])
def test_an_entry_that_is_no_mapping(entry: Any) -> None:
    assert instances.problems([ENTRY, entry]) == [
        f"vllm_models[1] is {entry!r}; write a mapping with at least 'name' and 'model'."
    ]


def test_missing_fields() -> None:
    no_name, no_model = instances.problems([{}])
    assert no_name.startswith("vllm_models[0] has no 'name'; write lower-case letters")
    assert no_model.startswith("vllm_models[0] has no 'model'; write an absolute path on the host, or a hub id")
    assert no_model.endswith("or 'model_source', a folder on the control node.")
    assert instances.problems([{"name": "a", "model_source": "/m"}]) == []


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        ({"port": 1}, {"name": "chat", "port": 2}, "has the name chat of vllm_models[0] (chat)"),
        ({"port": 9000}, {"port": 9000}, "has the port 9000 of vllm_models[0] (chat)"),
        ({}, {}, "has the port 8000 of vllm_models[0] (chat)"),
        ({"port": 8000}, {}, "has the port 8000 of vllm_models[0] (chat)"),
        ({}, {"port": 8000}, "has the port 8000 of vllm_models[0] (chat)"),
    ],
)
def test_clashes(one: dict[str, Any], two: dict[str, Any], told: str) -> None:
    second = {**ENTRY, "name": "other", **two}
    assert instances.problems([{**ENTRY, **one}, second]) == [
        f"vllm_models[1] ({second['name']}) {told}; give each instance of a host its own."
    ]


def test_three_instances_side_by_side() -> None:
    assert instances.problems([{**ENTRY, "name": f"m{i}", "port": 8000 + i} for i in range(3)]) == []


@pytest.mark.parametrize("key", ["api-key", "api_key", "--api-key", "hf-token", "hf_token", "api-ke", "hf_tok"])
def test_secrets_in_extra_args(key: str) -> None:
    assert problems_of(extra_args={key: "s3cret"}) == [
        f"vllm_models[0] (chat): extra_args.{key} would put a secret into a file that every user of the host can read; "
        "take it out."
    ]


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "VLLM_API_KEY",
        "DB_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "hf_token",
        "My_Tokens",
    ],
)
def test_secrets_in_the_environment(name: str) -> None:
    (found,) = problems_of(environment={name: "s3cret"})
    assert found.startswith(f"vllm_models[0] (chat): environment.{name} looks like a secret")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "VLLM_MAX_TOKENS_PER_EXPERT", "HF_TOKEN_PATH", "hf_token_path", "VLLM_LOGGING_LEVEL"],
)
def test_what_only_sounds_like_a_secret(name: str) -> None:
    assert problems_of(environment={name: "x"}) == []


@pytest.mark.parametrize(("argument", "field"), sorted(instances.RESERVED_ARGUMENTS.items()))
def test_reserved_arguments(argument: str, field: str) -> None:
    for key in (argument, argument.replace("-", "_"), f"--{argument}", f"no-{argument}"):
        assert problems_of(extra_args={key: 1}) == [
            f"vllm_models[0] (chat): extra_args.{key} has a place of its own; write '{field}'."
        ]


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("kv-cache-memory", "kv_cache_memory_bytes"),
        ("--tensor-parallel", "tensor_parallel_size"),
        ("served", "name"),
        ("device-i", "gpus"),
        ("hos", "host"),
        ("max-num-se", "max_num_seqs"),
        ("no-enable-pref", "enable_prefix_caching"),
        ("speculative-config.model", "speculative_config"),
        ("limit_mm_per_prompt.image", "limit_mm_per_prompt"),
    ],
)
def test_options_cut_short_are_the_same_options(key: str, field: str) -> None:
    (found,) = problems_of(extra_args={key: 1})
    assert found.endswith(f"has a place of its own; write '{field}'.")


@pytest.mark.parametrize("key", ["quantization-config", "max-num-queued-reqs", "seed", "kv-cache-dtype-skip-layers"])
def test_options_that_only_begin_like_a_field(key: str) -> None:
    assert problems_of(extra_args={key: 1}) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"swap_space": 4}, ": swap_space is no option any more, vLLM 0.18.0 removed it; leave it out: requests are"),
        ({"task": "embed"}, ": task is no option any more, vLLM 0.13.0 removed it; write runner and convert."),
        (
            {"extra_args": {"swap-space": 4}},
            ": extra_args.swap-space cannot be used, vLLM 0.18.0 removed --swap-space; leave it out",
        ),
        (
            {"enable_expert_parallel": True, "engine_version": "0.7.3"},
            ": enable_expert_parallel cannot be used, --enable-expert-parallel came with vLLM 0.8.0, and this",
        ),
        (
            {"extra_args": {"numa_bind": True}, "engine_version": "0.19.0"},
            ": extra_args.numa_bind cannot be used, --numa-bind came with vLLM 0.20.0, and this is 0.19.0;",
        ),
        (
            {"kv_cache_memory_gib": 1, "kv_cache_memory_bytes": 1},
            " has both kv_cache_memory_gib and kv_cache_memory_bytes, which say the same; write one of them.",
        ),
        (
            {"language_model_only": True, "limit_mm_per_prompt": {"image": 1}},
            " has language_model_only, which allows no images at all; leave out limit_mm_per_prompt.",
        ),
        ({"shared_gpus": True}, " shares its GPUs and does not say how much of them it takes; write 'gpu_memory_util"),
        ({"nodes": ["a", "b"]}, " runs on several nodes and has no 'network_interface'; write the name of a network"),
        ({"network_interface": "eth1"}, " has network_interface and runs on one host; leave it out, or write 'nodes'."),
        ({"master_port": 29502}, " has master_port and runs on one host; leave it out, or write 'nodes'."),
        (
            {"nodes": ["a", "b"], "network_interface": "eth1", "master_port": 8000},
            " takes the ports 8000 (master_port) to 8002, and vllm_models[0] (chat) has 8000 too; "
            "give each port one use.",
        ),
    ],
)
def test_contradictions(fields: dict[str, Any], told: str) -> None:
    (found,) = problems_of(**fields)
    assert found.startswith(f"vllm_models[0] (chat){told}")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"extra_args": {"enable-lora": True, "max-lora-rank": 24}},
            "max-lora-rank is 24; write the next larger of 1, 8",
        ),
        ({"extra_args": {"max_loras": 4, "max_cpu_loras": 2}}, "2 is less than the 4 of max-loras; write 4 or more"),
        (
            {"speculative_config": {"method": "mtp", "num_speculative_tokens": 0}},
            "num_speculative_tokens is 0; write how",
        ),
        ({"speculative_config": {"method": "eagel3", "model": "a/b"}}, "is 'eagel3'; did you mean 'eagle3'?"),
        ({"speculative_config": {"method": "n-gram"}}, "is 'n-gram'; did you mean 'ngram'?"),
    ],
)
def test_values_that_no_release_takes(fields: dict[str, Any], told: str) -> None:
    (problem,) = problems_of(**fields)
    assert told in problem


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_args": {"max-lora-rank": 320, "max-loras": 2, "max-cpu-loras": 2}},
        {"speculative_config": {"method": "qwen3_next_mtp", "num_speculative_tokens": 2}},
        {"speculative_config": {"method": "eagle4", "model": "a/b"}},
        {"speculative_config": {"method": "something_new", "model": "a/b"}},
        {"speculative_config": {"model": "a/b", "num_speculative_tokens": 5}},
        {"shared_gpus": True, "gpu_memory_utilization": 0.4},
        {"language_model_only": False, "limit_mm_per_prompt": {"image": 1}},
        {"extra_args": {"swap-space": 4}, "engine_version": "0.17.0"},
        {"extra_args": {"numa-bind": True}, "engine_version": "0.20.0"},
        {"enable_expert_parallel": True, "engine_version": "0.8.0"},
    ],
)
def test_what_is_no_contradiction(fields: dict[str, Any]) -> None:
    assert problems_of(**fields) == []


def test_two_engines_over_nodes_meet_on_ports_of_their_own() -> None:
    nodes = {"nodes": ["a", "b"], "network_interface": "eth1"}
    second = {**ENTRY, "name": "other", "port": 8001, **nodes}
    assert instances.problems([{**ENTRY, **nodes}, second]) == [
        "vllm_models[1] (other) takes the ports 29501 (master_port) to 29503, and vllm_models[0] (chat) has 29501 too; "
        "give each port one use."
    ]
    assert instances.problems([{**ENTRY, **nodes}, {**second, "master_port": 29503}]) == [
        "vllm_models[1] (other) takes the ports 29503 (master_port) to 29505, and vllm_models[0] (chat) has 29503 too; "
        "give each port one use."
    ]
    assert instances.problems([{**ENTRY, **nodes}, {**second, "master_port": 29504}]) == []
    assert instances.problems([{**ENTRY, **nodes, "master_port": 65534}]) == [
        "vllm_models[0] (chat) takes the ports from master_port to 65536; write 65533 at most."
    ]


def test_an_extra_argument_without_a_value() -> None:
    assert problems_of(extra_args={"seed": None}) == [
        "vllm_models[0] (chat): extra_args.seed has no value; vLLM would read it as the text 'None'."
    ]


def test_model_source_with_a_hub_id() -> None:
    assert problems_of(model_source="/m", model="Qwen/Qwen3-8B") == [
        "vllm_models[0] (chat): with model_source, model is where the copy goes on the host; "
        "write an absolute path in place of 'Qwen/Qwen3-8B', or leave model out."
    ]


def test_all_faults_are_told_at_once() -> None:
    found = instances.problems([{"nam": "a", "port": "x"}, "b", {**ENTRY, "gpus": 0}])
    assert [line.split(" ")[0].rstrip(":") for line in found] == ["vllm_models[0]"] * 4 + ["vllm_models[1]"] + [
        "vllm_models[2]"
    ]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8)
FIELD_NAMES = st.sampled_from(sorted(instances.FIELDS)) | st.text(max_size=8)
VALUES = JSON | st.sampled_from(["auto", "/m", "a", 1, {"api-key": None}, {"HF_TOKEN": "x"}])


@given(JSON | st.lists(st.dictionaries(FIELD_NAMES, VALUES) | JSON))
def test_problems_are_sentences_for_any_input(models: Any) -> None:
    found = instances.problems(models)
    assert all(line and line[0] in "vT" and line.endswith((".", "?")) for line in found)
    if not isinstance(models, list):
        assert found


NOT_ALONE = {"name", "model", "model_source", "kv_cache_memory_bytes", "limit_mm_per_prompt", "engine_version", *NEEDS}
GOOD_ENTRIES = st.fixed_dictionaries(
    {key: st.sampled_from(GOOD[key]) for key in ("name", "model")},
    optional={key: st.sampled_from(GOOD[key]) for key in GOOD if key not in NOT_ALONE},
)


@given(GOOD_ENTRIES)
@example({"name": "a", "model": "/m", "gpus": [1, 0]})
def test_valid_entries_become_instances(entry: dict[str, Any]) -> None:
    assert instances.problems([entry]) == []
    (made,) = instances.instances([entry], "/root")
    default = instances.Instance(name=entry["name"], model=entry["model"])
    for key in instances.FIELDS:
        wanted = entry.get(key, getattr(default, key))
        if wanted == "auto" and (key.endswith("_parallel_size") or key == "max_model_len"):
            wanted = None
        assert getattr(made, key) == (tuple(wanted) if isinstance(wanted, list) else wanted)


@pytest.mark.parametrize(
    ("entry", "model", "origin"),
    [
        ({"model": "/srv/m"}, "/srv/m", "path"),
        ({"model": "Qwen/Qwen3-8B"}, "Qwen/Qwen3-8B", "hub"),
        ({"model_source": "/m"}, "/root/chat", "copy"),
        ({"model_source": "/m", "model": "/srv/m"}, "/srv/m", "copy"),
    ],
)
def test_where_the_weights_come_from(entry: dict[str, Any], model: str, origin: str) -> None:
    (made,) = instances.instances([{"name": "chat", **entry}], "/root")
    assert (made.model, made.origin) == (model, origin)


def test_the_options_that_the_fields_say() -> None:
    (made,) = instances.instances(
        [
            {
                **ENTRY,
                "tensor_parallel_size": 2,
                "data_parallel_size": 1,
                "max_model_len": "auto",
                "dtype": "auto",
                "kv_cache_dtype": "fp8",
                "kv_cache_memory_gib": 0.5,
                "enforce_eager": False,
                "limit_mm_per_prompt": {"image": 0},
                "objective": "latency",
                "extra_args": {"max_num_queued_reqs": 8},
            }
        ],
        "/root",
    )
    assert instances.arguments(made) == {
        "host": "127.0.0.1",
        "port": 8000,
        "tensor-parallel-size": 2,
        "kv-cache-dtype": "fp8",
        "kv-cache-memory-bytes": 512 * 1024**2,
        "enforce-eager": False,
        "limit-mm-per-prompt": {"image": 0},
        "max-num-queued-reqs": 8,
    }


def test_the_port_between_nodes_is_an_option_with_nodes_only() -> None:
    (made,) = instances.instances([{**ENTRY, "nodes": ["a", "b"], "network_interface": "eth1"}], "/root")
    assert instances.arguments(made)["master-port"] == 29501
    assert made.nodes == ("a", "b")


def test_of_an_instance_that_is_to_go_the_name_alone_counts() -> None:
    gone = {"name": "old", "state": "absent"}
    assert instances.problems([gone]) == []
    assert instances.problems([ENTRY, gone, {**ENTRY, "name": "older", "state": "absent", "nodes": ["a", "b"]}]) == []
    assert [one.name for one in instances.instances([gone, ENTRY], "/models")] == ["chat"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"state": "absent"}, "vllm_models[1] has no 'name'"),
        ({"name": "chat", "state": "absent"}, "vllm_models[1] (chat) has the name chat of vllm_models[0] (chat)"),
        ({"name": "Old", "state": "absent"}, "vllm_models[1] (Old): name is 'Old'"),
        ({"name": "old", "state": "absent", "prot": 1}, "vllm_models[1] (old) has the unknown field 'prot'"),
    ],
)
def test_faults_of_an_instance_that_is_to_go(entry: dict[str, Any], told: str) -> None:
    (found,) = instances.problems([ENTRY, entry])
    assert found.startswith(told)


@pytest.mark.parametrize("key", ["", "--", "a\nb", "a b", "1", 1, "seed=3", "a.b.c\x00", "é", "\ud800"])
def test_what_is_no_option(key: Any) -> None:
    (found,) = problems_of(extra_args={key: 1})
    assert (
        found
        == f"vllm_models[0] (chat): extra_args.{key!r} is no option of vllm serve; write letters, digits, '-' and '_'."
    )
    found.encode()


@pytest.mark.parametrize("key", ["O", "--seed", "compilation_config.pass_config.fuse_norm_quant", "hf-overrides.a+"])
def test_what_is_an_option(key: str) -> None:
    assert problems_of(extra_args={key: 1}) == []


@pytest.mark.parametrize("value", ["x\x07", "a\rb", "\x00", "\x7f", "\ud800", "\ufffe"])
def test_values_of_the_environment_hold_no_control_characters(value: str) -> None:
    (found,) = problems_of(environment={"A": value})
    assert found.startswith("vllm_models[0] (chat): environment.A holds a control character")


@pytest.mark.parametrize("value", ["", "a b", "two\nlines\tand a tab", "é🙂", "$HOME `x` \\"])
def test_other_values_of_the_environment(value: str) -> None:
    assert problems_of(environment={"A": value}) == []
    systemd.quote_environment(value)


def test_what_a_mapping_holds_is_not_shown() -> None:
    for field in ("environment", "extra_args"):
        assert "s3cret" not in "".join(problems_of(**{field: ["HF_TOKEN=s3cret"]}))
        assert "s3cret" not in "".join(problems_of(**{field: {"1": "s3cret"}}))


def test_names_of_this_collection_are_its_own() -> None:
    (found,) = problems_of(environment={"GPUFLEET_DIGEST": "x"})
    assert found.endswith("environment.GPUFLEET_DIGEST is a name that this collection writes itself; leave it out.")


@pytest.mark.parametrize(
    "field", ["model", "revision", "host", "model_source", "model_config", "dtype", "quantization"]
)
@pytest.mark.parametrize("odd", ["\r", "\n", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\ud800"])
def test_no_control_character_reaches_a_unit_or_a_file(field: str, odd: str) -> None:
    assert any(f": {field} is " in line for line in problems_of(**{field: f"/a{odd}b"}))
