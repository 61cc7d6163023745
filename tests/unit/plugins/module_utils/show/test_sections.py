"""Which hosts are shown together."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import report, sections

from tests.unit import plan_samples
from tests.unit.plan_samples import layout


def twins(**change: Any) -> dict[str, Any]:
    """Two hosts alike, the second with other facts."""
    facts = plan_samples.recording("h100-nvswitch")
    other = copy.deepcopy(facts)
    for key, value in change.items():
        if key == "device":
            other["devices"][0].update(value)
        else:
            other[key] = value
    hosts = {"n1": facts, "n2": other}
    return report.build(
        {
            host: {"gpu_facts": given, "instances": [layout("x", "m", {host: [0]}, tensor_parallel_size=1)]}
            for host, given in hosts.items()
        }
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"device": {"uuid": "GPU-1", "memory_free_mib": 5, "processes": [{"pid": 1, "name": "x"}]}},
        {"memory_total_mib": 1, "tools": {}},
        {"driver_version": "1", "warnings": ["x"]},
        {"readiness": [{"state": "fail", "message": "No."}]},
    ],
)
def test_hosts_that_differ_in_their_own_matters_are_one(change: dict[str, Any]) -> None:
    (section,) = sections.sections(twins(**change))
    assert (section.title, section.weight, list(section.shown)) == ("n[1-2]", 2, ["n1"])
    assert [one["name"] for one in section.instances] == ["x"]


@pytest.mark.parametrize(
    "change",
    [
        {"interconnect": "pcie_host"},
        {"state": "gpu_lost", "message": "One is lost."},
        {"device": {"memory_total_mib": 1}},
        {"device": {"numa_node": 5}},
    ],
)
def test_hosts_that_differ_in_what_is_shown_are_two(change: dict[str, Any]) -> None:
    assert [section.title for section in sections.sections(twins(**change))] == ["n1", "n2"]


def test_notes_name_their_hosts_where_not_all_are_meant() -> None:
    (section,) = sections.sections(twins(driver_version="1", warnings=["Half a host."]))
    assert section.told(lambda facts: [facts["driver_version"]]) == ["580.105.08 (n1)", "1 (n2)"]
    assert section.told(sections.warnings) == ["Half a host. (n2)"]
    check = {"state": "warn", "message": "It is off.", "remedy": "Turn it on."}
    given = twins(readiness=[{"state": "ok", "message": "x"}, check])
    given["hosts"]["n1"]["gpu_facts"]["readiness"] = [check, check]
    (section,) = sections.sections(given)
    assert section.told(sections.findings) == ["It is off. Turn it on."]


def test_a_partner_that_is_not_planned_joins_nothing() -> None:
    given = plan_samples.two_hosts()
    del given["hosts"]["big02"]
    (section,) = sections.sections(given)
    assert list(section.shown) == ["big01"]


def test_hosts_with_other_layouts_are_two() -> None:
    given = twins()
    given["hosts"]["n2"]["instances"][0]["nodes"][0]["devices"] = [1]
    assert len(sections.sections(given)) == 2


def test_an_engine_on_two_hosts_is_one_instance() -> None:
    (section,) = sections.sections(plan_samples.two_hosts())
    assert list(section.shown) == ["big01", "big02"]
    assert section.weight == 1
    assert [one["name"] for one in section.instances] == ["deepseek-v3"]


def test_a_refused_engine_joins_no_hosts() -> None:
    given = plan_samples.two_hosts()
    for entry in given["hosts"].values():
        entry["instances"][0]["rejected"] = {"reason": "no", "rule": "x", "remedies": []}
    assert all(len(section.shown) == 1 for section in sections.sections(given))


def test_hosts_in_a_chain_of_engines_are_one_section() -> None:
    facts = plan_samples.eight_h100()["hosts"]["gpu01"]["gpu_facts"]
    first, second = layout("x", "m", {"a": [0], "b": [0]}), layout("y", "m", {"b": [1], "c": [1]})
    instances = {"a": [first], "b": [first, second], "c": [second]}
    hosts = {host: {"gpu_facts": facts, "instances": found} for host, found in instances.items()}
    (section,) = sections.sections({"hosts": hosts})
    assert list(section.shown) == ["a", "b", "c"]
    assert [one["name"] for one in section.instances] == ["x", "y"]
