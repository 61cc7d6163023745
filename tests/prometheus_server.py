"""A real Prometheus for tests, and questions to it: whether the queries of rules and dashboard find something."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

SECONDS = 60
# What Grafana puts in place of a dashboard's variables when everything is chosen.
CHOSEN = {"$__rate_interval": "1m", "$host": ".*", "$model": ".*", "$vllm_instance": ".*", "$proxy": ".*"}
METRIC = re.compile(r"\b(?:vllm:\w+|haproxy_\w+|DCGM_\w+|http_\w+|process_\w+)")

# Answers a path of Prometheus' HTTP API with its text.
Get = Callable[[str], str]


def configuration(targets: Path, rules: Path | None = None, every: str = "1s") -> str:
    """The configuration of docs/monitoring.md: one job, whose targets say the rest."""
    job = {"job_name": "gpufleet", "file_sd_configs": [{"files": [str(targets)]}]}
    found: dict[str, Any] = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "scrape_configs": [job],
    }
    if rules:
        found["rule_files"] = [str(rules)]
    return yaml.safe_dump(found)


def ask(get: Get, query: str) -> list[dict[str, Any]]:
    """Return the series that answer a query at this moment."""
    answer = json.loads(get("/api/v1/query?" + urllib.parse.urlencode({"query": query})))
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def numbers(get: Get, query: str) -> list[float]:
    """The values of a query, without those that are not a number (a rate of nothing by a rate of nothing)."""
    values = [float(series["value"][1]) for series in ask(get, query)]
    return [value for value in values if not math.isnan(value)]


def queries(dashboard: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The queries of a dashboard by the heading they are under, each with the title of its panel."""
    found: dict[str, list[tuple[str, str]]] = {}
    heading = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            heading = panel["title"]
        for one in [panel, *panel.get("panels", [])]:
            for target in one.get("targets", []):
                expression = target["expr"]
                for name, value in CHOSEN.items():
                    expression = expression.replace(name, value)
                found.setdefault(heading, []).append((one["title"], expression))
    return found


def wait_for(get: Get, query: str, seconds: int = SECONDS) -> list[float]:
    """Wait until a query has numbers, and return them: a busy machine misses scrapes."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := numbers(get, query):
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"no answer to {query} within {seconds} s"
        time.sleep(0.5)


@contextmanager
def running(programs: Path, folder: Path, config: str, port: int) -> Iterator[Get]:
    """Run a Prometheus with its data in a folder, and stop it."""
    (folder / "prometheus.yml").write_text(config)
    command = [
        str(programs / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield get
        finally:
            process.terminate()
