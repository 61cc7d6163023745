"""What real vLLM runs refused is refused here, and what they ran is not."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.constraints import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

from tests.unit.samples import shared, shared_json

ANY = {"accelerator": "cuda"}
T4 = {"accelerator": "cuda", "name": "Tesla T4", "compute_capability": "7.5"}
P100 = {"accelerator": "cuda", "name": "Tesla P100", "compute_capability": "6.0"}
FP8 = {"method": "fp8", "block": [128, 128]}
LLAMA_33B = {"num_attention_heads": 52}
QWEN2_72B = {"num_attention_heads": 64, "num_kv_heads": 8, "head_dim": 128, "intermediate_size": 29568}
# of the report, where there is no configuration: moe_intermediate_size 320
QWEN38_FLASH = {"num_experts": 512, "moe_intermediate_size": 320, "hidden_size": 2048, "quantization_config": FP8}


def moe_only(name: str, **more: Any) -> dict[str, Any]:
    """The shape of an MoE model in model_configs, with a quantization that the test spells out."""
    config = shared_json(f"model_configs/{name}_config.json")
    facts = model.facts(config, None)
    runs = [{"count": facts["num_layers"], "attention": "full", "feed_forward": "moe"}]
    # only what the older facts have too, so that this test stands on its own
    keys = ("architectures", "num_attention_heads", "num_kv_heads", "vocab_size", "hidden_size", "num_experts")
    return {**{key: facts[key] for key in (*keys, "moe_intermediate_size")}, "is_moe": True, "layers": runs, **more}


@dataclass(frozen=True)
class Case:
    """A recorded failure: what it ran, and the rule that says so. ``engine`` is the release of the time."""

    rule: str
    model: dict[str, Any] | str
    sizes: Sizes
    engine: str | None
    gpu: dict[str, Any]
    quantization: dict[str, Any] | None = None
    severity: str = "refuse"
    # what 0.33.0 says of the same: "refuse", "warn" (any rule) or "" where it runs as it should
    now: str = "refuse"


def heads(count: int, size: int) -> Case:
    """A model known by its attention heads alone."""
    return Case("heads_not_divisible", {"num_attention_heads": count}, Sizes(size), None, ANY)


# Records without a version are given that of the thread's time; the rules are the same between 0.7.3 and that release.
RECORDED: dict[str, Case] = {
    "tp-001": heads(52, 3),
    "tp-003": heads(52, 8),
    "tp-004": heads(40, 6),
    "tp-005": heads(12, 8),
    "tp-007": heads(25, 2),
    "tp-008": heads(32, 3),
    "tp-010": Case("heads_not_divisible", "google--gemma-3-27b-it", Sizes(3), "0.8.5.post1", ANY),
    "tp-012": Case("expert_blocks_not_divisible", QWEN38_FLASH, Sizes(8), "0.28.0", ANY),
    "tp-013": Case("expert_blocks_not_divisible", "Qwen--Qwen3-30B-A3B-FP8", Sizes(4), "0.10.2", ANY, FP8, now="warn"),
    # its report says that expert parallelism was tried as well; the source of 0.8.5 slices no expert then
    "tp-014": Case("expert_blocks_not_divisible", "Qwen--Qwen3-235B-A22B-FP8", Sizes(8), "0.8.5", ANY, FP8, now="warn"),
    # 14784 / 128: the group is in the way, and was before the tile that the text names
    "tp-019": Case(
        "quantization_group_not_divisible", QWEN2_72B, Sizes(2), "0.7.3", ANY, {"method": "awq", "group_size": 128}
    ),
    "tp-020": Case(
        "marlin_tile_not_divisible",
        {**QWEN2_72B, "dtype": "bfloat16"},
        Sizes(4),
        "0.7.3",
        ANY,
        {"method": "compressed-tensors", "format": "pack-quantized", "bits": 8, "group_size": -1},
        now="",
    ),
    "tp-021": Case(
        "quantization_group_not_divisible", QWEN2_72B, Sizes(4), "0.8.3", ANY, {"method": "awq", "group_size": 128}
    ),
    # 10944 with one GPU: AWQ of the time fell back for dense layers; the tile is in the way
    "tp-022": Case(
        "awq_without_marlin",
        {"num_attention_heads": 16, "intermediate_size": 10944},
        Sizes(1),
        "0.7.3",
        ANY,
        {"method": "awq", "group_size": 64},
        severity="warn",
        now="",
    ),
    "tp-023": Case(
        "expert_group_fails_on_request",
        "Qwen--Qwen3-235B-A22B",
        Sizes(8),
        "0.9.1",
        ANY,
        {"method": "gptq", "bits": 4, "group_size": 128},
        now="warn",
    ),
    "tp-043": Case("bfloat16_needs_ampere", {"dtype": "bfloat16"}, Sizes(), "0.7.3", T4, now="warn"),
    "tp-045": Case("capability_too_low", {"dtype": "float16"}, Sizes(), "0.7.3", P100),
    "tp-046": Case("bfloat16_needs_ampere", {"dtype": "float16"}, Sizes(dtype="bfloat16"), "0.8.5", T4),
    "tp-068": Case(
        "custom_all_reduce_size", {"num_attention_heads": 64}, Sizes(16), "0.26.0", ANY, severity="warn", now=""
    ),
}
# What these rules cannot know, and who can
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("tp-024", "tp-025", "tp-029", "tp-030"), "a link that hangs is found by running NCCL on the host"),
    **dict.fromkeys(("tp-033", "tp-034", "tp-035"), "the fabric manager is a state of the host"),
    "tp-037": "the driver is a state of the host",
    **dict.fromkeys(("tp-041", "tp-042"), "/dev/shm is a state of the host"),
    **dict.fromkeys(("tp-047", "tp-048", "tp-049", "tp-050"), "access to a model is known by asking the hub"),
    **dict.fromkeys(("tp-051", "tp-052", "tp-057"), "the layout counts the GPUs that are there"),
    **dict.fromkeys(("tp-054", "tp-055"), "Ray's placement is not planned here"),
    "tp-056": "tensor parallelism over hosts is allowed, and the layout's choice",
    **dict.fromkeys(("tp-058", "tp-063", "tp-067"), "free memory is a state of the host; the layout takes the least"),
    "tp-059": "the layout sets CUDA_DEVICE_ORDER and groups GPUs of one kind",
    **dict.fromkeys(("tp-060", "tp-062", "tp-069", "tp-070", "tp-071"), "the memory account of the layout says it"),
}


def _model(case: Case) -> dict[str, Any]:
    if isinstance(case.model, dict):
        facts = dict(case.model)
    elif case.quantization:
        facts = moe_only(case.model)
    else:
        facts = model.facts(shared_json(f"model_configs/{case.model}_config.json"), None)
    if case.quantization:
        facts["quantization_config"] = case.quantization
        facts["quantization"] = case.quantization["method"]
    return facts


def test_every_record_has_its_place() -> None:
    ids = {record["id"] for record in shared_json("truth/tp_errors.json")}
    assert ids <= set(RECORDED) | set(ELSEWHERE), "a record that neither table names"
    assert not set(RECORDED) & set(ELSEWHERE)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_failure_is_named(name: str) -> None:
    shared("truth/tp_errors.json")
    case = RECORDED[name]
    found = constraints.check(_model(case), case.sizes, case.gpu, case.engine)
    assert case.rule in [one.rule_id for one in found if one.severity == case.severity]


@pytest.mark.parametrize("name", RECORDED)
def test_what_the_newest_release_says_of_it(name: str) -> None:
    shared("truth/tp_errors.json")
    case = RECORDED[name]
    found = constraints.check(_model(case), case.sizes, case.gpu)
    severities = {one.severity for one in found}
    assert severities == ({case.now} if case.now else set()) or (case.now == "refuse" and "refuse" in severities)


CAPABILITIES = {
    "H100": "9.0",
    "H200": "9.0",
    "A100": "8.0",
    "A800": "8.0",
    "L40": "8.9",
    "RTX 3090": "8.6",
    "T4": "7.5",
}
DIED = re.compile(r"error|fail|refus", re.IGNORECASE)


def test_what_real_vllm_ran_is_not_refused() -> None:
    files = {row["model"]: row["file"] for row in shared_json("model_configs/index.json") if row["kind"] == "config"}
    judged = 0
    for record in shared_json("truth/kv_truth.json"):
        version = re.match(r"v?\d+\.\d+\.\d+[\w.+]*", record["vllm_version"] or "")
        if record["model"] not in files or version is None or DIED.search(record["outcome"] or ""):
            continue
        facts = model.facts(shared_json(f"model_configs/{files[record['model']]}"), None)
        gpu = next((value for name, value in CAPABILITIES.items() if name in (record["gpu"] or "")), None)
        asked = Sizes(
            record["tp"] or 1,
            record["pp"] or 1,
            record["dp"] or 1,
            kv_cache_dtype=record["kv_cache_dtype"] or "auto",
            max_model_len=record["max_model_len"],
        )
        # the records do not say whether expert parallelism was on
        either = [asked, replace(asked, enable_expert_parallel=True)] if facts["num_experts"] else [asked]
        refused = [
            constraints.refusals(constraints.check(facts, sizes, {**ANY, "compute_capability": gpu}, version[0]))
            for sizes in either
        ]
        assert not all(refused), f"{record['id']} ran: {refused}"
        judged += 1
    print(f"{judged} recorded runs judged")
    assert judged >= 30
