"""The queries of the dashboard and the rules, by a real Prometheus that scrapes what real exporters said.

The gateway and vLLM were recorded, the GPUs' exporter was not (fixtures/metrics/README.md). Whether the queries of vLLM
find something on a server after real requests is asked by the Molecule scenario `monitoring`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import alert_rules

from tests.prometheus.conftest import write_rules
from tests.prometheus_server import METRIC, Get, ask, configuration, queries, running, wait_for
from tests.unit.samples import CHECKOUT

RECORDED = CHECKOUT / "tests/unit/fixtures/metrics"
DASHBOARD = json.loads((CHECKOUT / "roles/monitoring/files/dashboard.json").read_text())
SOURCES = {"vllm": "vllm-0.32.0.txt", "vllm-gateway": "haproxy-2.6.txt", "dcgm": "dcgm-exporter-4.txt"}
QUERIES = [(heading, title, text) for heading, found in queries(DASHBOARD).items() for title, text in found]


class Exporter(BaseHTTPRequestHandler):
    """Says what an exporter said; the first part of the path names it."""

    def do_GET(self) -> None:
        body = (RECORDED / SOURCES[self.path.split("/")[1]]).read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture(scope="module")
def prometheus(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Get]:
    """A Prometheus that has scraped all three a few times and has made the recorded series."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    Thread(target=server.serve_forever, daemon=True).start()
    groups = [
        {
            "targets": [f"127.0.0.1:{server.server_port}"],
            "labels": {
                "job": job,
                "host": "gpu01",
                "__metrics_path__": f"/{job}/metrics",
                **({"vllm_instance": "alpha", "model": "/srv/tiny"} if job == "vllm" else {}),
            },
        }
        for job in SOURCES
    ]
    (folder / "targets.json").write_text(json.dumps(groups))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = configuration(folder / "targets.json", write_rules(folder))
    with running(programs, folder, config, port) as get:
        # Rates need two samples, series recorded from recorded ones another round.
        wait_for(get, "min(count_over_time(up[1m])) >= 5")
        yield get
    server.shutdown()


@pytest.mark.parametrize(("heading", "title", "query"), QUERIES)
def test_every_query_finds_something(prometheus: Get, heading: str, title: str, query: str) -> None:
    assert ask(prometheus, query), f"{heading}, {title}: {query}"


@pytest.mark.parametrize("name", alert_rules.RECORDED)
def test_every_recorded_series_is_there(prometheus: Get, name: str) -> None:
    assert ask(prometheus, name)


def test_every_metric_of_the_rules_is_there(prometheus: Get, tmp_path: Path) -> None:
    text = write_rules(tmp_path).read_text()
    names = set(METRIC.findall(text)) - set(alert_rules.RECORDED)
    missing = {name for name in names if not ask(prometheus, name)}
    assert len(names) > 15
    assert not missing


def test_a_metric_that_is_not_there_is_noticed(prometheus: Get) -> None:
    assert not ask(prometheus, "vllm:gpu_cache_usage_perc")


def test_no_alert_is_raised_by_a_fleet_that_is_well(prometheus: Get) -> None:
    """One of the two recorded servers of the gateway was down, which has to last ten minutes before it is told."""
    assert ask(prometheus, 'ALERTS{alertstate="firing"}') == []
    assert [found["metric"]["alertname"] for found in ask(prometheus, "ALERTS")] == ["VllmModelOnLastServer"]
