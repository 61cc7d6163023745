"""roles/monitoring/files/dashboard.json is what tools/dashboard.py makes, and Grafana can lay it out."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_rules, alert_thresholds

from tests.prometheus_server import METRIC, queries
from tests.unit.samples import CHECKOUT
from tools import dashboard

COUNTERS = CHECKOUT / "roles/monitoring/files/dcgm-counters.csv"


def panels() -> list[dict[str, Any]]:
    made = dashboard.dashboard()["panels"]
    return [one for panel in made for one in [panel, *panel.get("panels", [])]]


def test_the_file_is_what_the_table_says() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text(), "run `make dashboard`"


def test_every_panel_has_a_number_of_its_own_and_a_place_on_the_grid() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= dashboard.WIDTH for panel in found)


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_query_goes_to_the_chosen_prometheus() -> None:
    targets = [target for panel in panels() for target in panel.get("targets", [])]
    assert len(targets) > 40
    assert {target["datasource"]["uid"] for target in targets} == {"${datasource}"}


def test_every_variable_of_a_query_is_one_of_the_dashboard() -> None:
    """What is left with a dollar after the known ones are put in would be one that Grafana does not know."""
    names = {variable["name"] for variable in dashboard.dashboard()["templating"]["list"]}
    assert names == {"datasource", "host", "model", "vllm_instance", "proxy"}
    found = queries(dashboard.dashboard())
    assert not [text for one in found.values() for _title, text in one if "$" in text]


def test_the_exporter_of_the_gpus_is_told_to_read_what_is_asked_for() -> None:
    listed = {line.split(",")[0] for line in COUNTERS.read_text().splitlines() if not line.startswith("#")}
    asked = set(METRIC.findall(dashboard.text())) | set(
        METRIC.findall(str([rule.expression for rule in alert_rules.gpu_alerts(alert_thresholds.Thresholds())]))
    )
    assert {name for name in asked if name.startswith("DCGM_")} <= listed
