"""The all-reduce of `make gpu-lab` runs with the torch of a real release, over gloo."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts

from tools import engine_venv
from tools.lab import links

HOST = facts.build_facts({})


def test_two_ranks_on_the_processor_measure() -> None:
    (result,) = links.check(HOST, [], ranks=2, python=str(engine_venv.ensure()), seconds=120, cases=links.CASES[:1])
    assert (result["state"], result["findings"]) == ("ok", []), result["errors"]
    assert [one["bytes"] for one in result["measured"]["sizes"]] == [8, 64 * 1024, 1024**2, 16 * 1024**2]
    assert all(one["us"] > 0 for one in result["measured"]["sizes"])
    assert any("all-reduce, as it is: ok" in line for line in links.table(result))


def test_ranks_that_cannot_start_are_a_finding() -> None:
    (result,) = links.check(HOST, [], ranks=2, python="/bin/false", seconds=5, cases=links.CASES[:1])
    assert (result["state"], result["measured"]) == ("fail", None)
    assert result["findings"][0]["id"] == "check_not_started"
