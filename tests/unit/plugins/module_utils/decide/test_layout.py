"""Where instances go on a host, and why some cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints, instances, layout, remedies
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import (
    LLAMA_70B,
    QWEN3_06B,
    QWEN25_7B,
    QWEN25_7B_CONFIG,
    cpu_host,
    gpu,
    nvidia_host,
    shared,
    shared_json,
    t4,
)

GIB = 1024**3
H100_X4 = nvidia_host(*(gpu(i) for i in range(4)))
T4_X4 = nvidia_host(*(t4(i) for i in range(4)))


def decide(facts: Mapping[str, Any], model_facts: Mapping[str, Any], *wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Layouts for entries that all have the same model."""
    entries = [{"name": f"m{i}", "model": "/m", "port": 8000 + i, **entry} for i, entry in enumerate(wanted)]
    assert instances.problems(entries) == []
    models = {entry["name"]: model_facts for entry in entries}
    return layout.layouts(instances.instances(entries, "/root"), facts, models)


def one(facts: Mapping[str, Any], model_facts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    (found,) = decide(facts, model_facts, fields)
    return found


class TestCpu:
    @pytest.mark.parametrize(
        ("cores", "fields", "bind"),
        [
            (4, {}, "0,1,2,3"),
            (4, {"tensor_parallel_size": 2}, "0,1|2,3"),
            (5, {"tensor_parallel_size": 2}, "0,1|2,3"),
            (2, {"tensor_parallel_size": 2}, "0|1"),
            (4, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, "0|1|2|3"),
        ],
    )
    def test_cores_are_bound(self, cores: int, fields: dict[str, Any], bind: str) -> None:
        found = one(cpu_host(cores), QWEN3_06B, **fields)
        assert found["rejected"] is None
        assert found["environment"]["VLLM_CPU_OMP_THREADS_BIND"] == bind
        assert found["devices"] == []
        assert "device-ids" not in found["serve_args"]
        assert found["serve_args"]["tensor-parallel-size"] == fields.get("tensor_parallel_size", 1)
        assert found["serve_args"]["pipeline-parallel-size"] == fields.get("pipeline_parallel_size", 1)
        assert any("Pipeline" in one for one in found["warnings"]) == ("pipeline_parallel_size" in fields)
        assert (found["kv_cache_tokens"] is None) == ("pipeline_parallel_size" in fields)

    def test_cores_of_several_numa_nodes_are_all_used(self) -> None:
        facts = {**cpu_host(), "numa_nodes": [{"cpus": [4, 5]}, {"cpus": [0, 1]}, {"cpus": None}]}
        found = one(facts, QWEN3_06B, tensor_parallel_size=2)
        assert found["environment"]["VLLM_CPU_OMP_THREADS_BIND"] == "0,1|4,5"

    @pytest.mark.parametrize(
        ("memory_mib", "count", "fields", "gib"),
        [
            (24576, 1, {}, 4.0),  # at most 4
            (8192, 1, {}, 2.59),  # (8 / 2 - 1.4) GiB, cut to two digits
            (8192, 1, {"tensor_parallel_size": 2}, 1.29),
            (8192, 2, {}, 0.59),  # (8 / 2 / 2 - 1.4) GiB
            (None, 1, {"kv_cache_memory_gib": 1.5}, 1.5),
            (1024, 1, {"kv_cache_memory_gib": 0.1}, 0.1),
        ],
    )
    def test_kv_cache_is_sized(self, memory_mib: int | None, count: int, fields: dict[str, Any], gib: float) -> None:
        for found in decide(cpu_host(4, memory_mib), QWEN3_06B, *[fields] * count):
            assert found["rejected"] is None
            assert found["serve_args"]["kv-cache-memory-bytes"] == int(gib * GIB)

    @pytest.mark.parametrize(
        ("facts", "fields", "sentence"),
        [
            (
                cpu_host(2),
                {"tensor_parallel_size": 4},
                "m0: 4 ranks need 4 CPU cores and this host has 2. Leave tensor_parallel_size out; or "
                "write tensor_parallel_size and pipeline_parallel_size with a product of at most 2.",
            ),
            (
                cpu_host(2),
                {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
                "m0: 4 ranks need 4 CPU cores and this host has 2. Leave pipeline_parallel_size out; or "
                "write tensor_parallel_size and pipeline_parallel_size with a product of at most 2.",
            ),
            (cpu_host(), {"gpus": 1}, "m0: 'gpus' is written and this host has no GPU. Leave 'gpus' out."),
            (
                cpu_host(4, None),
                {},
                "m0: The host's memory is unknown, so its KV cache cannot be sized. "
                "Write kv_cache_memory_gib (per rank).",
            ),
            (
                cpu_host(4, 2048),
                {},
                "m0: Half of the host's 2.0 GiB of memory, shared by 1 instance(s), leaves no room for a KV cache "
                "beside 1.4 GiB of weights. Use a host with more memory; or write kv_cache_memory_gib (per rank).",
            ),
            (
                cpu_host(8),
                {"tensor_parallel_size": 3},
                "m0: tensor_parallel_size 3 does not divide 16 attention heads. Write tensor_parallel_size: 2.",
            ),
        ],
    )
    def test_refusals(self, facts: dict[str, Any], fields: dict[str, Any], sentence: str) -> None:
        assert one(facts, QWEN3_06B, **fields)["rejected"]["sentence"] == sentence


class TestNvidia:
    @pytest.mark.parametrize(
        ("facts", "model", "fields", "sizes", "devices"),
        [
            # an engine on one H100, and replicas on the rest
            (H100_X4, QWEN25_7B, {}, (1, 1, 4), [0, 1, 2, 3]),
            (H100_X4, QWEN25_7B, {"gpus": 1}, (1, 1, 1), [0]),
            (T4_X4, QWEN25_7B, {}, (2, 1, 2), [0, 1, 2, 3]),
            # over PCIe stages say less to one another than tensor parallel ranks
            (H100_X4, LLAMA_70B, {"gpus": 4}, (1, 4, 1), [0, 1, 2, 3]),
            (H100_X4, LLAMA_70B, {"gpus": 4, "objective": "latency"}, (4, 1, 1), [0, 1, 2, 3]),
            (H100_X4, QWEN25_7B, {"pipeline_parallel_size": 2}, (1, 2, 2), [0, 1, 2, 3]),
            # a utilization that leaves one GPU no KV cache, and one engine alone
            (H100_X4, QWEN25_7B, {"gpu_memory_utilization": 0.2, "data_parallel_size": 1}, (1, 4, 1), [0, 1, 2, 3]),
            (H100_X4, QWEN25_7B, {"gpus": 2}, (1, 1, 2), [0, 1]),
            (H100_X4, QWEN25_7B, {"gpus": [3, 1]}, (1, 1, 2), [1, 3]),
            (H100_X4, QWEN25_7B, {"gpus": 4, "pipeline_parallel_size": 2}, (1, 2, 2), [0, 1, 2, 3]),
            (H100_X4, QWEN25_7B, {"tensor_parallel_size": 4}, (4, 1, 1), [0, 1, 2, 3]),
            (H100_X4, QWEN25_7B, {"gpus": 3}, (1, 1, 3), [0, 1, 2]),
            # three GPUs in one engine: the heads do not divide by three, the layers do
            (H100_X4, QWEN25_7B, {"gpus": 3, "data_parallel_size": 1}, (1, 3, 1), [0, 1, 2]),
            # GPUs of another kind
            (nvidia_host(t4(0), gpu(1), gpu(2)), QWEN25_7B, {"tensor_parallel_size": 2}, (2, 1, 1), [1, 2]),
            (nvidia_host(t4(0), t4(1), t4(2), gpu(3)), QWEN25_7B, {"gpus": 1}, (1, 1, 1), [3]),
            # GPUs cut into MIG slices are left out
            (nvidia_host(gpu(0, mig_devices=[{"index": 0}]), gpu(1)), QWEN25_7B, {}, (1, 1, 1), [1]),
            # a GPU that shares the host's memory
            (nvidia_host(gpu(0, "NVIDIA GB10", None, compute_capability="12.1")), QWEN25_7B, {}, (1, 1, 1), [0]),
        ],
    )
    def test_devices(
        self,
        facts: dict[str, Any],
        model: dict[str, Any],
        fields: dict[str, Any],
        sizes: tuple[int, int, int],
        devices: list[int],
    ) -> None:
        found = one(facts, model, **fields)
        assert found["rejected"] is None
        assert found["devices"] == found["nodes"][0]["devices"] == devices
        assert found["serve_args"]["device-ids"] == ",".join(map(str, devices))
        assert found["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        arguments = found["serve_args"]
        written = (arguments["tensor-parallel-size"], arguments["pipeline-parallel-size"])
        assert (*written, arguments.get("data-parallel-size", 1)) == sizes
        said = found["tensor_parallel_size"], found["pipeline_parallel_size"], found["data_parallel_size"]
        assert said == sizes
        assert "kv-cache-memory-bytes" not in found["serve_args"]

    def test_the_choice_is_explained(self) -> None:
        found = one(H100_X4, LLAMA_70B, gpus=4, max_model_len=8192, tensor_parallel_size=4)
        assert found["reasons"][0] == "tensor_parallel_size 4, gpus 4: as written."
        assert any(one.startswith("The ranks of a tensor parallel group talk over PCIe") for one in found["reasons"])
        assert any("are left for the KV cache (predicted)" in one for one in found["reasons"])
        (said,) = [one for one in found["reasons"] if one.startswith("Estimate for prompts of ")]
        estimate = found["estimate"]
        assert f"Rests on: {estimate['source']}" in said
        assert f"within a factor of {estimate['factor']:g}." in said
        memory = found["memory"]
        parts = ("weights_gib", "activation_gib", "cuda_graphs_gib", "non_torch_gib", "kv_cache_gib")
        assert sum(memory[part] for part in parts) == pytest.approx(memory["budget_gib"], abs=0.01)

    def test_alternatives_say_why_not(self) -> None:
        found = one(H100_X4, LLAMA_70B, gpus=4)
        assert found["alternatives"]
        assert all(other["why_not"] and other["devices_count"] == 4 for other in found["alternatives"])

    @pytest.mark.parametrize(
        ("model", "fields"),
        [
            (QWEN25_7B, {}),
            (QWEN25_7B, {"gpu_memory_utilization": 0.45, "shared_gpus": True}),
            (LLAMA_70B, {"gpu_memory_utilization": 0.9, "shared_gpus": True}),
            (LLAMA_70B, {"gpu_memory_utilization": 0.9, "shared_gpus": True, "targets": {"requests_per_second": 1}}),
            (QWEN25_7B, {"max_num_seqs": 1, "targets": {"tpot_p95_ms": 200}}),
            (QWEN25_7B, {"max_num_seqs": 1, "objective": "latency"}),
        ],
        ids=["open", "shared", "shared by two", "shared, a rate", "a target", "latency"],
    )
    def test_why_not_agrees_with_its_numbers(self, model: dict[str, Any], fields: dict[str, Any]) -> None:
        more_is_worse = ("takes ", "needs ", "a request takes ")
        for other in one(H100_X4, model, **fields)["alternatives"]:
            why = other["why_not"]
            if "the layout taken" not in why:
                continue
            mine, its = (float(text) for text in re.findall(r"\d+(?:\.\d+)?", why)[:2])
            assert mine > its if why.startswith(more_is_worse) else mine < its, why

    def test_what_is_as_good_differs_in_something(self) -> None:
        unknown = nvidia_host(*(gpu(i, "Some GPU") for i in range(2)))
        found = one(unknown, QWEN25_7B, max_num_seqs=1, data_parallel_size=1, gpus=2)
        assert found["estimate"] is None
        assert (found["tensor_parallel_size"], found["pipeline_parallel_size"]) == (2, 1)
        assert found["alternatives"][0]["why_not"] == (
            "gives no more than the layout taken (estimate); it has 2 pipeline stages and the layout taken 1"
        )

    def test_a_length_left_open_is_shortened_before_gpus_are_added(self) -> None:
        found = one(T4_X4, QWEN25_7B, gpus=2)
        assert found["serve_args"].get("max-model-len", 32768) == found["max_model_len"] <= 32768
        tight = one(
            nvidia_host(gpu(0, "NVIDIA L4", 23034, compute_capability="8.9")), {**QWEN25_7B, "max_model_len": 131072}
        )
        assert tight["rejected"] is None
        assert tight["serve_args"]["max-model-len"] == tight["max_model_len"] < 131072
        assert f"max_model_len {tight['max_model_len']} instead of the model's 131072" in tight["reasons"][-1]

    def test_instances_get_different_devices(self) -> None:
        found = decide(H100_X4, QWEN25_7B, {"gpus": [1]}, {}, {"tensor_parallel_size": 2})
        # the larger group chooses first: GPUs 0 and 2 are as near as any
        assert [one["devices"] for one in found] == [[1], [3], [0, 2]]
        assert all(one["rejected"] is None for one in found)

    def test_who_names_its_gpus_has_them(self) -> None:
        found = decide(H100_X4, QWEN25_7B, {}, {"gpus": [0, 1]})
        assert [one["devices"] for one in found] == [[2, 3], [0, 1]]

    def test_gpus_that_are_shared(self) -> None:
        shares = [{"shared_gpus": True, "gpu_memory_utilization": share} for share in (0.45, 0.5, 0.1)]
        found = decide(nvidia_host(gpu(0)), QWEN3_06B, *shares)
        assert [one["devices"] for one in found] == [[0], [0], []]
        assert [one["start_after"] for one in found[:2]] == [[], ["m0"]]
        assert found[2]["rejected"]["rule"] == "no_gpu_free"

    def test_an_engine_over_several_hosts_needs_the_facts_of_all(self) -> None:
        found = one(H100_X4, LLAMA_70B, nodes=["a", "b"], network_interface="eth1")
        assert found["rejected"]["sentence"] == (
            "m0: An engine over several hosts ('nodes') is decided from the facts of all of them, and only this host's "
            "are given. Give the others in 'hosts'; or take 'nodes' out and let it run on one host."
        )

    def test_a_rejected_instance_takes_no_device(self) -> None:
        found = decide(H100_X4, QWEN25_7B, {"tensor_parallel_size": 8}, {"tensor_parallel_size": 4})
        assert found[0]["rejected"]
        assert found[0]["devices"] == []
        assert found[1]["devices"] == [0, 1, 2, 3]

    def test_a_tight_fit_is_warned_of(self) -> None:
        length = one(H100_X4, LLAMA_70B, gpus=2, max_num_seqs=64)["max_model_len"]
        found = one(H100_X4, LLAMA_70B, gpus=2, max_num_seqs=64, max_model_len=length)
        assert found["rejected"] is None
        assert any("with less to spare than predictions are off by" in one for one in found["warnings"])

    def test_kv_cache_memory(self) -> None:
        assert one(H100_X4, QWEN25_7B, kv_cache_memory_gib=1.5)["serve_args"]["kv-cache-memory-bytes"] == 3 * GIB // 2

    @pytest.mark.parametrize(
        ("device", "model", "fields", "dtype"),
        [
            (t4(0), QWEN3_06B, {}, "float16"),
            (t4(0), {**QWEN3_06B, "dtype": None}, {}, "float16"),
            (t4(0), {**QWEN3_06B, "dtype": "float16"}, {}, None),
            (t4(0), QWEN3_06B, {"dtype": "float32"}, "float32"),
            (gpu(0), QWEN3_06B, {}, None),
            (gpu(0, compute_capability="8.0"), QWEN3_06B, {"dtype": "bfloat16"}, "bfloat16"),
            (gpu(0, compute_capability=None), QWEN3_06B, {}, None),
        ],
    )
    def test_dtype(self, device: dict[str, Any], model: dict[str, Any], fields: dict[str, Any], dtype: str) -> None:
        assert one(nvidia_host(device), model, **fields)["serve_args"].get("dtype") == dtype

    @pytest.mark.parametrize(
        ("facts", "model", "fields", "sentence"),
        [
            (
                H100_X4,
                QWEN25_7B,
                {"tensor_parallel_size": 4, "pipeline_parallel_size": 2},
                "m0: tensor_parallel_size 4 x pipeline_parallel_size 2 needs 8 GPUs of one kind and 4 are free. "
                "Leave pipeline_parallel_size out; or write sizes with a product of at most 4; or use a host with more "
                "GPUs.",
            ),
            (
                H100_X4,
                QWEN25_7B,
                {"pipeline_parallel_size": 5},
                "m0: pipeline_parallel_size 5 needs 5 GPUs of one kind and 4 are free. "
                "Leave pipeline_parallel_size out; or write sizes with a product of at most 4; or use a host with more "
                "GPUs.",
            ),
            (
                H100_X4,
                QWEN25_7B,
                {"gpus": 8},
                "m0: 8 GPUs of one kind are asked for and 4 are free. "
                "Write 'gpus: 4' or less; or use a host with more GPUs.",
            ),
            (
                H100_X4,
                QWEN25_7B,
                {"gpus": [0, 4, 5]},
                "m0: 'gpus' names GPUs 4, 5, which this host does not have. Leave gpus out; or choose 'gpus' from "
                "0, 1, 2, 3.",
            ),
            (
                nvidia_host(gpu(0), t4(1)),
                QWEN25_7B,
                {"gpus": [0, 1]},
                "m0: The GPUs written in 'gpus' are not all of one kind: GPU 0 is NVIDIA H100 80GB HBM3 with "
                "81559 MiB, GPU 1 is Tesla T4 with 15360 MiB. Leave gpus out; or choose GPUs of one model and memory "
                "size.",
            ),
            (
                H100_X4,
                QWEN25_7B,
                {"gpus": 3, "tensor_parallel_size": 3},
                "m0: tensor_parallel_size 3 does not divide 28 attention heads and tensor_parallel_size 3 "
                "neither divides 4 KV heads nor is a multiple of them and tensor_parallel_size 3 does not divide "
                "an intermediate size of 18944. "
                "Write tensor_parallel_size: 1.",
            ),
            (
                H100_X4,
                QWEN25_7B,
                {"gpus": 3, "pipeline_parallel_size": 2},
                "m0: 'gpus' gives it 3 GPUs, and pipeline_parallel_size 2 does not use exactly these. "
                "Make the product of the sizes as many as the GPUs; or leave 'gpus' out.",
            ),
            (
                T4_X4,
                LLAMA_70B,
                {},
                "m0: On 4 x Tesla T4 (tensor_parallel_size 4) 32.9 GiB of weights and 1.7 GiB for the rest do not fit "
                "the 13.4 GiB that vLLM may use of each GPU. Use a 4-bit (AWQ, GPTQ) version of the model, which fits "
                "4 of these; or spread it over 3 hosts with 4 GPUs of this kind each ('nodes').",
            ),
            (
                H100_X4,
                LLAMA_70B,
                {"gpus": 2, "tensor_parallel_size": 2, "max_model_len": 65536, "max_num_seqs": 256},
                "m0: On 2 x NVIDIA H100 80GB HBM3 (tensor_parallel_size 2) the 4.8 GiB left for the KV cache hold "
                "31568 tokens, and max_model_len 65536 has to fit. Write max_model_len: 31488 or less; or use an FP8 "
                "or 8-bit version of the model, which fits 2 of these; or use GPUs with more memory.",
            ),
            (
                nvidia_host(gpu(0, "Some GPU", None)),
                QWEN25_7B,
                {},
                "m0: The memory of the GPUs is not known, so it cannot be planned. "
                "See what gpu_info says of this host.",
            ),
            (
                T4_X4,
                QWEN3_06B,
                {"dtype": "bfloat16"},
                "m0: Dtype bfloat16 needs compute capability 8.0, and Tesla T4 has 7.5. "
                "Write dtype: float16; or use a host with newer GPUs.",
            ),
            (
                {**nvidia_host(), "state": "driver_mismatch", "message": "Driver and library differ; reboot."},
                QWEN3_06B,
                {},
                "m0: The GPUs of this host cannot be used: Driver and library differ; reboot.",
            ),
            (nvidia_host(), QWEN3_06B, {}, "m0: No GPU of this host is known: 0 NVIDIA GPUs."),
            (
                H100_X4,
                {"problem": "The model path /m does not exist; correct 'model', or put the model there."},
                {},
                "m0: The model path /m does not exist; correct 'model', or put the model there.",
            ),
            (
                H100_X4,
                QWEN25_7B,
                {"max_model_len": 32769},
                "m0: max_model_len 32769 is longer than the 32768 tokens the model was made for. "
                "Write max_model_len: 32768 or less, or auto; or with a RoPE scaling in extra_args.hf-overrides, write "
                "VLLM_ALLOW_LONG_MAX_MODEL_LEN: 1 in environment.",
            ),
            (
                nvidia_host(gpu(0, memory_free_mib=70000, memory_used_mib=11559)),
                QWEN25_7B,
                {},
                "m0: 68.4 of 79.2 GiB of a GPU are free, and a gpu_memory_utilization of 0.92 asks for 72.8. "
                "Stop the other processes on the GPU; or write gpu_memory_utilization: 0.85 or less.",
            ),
            (
                H100_X4,
                {"weight_bytes": GIB},
                {},
                "m0: The length that the model was made for is not known, so it cannot be planned. "
                "Name a model whose config.json says it, or write tensor_parallel_size.",
            ),
        ],
    )
    def test_refusals(
        self, facts: dict[str, Any], model: dict[str, Any], fields: dict[str, Any], sentence: str
    ) -> None:
        found = one(facts, model, **fields)
        assert found["rejected"]["sentence"] == sentence
        assert found["devices"] == []

    def test_gpus_of_an_earlier_instance_are_taken(self) -> None:
        _, second = decide(H100_X4, QWEN25_7B, {"gpus": [0, 1]}, {"gpus": [1, 2]})
        assert second["rejected"]["sentence"] == (
            "m1: 'gpus' names GPU 1, given to an earlier instance. Leave gpus out; or choose 'gpus' from 2, 3."
        )

    def test_nothing_is_left_for_a_second_instance(self) -> None:
        _, second = decide(H100_X4, QWEN25_7B, {"gpus": 4}, {"gpus": 1})
        assert second["rejected"]["rule"] == "no_gpu_free"

    def test_an_amd_host_is_planned(self) -> None:
        device = gpu(0, "AMD Instinct MI300X", 196592, compute_capability=None, gfx="gfx942")
        found = one({**nvidia_host(device), "accelerator": "rocm"}, LLAMA_70B)
        assert found["rejected"] is None
        assert found["memory"]["total_gib"] == pytest.approx(191.98, abs=0.01)


class TestArguments:
    def test_what_is_written_is_passed_on(self) -> None:
        found = one(
            H100_X4,
            QWEN25_7B,
            name="chat",
            host="0.0.0.0",
            port=9000,
            max_model_len=4096,
            max_num_seqs=8,
            max_num_batched_tokens=2048,
            gpu_memory_utilization=0.5,
            dtype="float16",
            extra_args={"--async_scheduling": True, "compilation-config": {"level": 0}},
            environment={"A": "x", "B": True, "C": 2, "CUDA_DEVICE_ORDER": "FASTEST_FIRST"},
        )
        assert found["serve_args"] == {
            "model": "/m",
            "served-model-name": ["chat"],
            "host": "0.0.0.0",
            "port": 9000,
            "max-model-len": 4096,
            "max-num-seqs": 8,
            "max-num-batched-tokens": 2048,
            "gpu-memory-utilization": 0.5,
            "dtype": "float16",
            "async-scheduling": True,
            "compilation-config": {"level": 0},
            "data-parallel-size": 4,
            "device-ids": "0,1,2,3",
            "tensor-parallel-size": 1,
            "pipeline-parallel-size": 1,
        }
        # what a person writes wins
        assert found["environment"] == {"A": "x", "B": "1", "C": "2", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
        assert found["unit"] == "vllm@chat.service"

    @pytest.mark.parametrize(
        ("fields", "revision", "argument"),
        [
            ({"model": "Qwen/Qwen3-8B"}, "f00", "f00"),
            ({"model": "/m"}, "f00", None),
            ({"model": "Qwen/Qwen3-8B", "revision": "v1"}, None, "v1"),
        ],
    )
    def test_revision(self, fields: dict[str, Any], revision: str | None, argument: str | None) -> None:
        found = one(H100_X4, {**QWEN3_06B, "revision": revision}, **fields)
        assert found["serve_args"].get("revision") == argument

    def test_a_copied_model_is_served_from_where_it_goes(self) -> None:
        (wanted,) = instances.instances([{"name": "a", "model_source": "models/a"}], "/root")
        (found,) = layout.layouts([wanted], H100_X4, {"a": QWEN3_06B})
        assert (found["origin"], found["model"], found["model_source"]) == ("copy", "/root/a", "models/a")
        assert found["serve_args"]["model"] == "/root/a"

    def test_a_model_that_says_too_little_is_taken_where_sizes_are_written(self) -> None:
        found = one(H100_X4, {"weight_bytes": GIB}, gpus=1)
        assert found["rejected"] is None
        assert found["memory"] is None
        assert any("memory was not computed" in one.lower() for one in found["warnings"])


MODELS = st.sampled_from([LLAMA_70B, QWEN25_7B, QWEN3_06B, {}, {"problem": "It is not there."}])
GPUS = st.just("auto") | st.integers(1, 5) | st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True)
SIZES = st.just("auto") | st.integers(1, 9)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "gpus": GPUS,
            "tensor_parallel_size": SIZES,
            "pipeline_parallel_size": st.integers(1, 3),
            "max_model_len": st.sampled_from(["auto", 4096, 50000]),
            "dtype": st.sampled_from(["auto", "bfloat16", "float16"]),
            "kv_cache_memory_gib": st.floats(0.1, 100),
        },
    ),
    min_size=1,
    max_size=4,
)
DEVICES = st.lists(st.sampled_from([gpu, t4]), max_size=6).map(lambda kinds: [k(i) for i, k in enumerate(kinds)])
HOSTS: st.SearchStrategy[dict[str, Any]] = (
    st.builds(cpu_host, st.integers(0, 9), st.none() | st.integers(0, 10**6))
    | DEVICES.map(lambda devices: nvidia_host(*devices))
    | st.just({})
)


@given(HOSTS, MODELS, ENTRIES)
def test_layouts_are_repeatable_disjoint_and_legal(
    facts: dict[str, Any], model: dict[str, Any], entries: list[dict[str, Any]]
) -> None:
    found = decide(facts, model, *entries)
    assert json.dumps(found, allow_nan=False) == json.dumps(decide(facts, model, *entries), allow_nan=False)
    used = [index for one in found for index in one["devices"]]
    assert len(used) == len(set(used))
    for one in found:
        if one["rejected"]:
            assert one["rejected"]["sentence"].startswith(f"{one['name']}: ")
            assert one["rejected"]["sentence"].endswith(".")
            continue
        assert constraints.broken(model, one["tensor_parallel_size"]) == []
        ranks = one["tensor_parallel_size"] * one["pipeline_parallel_size"] * one["data_parallel_size"]
        if one["accelerator"] == "cuda":
            assert len(one["devices"]) == ranks
        else:
            groups = one["environment"]["VLLM_CPU_OMP_THREADS_BIND"].split("|")
            cores = [core for group in groups for core in group.split(",")]
            assert len(groups) == ranks
            assert len(cores) == len(set(cores))


# The first leaves its numbers to the defaults of transformers, the others name their layers as a list.
WITHOUT_LAYERS = {
    "llava-hf/llava-1.5-7b-hf",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4",
}


def test_real_configurations_are_read() -> None:
    folder = shared("model_configs")
    configs = [entry for entry in shared_json("model_configs/index.json") if entry["kind"] == "config"]
    whole = found = 0
    missing = set()
    for entry in configs:
        config = json.loads((folder / entry["file"]).read_text(encoding="utf-8"))
        facts = model_files.facts(config, GIB)
        # a layout can be made of it, or refused, and nothing else
        assert one(H100_X4, facts)["name"] == "m0"
        if not entry["partial"]:
            whole += 1
            if facts["num_layers"] and facts["num_attention_heads"]:
                found += 1
            else:
                missing.add(entry["model"])
    print(f"{len(configs)} configurations read; layers and heads found in {found} of {whole} that are complete")
    assert missing <= WITHOUT_LAYERS


def test_all_gpus_that_are_written_are_used() -> None:
    found = one(nvidia_host(*map(gpu, range(4))), QWEN3_06B, gpus=[0, 1, 2, 3], tensor_parallel_size=2)
    assert found["devices"] == [0, 1, 2, 3]
    assert found["tensor_parallel_size"] * found["pipeline_parallel_size"] * found["data_parallel_size"] == 4
    refused = one(
        nvidia_host(*map(gpu, range(4))),
        QWEN3_06B,
        gpus=4,
        tensor_parallel_size=2,
        pipeline_parallel_size=1,
        data_parallel_size=1,
    )
    assert refused["rejected"]["sentence"] == (
        "m0: 'gpus' gives it 4 GPUs, and tensor_parallel_size 2 x pipeline_parallel_size 1 x data_parallel_size 1 does "
        "not use exactly these. "
        "Make the product of the sizes as many as the GPUs; or leave 'gpus' out."
    )


ONE_KV_HEAD = model_files.facts(
    {**QWEN25_7B_CONFIG, "num_key_value_heads": 1, "max_position_embeddings": 8_000_000}, 15231233024
)


def test_a_written_tensor_parallel_size_is_not_rescued_by_a_spread_cache() -> None:
    asked = {"tensor_parallel_size": 4, "max_model_len": 8_000_000}
    refused = one(H100_X4, ONE_KV_HEAD, **asked)["rejected"]
    assert refused["rule"] == "kv_cache_too_small"
    assert refused["remedies"][0] == "write decode_context_parallel_size: 2"
    spread = one(H100_X4, ONE_KV_HEAD, **asked, decode_context_parallel_size=2)
    assert spread["rejected"] is None
    assert spread["max_model_len"] == 8_000_000


def test_with_open_sizes_the_cache_is_spread_where_nothing_else_holds_the_context() -> None:
    found = one(H100_X4, ONE_KV_HEAD, max_model_len=8_000_000)
    assert found["rejected"] is None
    assert found["pipeline_parallel_size"] * found["decode_context_parallel_size"] > 1


class TestWhatDoesNotFit:
    """A refusal names what is too large, and its remedies lead somewhere."""

    def check_that_no_program_applies(self, texts: list[str]) -> None:
        (asked,) = instances.instances([{"name": "m0", "model": "/m"}], "/root")
        assert texts
        assert remedies.applicable(texts, asked) == []

    @pytest.mark.parametrize(
        "fields",
        [{"kv_cache_memory_gib": 40}, {"kv_cache_memory_gib": 0.5}, {"gpu_memory_utilization": 1.0}, {}],
        ids=["a large cache", "a small cache", "the whole GPU", "nothing written"],
    )
    def test_weights_are_named_whatever_else_is_written(self, fields: dict[str, Any]) -> None:
        refused = one(T4_X4, LLAMA_70B, **fields)["rejected"]
        assert refused["rule"] == "out_of_memory"
        assert "32.9 GiB of weights" in refused["reason"]
        assert refused["remedies"]

    def test_a_written_cache_beside_the_weights(self) -> None:
        refused = one(T4_X4, QWEN25_7B, kv_cache_memory_gib=40)["rejected"]
        assert (refused["rule"], refused["remedies"]) == (
            "kv_cache_memory_too_large",
            ["write kv_cache_memory_gib: 9.2 or less"],
        )
        found = one(T4_X4, QWEN25_7B, kv_cache_memory_gib=9.2)
        assert found["rejected"] is None
        parts = ("weights_gib", "activation_gib", "cuda_graphs_gib", "non_torch_gib", "kv_cache_gib")
        assert sum(found["memory"][part] for part in parts) <= found["memory"]["total_gib"]

    @pytest.mark.parametrize("field", ["kv_cache_memory_gib", "kv_cache_memory_bytes"])
    def test_a_written_cache_that_is_too_small_may_be_left_out(self, field: str) -> None:
        asked = {"max_model_len": 32768, "tensor_parallel_size": 4, "gpus": 4}
        small = {field: 0.1 if field.endswith("gib") else GIB // 10}
        refused = one(T4_X4, QWEN25_7B, **asked, **small)["rejected"]
        assert refused["rule"] == "kv_cache_too_small"
        assert f"leave {field} out" in refused["remedies"]
        assert one(T4_X4, QWEN25_7B, **asked)["rejected"] is None

    def test_a_cache_in_bytes_is_not_written_twice(self) -> None:
        refused = one(T4_X4, QWEN25_7B, kv_cache_memory_bytes=40 * GIB)["rejected"]
        assert refused["remedies"] == ["write kv_cache_memory_gib: 9.2 and leave kv_cache_memory_bytes out"]

    def test_what_is_left_after_what_a_program_can_mend(self) -> None:
        refused = one(T4_X4, LLAMA_70B, max_num_seqs=1024, max_num_batched_tokens=64)["rejected"]
        assert refused["rule"] == "batched_tokens_below_seqs"
        assert "; besides, on 4 x Tesla T4 (tensor_parallel_size 4) 32." in refused["reason"]
        assert refused["remedies"][0].startswith("use a 4-bit")
        assert refused["remedies"][0].endswith(", and write max_num_batched_tokens: 1024")
        self.check_that_no_program_applies(refused["remedies"])

    def test_a_size_for_these_gpus_is_not_offered_with_others(self) -> None:
        refused = one(T4_X4, LLAMA_70B, tensor_parallel_size=3)["rejected"]
        assert refused["rule"] == "heads_not_divisible"
        assert all(text.endswith(", and leave tensor_parallel_size out") for text in refused["remedies"])
        self.check_that_no_program_applies(refused["remedies"])

    def test_several_faults_are_mended_together(self) -> None:
        old = [{**t4(i), "name": "Tesla V100-SXM2-16GB", "compute_capability": "7.0"} for i in range(4)]
        refused = one(nvidia_host(*old), QWEN25_7B, max_model_len=500_000, engine_version="0.33.0")["rejected"]
        assert refused["rule"] == "capability_too_low"
        assert refused["remedies"] == ["use a host with newer GPUs, and write max_model_len: 32768"]

    def test_a_smaller_batch_is_offered_where_it_is_left_open(self) -> None:
        asked = {"gpus": 2, "gpu_memory_utilization": 0.86, "max_num_seqs": 16}
        refused = one(H100_X4, LLAMA_70B, **asked)["rejected"]
        assert refused["rule"] == "kv_cache_too_small"
        assert refused["remedies"][0] == "write max_num_batched_tokens: 2048 or less"
        assert one(H100_X4, LLAMA_70B, **asked, max_num_batched_tokens=2048)["rejected"] is None
