"""What a person may write in vllm_models, and what they are told of everything else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances
from hypothesis import example, given
from hypothesis import strategies as st

ENTRY: dict[str, Any] = {"name": "chat", "model": "/srv/models/chat"}


def problems_of(**fields: Any) -> list[str]:
    return instances.problems([{**ENTRY, **fields}])


GOOD: dict[str, list[Any]] = {
    "name": ["chat", "0", "llama-3.1_70b", "a" * 63],
    "model": ["/srv/m", "/", "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-70B-Instruct"],
    "model_source": ["/models/chat", "/home/me/chat"],
    "revision": ["main", "refs/pr/1", "9213176726f574b556790deb65791e0c5aa438b6"],
    "gpus": ["auto", 1, 8, [0], [3, 1]],
    "host": ["127.0.0.1", "::", "0.0.0.0"],
    "port": [1, 8000, 65535],
    "tensor_parallel_size": ["auto", 1, 6],
    "pipeline_parallel_size": [1, 2],
    "dtype": ["auto", "float16"],
    "max_model_len": ["auto", 1, 131072],
    "max_num_seqs": [1, 256],
    "max_num_batched_tokens": [1, 8192],
    "gpu_memory_utilization": [0.1, 1, 1.0],
    "kv_cache_memory_gib": [0.5, 40],
    "extra_args": [{}, {"enforce-eager": True}, {"compilation_config": {"level": 3}}],
    "environment": [{}, {"VLLM_LOGGING_LEVEL": "DEBUG", "_A1": 1, "b": 0.5, "C": True}],
}
WHOLE = "write a whole number above 0."
COUNT_OR_AUTO = "write auto, or a whole number above 0."
LINE = "write a line of text."
BAD: dict[str, tuple[list[Any], str]] = {
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
    "revision": (["", "a\nb", 7, None], LINE),
    "gpus": (
        [0, -1, True, 1.0, "all", "0,1", [], [0, 0], [-1], [True], ["0"], [[0]], {}, None],
        "write auto, a count of GPUs, or a list of different GPU indexes such as [0, 1].",
    ),
    "host": (["", "a\nb", 7, None], LINE),
    "port": ([0, -1, 65536, "8000", 8000.0, True, None], "write a port from 1 to 65535."),
    "tensor_parallel_size": ([0, -2, "2", 2.0, True, None, "all"], COUNT_OR_AUTO),
    "pipeline_parallel_size": ([0, -2, "2", 2.0, True, None, "auto"], WHOLE),
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
        [[], "A=1", 1, None, {"1A": "x"}, {"A-B": "x"}, {"A B": "x"}, {"A": None}, {"A": []}, {"A": {}}],
        "write a mapping of environment variable names to text or numbers.",
    ),
}


def test_the_tables_know_every_field() -> None:
    assert set(GOOD) == set(BAD) == set(instances.FIELDS)


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in GOOD.items() for value in values])
def test_good_values(field: str, value: Any) -> None:
    assert problems_of(**{field: value}) == []


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [(field, value, remedy) for field, (values, remedy) in BAD.items() for value in values],
)
def test_bad_values_are_named_with_what_to_write(field: str, value: Any, remedy: str) -> None:
    found = problems_of(**{field: value})
    place = "vllm_models[0] (chat)" if field != "name" else "vllm_models[0]"
    assert any(line.startswith(place) and f": {field} is {value!r}; {remedy}" in line for line in found), found


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("tensor_paralel_size", "did you mean 'tensor_parallel_size'?"),
        ("max_modellen", "did you mean 'max_model_len'?"),
        ("zzz", "the fields are dtype, environment, extra_args, gpu_memory_utilization, gpus, host,"),
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


@pytest.mark.parametrize("key", ["api-key", "api_key", "--api-key", "hf-token", "hf_token"])
def test_secrets_in_extra_args(key: str) -> None:
    assert problems_of(extra_args={key: "s3cret"}) == [
        f"vllm_models[0] (chat): extra_args.{key} would put a secret into a file that every user of the host can read; "
        "take it out."
    ]


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MY_TOKENS"]
)
def test_secrets_in_the_environment(name: str) -> None:
    (found,) = problems_of(environment={name: "s3cret"})
    assert found.startswith(f"vllm_models[0] (chat): environment.{name} looks like a secret")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "VLLM_MAX_TOKENS_PER_EXPERT", "HF_TOKEN_PATH", "VLLM_LOGGING_LEVEL"]
)
def test_what_only_sounds_like_a_secret(name: str) -> None:
    assert problems_of(environment={name: "x"}) == []


@pytest.mark.parametrize(("argument", "field"), sorted(instances.RESERVED_ARGUMENTS.items()))
def test_reserved_arguments(argument: str, field: str) -> None:
    for key in (argument, argument.replace("-", "_"), f"--{argument}"):
        assert problems_of(extra_args={key: 1}) == [
            f"vllm_models[0] (chat): extra_args.{key} has a place of its own; write '{field}'."
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


GOOD_ENTRIES = st.fixed_dictionaries(
    {key: st.sampled_from(GOOD[key]) for key in ("name", "model")},
    optional={key: st.sampled_from(GOOD[key]) for key in GOOD if key not in ("name", "model", "model_source")},
)


@given(GOOD_ENTRIES)
@example({"name": "a", "model": "/m", "gpus": [1, 0]})
def test_valid_entries_become_instances(entry: dict[str, Any]) -> None:
    assert instances.problems([entry]) == []
    (made,) = instances.instances([entry], "/root")
    default = instances.Instance(name=entry["name"], model=entry["model"])
    for key in instances.FIELDS:
        wanted = entry.get(key, getattr(default, key))
        if wanted == "auto" and key in ("tensor_parallel_size", "max_model_len"):
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
