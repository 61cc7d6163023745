#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write roles/monitoring/files/dashboard.json, for Grafana, from the table of its panels: `make dashboard`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / ".collections"))

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.scrape_targets import (  # noqa: E402
    DCGM,
    GATEWAY,
    VLLM,
)

FILE = CHECKOUT / "roles/monitoring/files/dashboard.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # columns of Grafana's grid
HEIGHT = 8

# What every query of a source narrows down to; the variables are made below.
OF_VLLM = 'host=~"$host", vllm_instance=~"$vllm_instance", model=~"$model"'
OF_HOST = f'job="{DCGM}", host=~"$host"'
OF_GATEWAY = f'job="{GATEWAY}", proxy=~"$proxy"'
NAME = "{{vllm_instance}} on {{host}}"
CARD = "{{host}} GPU {{gpu}}"
RATE = "$__rate_interval"
_BAD_ENDS = 'finished_reason=~"error|abort"'


@dataclass(frozen=True)
class Query:
    """One line of a panel: ``legend`` is the text of its series, with labels in double braces."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel. ``unit`` is Grafana's name of it; ``kind`` its type; ``wide`` how many columns it takes."""

    title: str
    about: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    wide: int = 8
    high: int = HEIGHT
    top: float | None = None
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under a heading. ``source`` says whose metrics they show: vllm, gateway or dcgm."""

    title: str
    source: str
    panels: Sequence[Panel]
    collapsed: bool = False


def vllm(metric: str, more: str = "") -> str:
    """A metric of the chosen instances."""
    return f"{metric}{{{OF_VLLM}{', ' + more if more else ''}}}"


def rate(metric: str, more: str = "") -> str:
    """The rate of a counter of the chosen instances, engines behind one port added up."""
    return f"sum by (host, vllm_instance) (rate({vllm(metric, more)}[{RATE}]))"


def quantiles(metric: str) -> list[Query]:
    """Median and tail of a histogram for each instance."""
    buckets = f"sum by (le, host, vllm_instance) (rate({vllm(metric + '_bucket')}[{RATE}]))"
    return [Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g} {NAME}") for share in (0.5, 0.95, 0.99)]


def mean(metric: str) -> str:
    """The mean of a histogram over all chosen instances."""
    return " / ".join(f"sum(rate({vllm(metric + part)}[{RATE}]))" for part in ("_sum", "_count"))


def number(title: str, about: str, expression: str, unit: str = "short") -> Panel:
    """A single figure of the fleet."""
    return Panel(title, about, [Query(expression, "")], unit, "stat", wide=3, high=4)


FLEET = Row(
    "Fleet",
    "vllm",
    [
        number("Instances up", "Servers that answer.", f'sum(up{{job="{VLLM}", {OF_VLLM}}})'),
        number(
            "Instances down", "Targets that do not answer.", f'count(up{{job="{VLLM}", {OF_VLLM}}} == 0) or vector(0)'
        ),
        number("Requests running", "In the engines at this moment.", f"sum({vllm('vllm:num_requests_running')})"),
        number("Requests waiting", "For a place in an engine.", f"sum({vllm('vllm:num_requests_waiting')})"),
        number(
            "Requests", "Finished in a second.", f"sum(rate({vllm('vllm:request_success_total')}[{RATE}]))", "reqps"
        ),
        number("Tokens", "Made in a second.", f"sum(rate({vllm('vllm:generation_tokens_total')}[{RATE}]))"),
        number("First token", "Mean time to it.", mean("vllm:time_to_first_token_seconds"), "s"),
        number("Fullest KV cache", "Of all engines.", f"max({vllm('vllm:kv_cache_usage_perc')})", "percentunit"),
        Panel(
            "Instances",
            "What is served where, and for how long the process has run.",
            [Query(f'time() - process_start_time_seconds{{job="{VLLM}", {OF_VLLM}}}', "")],
            "s",
            "table",
            wide=12,
        ),
        Panel(
            "Up",
            "1 while the target answers.",
            [Query(f'up{{job="{VLLM}", {OF_VLLM}}}', NAME)],
            kind="state-timeline",
            wide=12,
        ),
    ],
)
LATENCY = Row(
    "Latency",
    "vllm",
    [
        Panel("Time to first token", "Queue and prompt together.", quantiles("vllm:time_to_first_token_seconds"), "s"),
        Panel(
            "Time between tokens", "What a reader of a stream sees.", quantiles("vllm:inter_token_latency_seconds"), "s"
        ),
        Panel("Whole request", "From arrival to the last token.", quantiles("vllm:e2e_request_latency_seconds"), "s"),
        Panel(
            "Where the time goes",
            "Means: queue, prompt, answer.",
            [
                Query(mean("vllm:request_queue_time_seconds"), "queue"),
                Query(mean("vllm:request_prefill_time_seconds"), "prompt"),
                Query(mean("vllm:request_decode_time_seconds"), "answer"),
            ],
            "s",
            wide=12,
            stacked=True,
        ),
        Panel(
            "Time per output token",
            "Mean of a request.",
            quantiles("vllm:request_time_per_output_token_seconds"),
            "s",
            wide=12,
        ),
    ],
)
WORK = Row(
    "Throughput and queue",
    "vllm",
    [
        Panel("Tokens made", "Generated in a second.", [Query(rate("vllm:generation_tokens_total"), NAME)]),
        Panel("Tokens read", "Of prompts in a second.", [Query(rate("vllm:prompt_tokens_total"), NAME)]),
        Panel(
            "Requests by end",
            "Why requests ended.",
            [
                Query(
                    f"sum by (finished_reason) (rate({vllm('vllm:request_success_total')}[{RATE}]))",
                    "{{finished_reason}}",
                )
            ],
            "reqps",
            stacked=True,
        ),
        Panel(
            "Running and waiting",
            "Requests in the engine, and before it.",
            [
                Query(f"sum by (host, vllm_instance) ({vllm('vllm:num_requests_running')})", f"running {NAME}"),
                Query(f"sum by (host, vllm_instance) ({vllm('vllm:num_requests_waiting')})", f"waiting {NAME}"),
            ],
        ),
        Panel(
            "Tokens of a step",
            "How well the engine fills its steps, mean.",
            [
                Query(
                    f"{rate('vllm:iteration_tokens_total_sum')} / {rate('vllm:iteration_tokens_total_count')}",
                    NAME,
                )
            ],
        ),
        Panel(
            "Length of prompts and answers",
            "Means in tokens.",
            [
                Query(mean("vllm:request_prompt_tokens"), "prompt"),
                Query(mean("vllm:request_generation_tokens"), "answer"),
            ],
        ),
    ],
)
MEMORY = Row(
    "KV cache",
    "vllm",
    [
        Panel(
            "Use of the KV cache",
            "The fullest engine of each instance.",
            [Query(f"max by (host, vllm_instance) ({vllm('vllm:kv_cache_usage_perc')})", NAME)],
            "percentunit",
            top=1,
        ),
        Panel(
            "Preemptions",
            "Requests in a second that lost their memory and start over.",
            [Query(rate("vllm:num_preemptions_total"), NAME)],
        ),
        Panel(
            "Prompt found in the cache",
            "Share of tokens looked up.",
            [Query(f"{rate('vllm:prefix_cache_hits_total')} / {rate('vllm:prefix_cache_queries_total')}", NAME)],
            "percentunit",
            top=1,
        ),
    ],
)
ERRORS = Row(
    "Errors",
    "vllm",
    [
        Panel(
            "Failed and aborted",
            "Requests that ended with error, or that the server ended. Clients that hang up are not counted.",
            [
                Query(
                    "sum by (host, vllm_instance, finished_reason) "
                    f"(rate({vllm('vllm:request_success_total', _BAD_ENDS)}[{RATE}]))",
                    f"{{{{finished_reason}}}} {NAME}",
                )
            ],
            "reqps",
        ),
        Panel(
            "Answers by status",
            "Of the HTTP server.",
            [Query(f"sum by (status) (rate({vllm('http_requests_total')}[{RATE}]))", "{{status}}")],
            "reqps",
            stacked=True,
        ),
        Panel(
            "Turned away",
            "Requests beyond the limits of the queue.",
            [Query(rate("vllm:admission_rejections_total"), NAME)],
            "reqps",
        ),
    ],
)
PROXIES = Row(
    "Gateway",
    "gateway",
    [
        Panel(
            "Servers up",
            "Behind each gateway.",
            [
                Query(
                    f'sum by (host, proxy) (haproxy_server_status{{{OF_GATEWAY}, state="UP"}})', "{{proxy}} on {{host}}"
                )
            ],
        ),
        Panel(
            "Answers by status",
            "What clients get.",
            [
                Query(
                    f"sum by (proxy, code) (rate(haproxy_backend_http_responses_total{{{OF_GATEWAY}}}[{RATE}]))",
                    "{{proxy}} {{code}}",
                )
            ],
            "reqps",
        ),
        Panel(
            "Requests in flight",
            "At each server.",
            [
                Query(
                    f"sum by (proxy, server) (haproxy_server_current_sessions{{{OF_GATEWAY}}})", "{{server}} {{proxy}}"
                )
            ],
        ),
        Panel(
            "Queue of the gateway",
            "Requests that wait for a server.",
            [Query(f"sum by (proxy) (haproxy_backend_current_queue{{{OF_GATEWAY}}})", "{{proxy}}")],
        ),
        Panel(
            "Failed checks",
            "Of servers that were up.",
            [
                Query(
                    f"sum by (proxy, server) (rate(haproxy_server_check_failures_total{{{OF_GATEWAY}}}[{RATE}]))",
                    "{{server}} {{proxy}}",
                )
            ],
        ),
        Panel(
            "Retries and lost connections",
            "To servers.",
            [
                Query(
                    f"sum by (proxy) (rate(haproxy_backend_retry_warnings_total{{{OF_GATEWAY}}}[{RATE}]))",
                    "retries {{proxy}}",
                ),
                Query(
                    f"sum by (proxy) (rate(haproxy_backend_connection_errors_total{{{OF_GATEWAY}}}[{RATE}]))",
                    "errors {{proxy}}",
                ),
            ],
        ),
    ],
    collapsed=True,
)


def gpu(title: str, about: str, expression: str, unit: str = "short", top: float | None = None) -> Panel:
    """A panel with a line for each GPU."""
    return Panel(title, about, [Query(expression, CARD)], unit, top=top)


CARDS = Row(
    "GPUs",
    "dcgm",
    [
        gpu("Use", "Time in which a kernel ran.", f"DCGM_FI_DEV_GPU_UTIL{{{OF_HOST}}}", "percent", 100),
        gpu(
            "Memory",
            "Share in use.",
            f"DCGM_FI_DEV_FB_USED{{{OF_HOST}}} / (DCGM_FI_DEV_FB_USED{{{OF_HOST}}} + DCGM_FI_DEV_FB_FREE{{{OF_HOST}}})",
            "percentunit",
            1,
        ),
        gpu("Power", "Of each GPU.", f"DCGM_FI_DEV_POWER_USAGE{{{OF_HOST}}}", "watt"),
        gpu("Temperature", "Of the chip.", f"DCGM_FI_DEV_GPU_TEMP{{{OF_HOST}}}", "celsius"),
        gpu(
            "Clock",
            "Of the multiprocessors; falls when it is hot.",
            f"DCGM_FI_DEV_SM_CLOCK{{{OF_HOST}}} * 1e6",
            "hertz",
        ),
        gpu("Last Xid", "Code of the last error of the driver.", f"DCGM_FI_DEV_XID_ERRORS{{{OF_HOST}}}"),
    ],
    collapsed=True,
)
ROWS = (FLEET, LATENCY, WORK, MEMORY, ERRORS, PROXIES, CARDS)


def drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana has it."""
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.top is not None:
        defaults["max"] = panel.top
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False, "stacking": stacking}
    table = panel.kind == "table"
    found: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.wide, "h": panel.high},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                "instant": table,
                "range": not table,
                "format": "table" if table else "time_series",
            }
            for place, query in enumerate(panel.queries)
        ],
    }
    if panel.kind == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        found["options"] = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if table:
        hidden = {"Time": True, "__name__": True, "job": True, "instance": True}
        renamed = {"Value": "Running for", "vllm_instance": "Instance", "host": "Host", "model": "Model"}
        found["transformations"] = [
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": renamed, "indexByName": {}}}
        ]
    return found


def laid_out() -> Iterator[dict[str, Any]]:
    """All rows and panels, placed from left to right and from top to bottom."""
    number, y = 1, 0
    for row in ROWS:
        heading: dict[str, Any] = {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            "panels": [],
        }
        number, y, x, high = number + 1, y + 1, 0, 0
        panels = []
        for panel in row.panels:
            if x + panel.wide > WIDTH:
                x, y = 0, y + high
            panels.append(drawn(panel, number, x, y))
            number, x, high = number + 1, x + panel.wide, panel.high
        y += high
        if row.collapsed:
            yield {**heading, "panels": panels}
            # Its panels take no room until it is opened.
            y = heading["gridPos"]["y"] + 1
        else:
            yield heading
            yield from panels


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice that is offered above the panels; everything is chosen at first, also what lacks the label."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    choose = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    up = f'up{{job="{VLLM}"'
    return {
        "uid": "gpufleet-vllm",
        "title": "vLLM fleet",
        "description": "Instances, latency, throughput, KV cache, gateways and GPUs of a fleet of vLLM servers.",
        "tags": ["vllm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                choose,
                variable("host", "Host", f"label_values({up}}}, host)"),
                variable("model", "Model", f'label_values({up}, host=~"$host"}}, model)'),
                variable("vllm_instance", "Instance", f'label_values({up}, host=~"$host"}}, vllm_instance)'),
                variable("proxy", "Proxy", f'label_values(haproxy_backend_active_servers{{job="{GATEWAY}"}}, proxy)'),
            ]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": list(laid_out()),
    }


def text() -> str:
    """The content of the file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> int:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE.relative_to(CHECKOUT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
