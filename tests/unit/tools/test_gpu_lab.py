# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab for a machine with GPUs, as far as it goes without one: plans, command lines, logs, verdicts."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import facts_from_profile

from tools.lab import engine_child, engines, links, machine
from tools.lab.node_load import Point

TWO_H200 = facts_from_profile({"name": "H200", "count": 2})
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "auto_map": {"AutoConfig": "configuration_x.XConfig"},
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    (tmp_path / "lab--llama_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_what_is_asked_for(configs: Path) -> None:
    plain, written = engines.wanted(configs, ["lab/llama", "lab/llama:2,max_model_len=8192,enforce_eager=true"])
    assert (plain.model, plain.ranks, plain.name) == ("lab/llama", 1, "llama-tp1")
    assert (written.ranks, written.fields) == (2, {"max_model_len": 8192, "enforce_eager": True})


def test_values_have_commas_of_their_own(configs: Path) -> None:
    word = 'lab/llama:1,speculative_config={"method": "mtp", "num_speculative_tokens": 1},max_num_seqs=8'
    (one,) = engines.wanted(configs, [word])
    assert one.fields == {
        "speculative_config": {"method": "mtp", "num_speculative_tokens": 1},
        "max_num_seqs": 8,
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lab/llama:1,max_num_seqs=8;x=1", "follows the value of max_num_seqs"),
        ("lab/other:1", "put the model's config.json there"),
        ("lab/llama:two", "'two' is no number of GPUs"),
        ("lab/llama:1,max_model_len=many", "values are JSON"),
    ],
)
def test_what_cannot_be_asked_for(configs: Path, word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        engines.wanted(configs, [word])


def test_the_planner_decides_and_the_engine_is_told_so(configs: Path) -> None:
    (one,) = engines.wanted(configs, ["lab/llama:2,max_model_len=8192"])
    layout = engines.planned(one, TWO_H200, [0, 1], "0.25.1")
    words = engines.words_of(engines.arguments_of(layout, Path("/w"), no_multicast=False))
    assert words[:2] == ["--model", "/w"]
    assert {"--skip-tokenizer-init", "--device-ids", "--load-format"} <= set(words)
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert words[words.index("--max-model-len") + 1] == "8192"
    assert not {"--revision", "--port", "--compilation-config"} & set(words)


def test_multicast_is_left_alone_where_the_machine_says_so(configs: Path) -> None:
    (one,) = engines.wanted(
        configs, ['lab/llama:2,extra_args={"compilation-config":{"pass_config":{"enable_sp":true}}}']
    )
    assert engines.forbids_multicast({"NCCL_NVLS_ENABLE": "0"})
    assert not engines.forbids_multicast({"NCCL_NVLS_ENABLE": "1"})
    layout = engines.planned(one, TWO_H200, [0, 1], "0.25.1")
    arguments = engines.arguments_of(layout, Path("/w"), no_multicast=True)
    assert arguments["compilation-config"]["pass_config"] == {"enable_sp": True, "fuse_allreduce_rms": False}
    assert engines.environment_of(layout, {}, True)["VLLM_ALLREDUCE_USE_SYMM_MEM"] == "0"
    assert "VLLM_ALLREDUCE_USE_SYMM_MEM" not in engines.environment_of(layout, {}, False)


# Of vLLM 0.25.1 on an H200, with the lines of engine_child.
LOG = """
GPU-LAB {"event": "imported", "vllm": "0.25.1", "seconds": 12.0}
(EngineCore pid=1) INFO 11-24 10:00:00 [gpu_model_runner.py:1] Model loading took 15.0 GiB memory and 3.2 seconds
(EngineCore pid=1) INFO 11-24 10:00:09 [gpu_worker.py:1] Available KV cache memory: 112.28 GiB
(EngineCore pid=1) INFO 11-24 10:00:09 [kv_cache_utils.py:1] GPU KV cache size: 919,824 tokens
(EngineCore pid=1) INFO 11-24 10:00:09 [kv_cache_utils.py:1] Maximum concurrency for 131,072 tokens per request: 7.02x
GPU-LAB {"event": "started", "seconds": 60.1, "sizes": {"max_model_len": 131072, "max_num_seqs": 1024}}
GPU-LAB {"event": "answered", "batch": 1, "prompt": 128, "answer": 64, "tokens": 64, \
"tokens_per_second": 170.1, "first_token_ms": 9.0, "step_ms": 5.3}
GPU-LAB {"event": "cut
""".strip().splitlines()


def test_prediction_and_report_side_by_side(configs: Path) -> None:
    (one,) = engines.wanted(configs, ["lab/llama"])
    layout = engines.planned(one, TWO_H200, [0], "0.25.1")
    result = engines.judged(one, layout, "ok", 70.0, LOG)
    rows = {row["quantity"]: row for row in result["comparison"]}
    assert rows["kv_cache_tokens"]["actual"] == 919824
    assert abs(rows["kv_cache_tokens"]["ratio"] - 1) < 0.01
    assert not any(row["beyond"] for row in rows.values())
    assert result["answered"][0]["step_ms"] == 5.3
    record = engines.record(result, TWO_H200)
    assert record
    assert (record["gpu"], record["kv_cache_tokens"], record["max_num_seqs"]) == ("NVIDIA H200", 919824, 1024)
    assert any("predicted" in line and "919824" in line for line in engines.table(result))


def test_an_engine_that_dies_keeps_its_last_words(configs: Path) -> None:
    (one,) = engines.wanted(configs, ["lab/llama"])
    layout = engines.planned(one, TWO_H200, [0], "0.25.1")
    result = engines.judged(one, layout, "failed", 5.0, ["torch.OutOfMemoryError: CUDA out of memory."])
    assert result["comparison"] == []
    assert engines.record(result, TWO_H200) is None
    assert "  | torch.OutOfMemoryError: CUDA out of memory." in engines.table(result)


def lab(tmp_path: Path, python: Path, **more: Any) -> engines.Lab:
    settings: dict[str, Any] = {"seconds": 20.0, "deadline": 1e12, "points": [Point(1, 8, 4)], **more}
    return engines.Lab(TWO_H200, [0, 1], str(python), "0.25.1", tmp_path, show=lambda _lines: None, **settings)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A program in the place of the engine's Python: it says what a log would, by the number of GPUs."""
    path = tmp_path / "python"
    path.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import json, sys, time
        words = json.load(open(sys.argv[2]))["arguments"]
        devices = words[words.index("--device-ids") + 1]
        print("GPU KV cache size: 1,000 tokens", devices, flush=True)
        if devices == "0,1":
            time.sleep(60)
        """)
    )
    path.chmod(0o755)
    return path


def test_engines_share_the_gpus_and_one_that_hangs_is_ended(configs: Path, python: Path, tmp_path: Path) -> None:
    asked = engines.wanted(configs, ["lab/llama:2", "lab/llama:1", "lab/llama:1,max_model_len=8192", "lab/llama:4"])
    found = list(lab(tmp_path, python, seconds=2.0).all(asked))
    assert [one["outcome"] for one in found] == ["timeout", "ok", "ok", "not run"]
    assert found[0]["reported"]["kv_cache_tokens"] == 1000
    # which of two takes which GPU is chance, and one of them has a field
    assert sorted(re.sub("-[0-9a-f]{6}$", "", path.parent.name) for path in tmp_path.glob("*/log")) == [
        "llama-tp1-0",
        "llama-tp1-1",
        "llama-tp2-0-1",
    ]
    assert "this machine has 2 GPUs" in found[3]["reason"]
    assert not engines._RUNNING


def test_without_time_nothing_is_begun(configs: Path, tmp_path: Path, python: Path) -> None:
    (found,) = lab(tmp_path, python, deadline=0.0).all(engines.wanted(configs, ["lab/llama"]))
    assert (found["outcome"], found["reason"]) == ("not run", "no time was left")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "nothing"),
        ('localhost | FAILED! => {"msg": "no"}', "no"),
        ("localhost | SUCCESS => {", "cannot be read"),
        ("localhost | SUCCESS => []", "no mapping"),
    ],
)
def test_answers_of_ansible_that_are_none(output: str, said: str) -> None:
    with pytest.raises(machine.LabError, match=said):
        machine.answer_of(output)


def test_answer_of_ansible() -> None:
    assert machine.answer_of('localhost | SUCCESS => {\n "gpu_facts": {}\n}\n') == {"gpu_facts": {}}


def test_this_machine_and_its_recording() -> None:
    found = machine.observe()
    assert found["through"] == "ansible", found["problem"]
    assert found["gpu_facts"]["accelerator"]
    assert found["recording"]["record.json"]
    # memory in use moves between the two runs
    assert [one for one in found["differences"] if "memory" not in one] == []


def test_where_two_facts_differ() -> None:
    one = {"source": "live", "a": {"b": [1, 2]}, "c": None}
    assert machine.differences(one, {"source": "recorded", "a": {"b": [1, 3]}, "c": None}) == ["a.b[1]: 2 against 3"]


NCCL = [
    "gpu1:812:830 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM",
    "gpu1:812:830 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM",
    "gpu1:812:830 [0] NCCL INFO Channel 00 : 1[1] -> 0[0] via SHM/direct/direct",
    "gpu1:812:830 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [send] via NET/Socket/0",
    "gpu1:812:830 [0] NCCL INFO comm 0x1 rank 0 nranks 2",
]


def test_which_way_nccl_went() -> None:
    assert links.transports(NCCL) == {"P2P/CUMEM": 2, "SHM/direct/direct": 1, "NET/Socket/0": 1}


def test_what_the_tables_say_without_p2p() -> None:
    found, expected = links.without_p2p(TWO_H200), 300
    assert found
    assert 5 < found < expected


def test_engines_of_one_model_keep_their_logs_apart(configs: Path, python: Path, tmp_path: Path) -> None:
    asked = engines.wanted(configs, ["lab/llama", "lab/llama:1,max_model_len=8192", "lab/llama:1,max_model_len=4096"])
    one_gpu = lab(tmp_path, python)
    one_gpu.devices = [0]
    assert [one["outcome"] for one in one_gpu.all(asked)] == ["ok"] * 3
    assert len(list(tmp_path.glob("*/log"))) == 3


class StandIn:
    """An engine that makes a token of each request in a step."""

    def __init__(self) -> None:
        self.asked: dict[str, list[int]] = {}
        self.waiting: dict[str, int] = {}

    def add_request(self, name: str, prompt: dict[str, list[int]], _parameters: object) -> None:
        self.asked[name] = prompt["prompt_token_ids"]
        self.waiting[name] = 3

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Any]:
        self.waiting = {name: left - 1 for name, left in self.waiting.items()}
        ended = [name for name, left in self.waiting.items() if not left]
        self.waiting = {name: left for name, left in self.waiting.items() if left}
        output = SimpleNamespace(outputs=[SimpleNamespace(token_ids=[1, 2, 3])])
        return [SimpleNamespace(finished=True, outputs=output.outputs) for _name in ended] or [
            SimpleNamespace(finished=False, outputs=[])
        ]


def test_no_prompt_of_an_engine_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=dict))
    engine = StandIn()
    engine_child.generate(engine, 4, 16, 3, "first-0")
    found = engine_child.generate(engine, 4, 16, 3, "then-0")
    assert (found["batch"], found["prompt"], found["answer"], found["tokens"]) == (4, 16, 3, 12)
    assert found["tokens_per_second"] > 0
    assert len({tuple(prompt) for prompt in engine.asked.values()}) == 8
    assert {len(prompt) for prompt in engine.asked.values()} == {16}
