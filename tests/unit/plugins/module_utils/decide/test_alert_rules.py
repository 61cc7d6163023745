"""The rules and their thresholds; what they mean to Prometheus is asked in tests/prometheus."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_rules
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.alert_thresholds import Thresholds, read
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

from tests.unit.samples import CHECKOUT

PAGE = CHECKOUT / "docs/monitoring.md"
SPECS = CHECKOUT / "roles/monitoring/meta/argument_specs.yml"
ALERTS = [
    rule for group in alert_rules.rules(Thresholds(), "page")["groups"] for rule in group["rules"] if "alert" in rule
]


def expression(name: str, **said: Any) -> str:
    groups = alert_rules.rules(read(said), "page")["groups"]
    (found,) = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == name]
    return str(found)


@pytest.mark.parametrize(
    ("threshold", "value", "alert", "written"),
    [
        ("restarts_per_hour", 4, "VllmRestarting", "> 4"),
        ("stuck_minutes", 7, "VllmEngineStuck", "[7m]"),
        ("waiting_requests", 33, "VllmQueueGrowing", "> 33 "),
        ("kv_cache_usage", 0.8, "VllmKvCacheFull", "> 0.8"),
        ("preemptions_per_request", 0.5, "VllmPreemptions", "> 0.5 "),
        ("first_token_seconds", 2, "VllmFirstTokenSlow", "> 2 "),
        ("token_seconds", 0.05, "VllmTokensSlow", "> 0.05 "),
        ("error_share", 0.02, "VllmRequestErrors", "> 0.02 "),
        ("error_share", 0.02, "VllmServerErrors", "> 0.02 "),
        ("error_share", 0.02, "VllmGatewayErrors", "> 0.02 "),
        ("abort_share", 0.3, "VllmRequestAborts", "> 0.3 "),
        ("least_requests", 7, "VllmFirstTokenSlow", ">= 7"),
        ("gpu_celsius", 80, "GpuHot", "> 80 "),
        ("gpu_memory_celsius", 90, "GpuHot", "> 90"),
        ("ignored_xids", [13], "GpuXid", "> 0 != 13)"),
        ("ignored_xids", [], "GpuXid", "> 0)"),
    ],
)
def test_a_threshold_is_where_it_belongs(threshold: str, value: object, alert: str, written: str) -> None:
    assert written in expression(alert, **{threshold: value})
    assert written not in expression(alert)


def test_down_minutes_are_how_long_it_must_last() -> None:
    groups = alert_rules.rules(read({"down_minutes": 3}), "page")["groups"]
    (found,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == "VllmInstanceDown"]
    assert found["for"] == "3m"
    assert "for 3 minutes" in found["annotations"]["description"]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"first_token": 1}, "unknown threshold 'first_token': did you mean 'first_token_seconds'?"),
        ({"zzz": 1}, "unknown threshold 'zzz': they are down_minutes, "),
        ({"kv_cache_usage": 95}, "kv_cache_usage is 95; write a share above 0 and up to 1, such as 0.05."),
        ({"error_share": 0}, "error_share is 0; write a share"),
        ({"down_minutes": 0}, "down_minutes is 0; write a whole number from 1."),
        ({"down_minutes": 1.5}, "down_minutes is 1.5; write a whole number from 1."),
        ({"down_minutes": True}, "down_minutes is True; write a whole number from 1."),
        ({"token_seconds": "fast"}, "token_seconds is 'fast'; write a number above 0."),
        ({"ignored_xids": 13}, "ignored_xids is 13; write a list of Xid numbers, such as [13, 31]."),
        ({"ignored_xids": ["13"]}, "ignored_xids is ['13']; write a list"),
    ],
)
def test_what_is_no_threshold_is_said(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        read(said)


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(InputError) as error:
        read({"zzz": 1, "down_minutes": 0})
    assert len(str(error.value).splitlines()) == 2


def test_null_is_the_default() -> None:
    assert read({"down_minutes": None}) == Thresholds()


def test_every_threshold_is_documented_with_its_default() -> None:
    specs = yaml.safe_load(SPECS.read_text())["argument_specs"]["main"]["options"]["monitoring_thresholds"]["options"]
    assert list(specs) == [field.name for field in fields(Thresholds)]
    for name, option in specs.items():
        default = getattr(Thresholds, name)
        written = str(list(default)) if isinstance(default, tuple) else str(default)
        assert f"By default V({written})" in option["description"], name
        kinds = {int: "int", float: "float", tuple: "list"}
        assert option["type"] == kinds[type(default)]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
class TestAlert:
    def test_it_leads_to_a_heading_of_the_page(self, alert: dict[str, Any]) -> None:
        assert alert["annotations"]["runbook_url"] == f"page#{alert['alert'].lower()}"
        assert re.search(rf"^### {alert['alert']}$", PAGE.read_text(), re.MULTILINE)

    def test_it_says_how_bad_it_is(self, alert: dict[str, Any]) -> None:
        assert alert["labels"]["severity"] in ("critical", "warning", "info")


def test_the_page_has_no_alert_that_is_gone() -> None:
    headings = re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]
