# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The recording and alert rules, as Prometheus reads them.

Metrics of vLLM are those of v1/metrics/loggers.py (0.32.0 and 0.33), of the gateway those of HAProxy's own exporter
(2.6), of GPUs those of dcgm-exporter 4 (METRICS.md, etc/default-counters.csv).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.alert_thresholds import Thresholds
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.scrape_targets import DCGM, GATEWAY, VLLM

# What is kept of an instance; the engines behind one port (label engine) are added up.
INSTANCE = "job, instance, host, vllm_instance, model"
GPU = "job, instance, host, Hostname, gpu, UUID, modelName"
PROXY = "job, instance, host, proxy"
# Over which shares, quantiles and trends are taken.
WINDOW = "10m"
CHAT = "{{ $labels.vllm_instance }} on {{ $labels.host }}"
CARD = "GPU {{ $labels.gpu }} of {{ $labels.host }}"


@dataclass(frozen=True)
class Alert:
    """One alert: ``expression`` is PromQL and must hold for ``lasting``; ``severity`` is critical, warning or info."""

    name: str
    severity: str
    expression: str
    lasting: str
    summary: str
    description: str

    def rule(self, runbook: str) -> dict[str, Any]:
        """Return the rule; ``runbook`` is the address of the page with a heading for each alert."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbook}#{self.name.lower()}",
            },
        }


def _sum(metric: str, also: str = "") -> str:
    return f"sum by ({INSTANCE}{also}) ({metric})"


def _quantile(metric: str) -> str:
    return f"histogram_quantile(0.95, {_sum(f'rate({metric}_bucket[{WINDOW}])', ', le')})"


# Series that are asked for again and again, and that a fleet's own long-term store may want.
RECORDED: Mapping[str, str] = {
    "instance:vllm_num_requests_running:sum": _sum("vllm:num_requests_running"),
    "instance:vllm_num_requests_waiting:sum": _sum("vllm:num_requests_waiting"),
    "instance:vllm_kv_cache_usage_perc:max": f"max by ({INSTANCE}) (vllm:kv_cache_usage_perc)",
    "instance:vllm_generation_tokens:rate5m": _sum("rate(vllm:generation_tokens_total[5m])"),
    "instance:vllm_requests:increase10m": _sum(f"increase(vllm:request_success_total[{WINDOW}])"),
    "instance:vllm_time_to_first_token_seconds:p95_10m": _quantile("vllm:time_to_first_token_seconds"),
    "instance:vllm_inter_token_latency_seconds:p95_10m": _quantile("vllm:inter_token_latency_seconds"),
    "host:gpus:count": "count by (job, instance, host) (DCGM_FI_DEV_GPU_TEMP)",
}


def rules(thresholds: Thresholds, runbook: str) -> dict[str, Any]:
    """Return the content of a file of rules."""
    alerts = {
        "vllm": vllm_alerts(thresholds),
        "vllm-gateway": gateway_alerts(thresholds),
        "vllm-gpus": gpu_alerts(thresholds),
    }
    recorded = [{"record": name, "expr": expression} for name, expression in RECORDED.items()]
    return {
        "groups": [
            {"name": "vllm-recorded", "rules": recorded},
            *({"name": name, "rules": [one.rule(runbook) for one in found]} for name, found in alerts.items()),
        ]
    }


def vllm_alerts(at: Thresholds) -> list[Alert]:
    """Return the alerts of the instances."""
    enough = f"and instance:vllm_requests:increase10m >= {at.least_requests}"
    return [
        Alert(
            "VllmInstanceDown",
            "critical",
            f'up{{job="{VLLM}"}} == 0',
            f"{at.down_minutes}m",
            f"{CHAT} does not answer",
            f"Nothing answered at {{{{ $labels.instance }}}} for {at.down_minutes} minutes: the unit is stopped, the "
            "engine cannot start, it still loads, or the network is in the way.",
        ),
        Alert(
            "VllmRestarting",
            "warning",
            f'changes(process_start_time_seconds{{job="{VLLM}"}}[1h]) > {at.restarts_per_hour}',
            "0m",
            f"{CHAT} was started {{{{ $value }}}} times within an hour",
            "The engine dies again and again, or somebody restarts it. systemd gives up after some more.",
        ),
        Alert(
            "VllmEngineStuck",
            "critical",
            f"instance:vllm_num_requests_running:sum > 0 and "
            f"{_sum(f'increase(vllm:iteration_tokens_total_count[{at.stuck_minutes}m])')} == 0",
            "1m",
            f"{CHAT} has requests and computes nothing",
            f"The unit is up and the engine made no step for {at.stuck_minutes} minutes while requests were running: a "
            "rank hangs, often in a collective operation.",
        ),
        Alert(
            "VllmNoMetrics",
            "info",
            f'up{{job="{VLLM}"}} == 1 unless on (job, instance) vllm:num_requests_running',
            "15m",
            f"{CHAT} says nothing of its engine",
            "The server answers, without vllm: metrics. It runs with --disable-log-stats, or the target is another "
            "program.",
        ),
        Alert(
            "VllmQueueGrowing",
            "warning",
            f"min_over_time(instance:vllm_num_requests_waiting:sum[{WINDOW}]) > {at.waiting_requests} and "
            f"deriv(instance:vllm_num_requests_waiting:sum[{WINDOW}]) >= 0",
            "5m",
            f"{{{{ $value }}}} requests wait for {CHAT}",
            f"More than {at.waiting_requests} requests have waited for 10 minutes, and they do not become fewer: there "
            "is more traffic than the instance can take.",
        ),
        Alert(
            "VllmKvCacheFull",
            "warning",
            f"avg_over_time(instance:vllm_kv_cache_usage_perc:max[{WINDOW}]) > {at.kv_cache_usage}",
            "5m",
            f"The KV cache of {CHAT} is {{{{ $value | humanizePercentage }}}} full",
            "Requests wait for memory, and running ones may be preempted.",
        ),
        Alert(
            "VllmPreemptions",
            "warning",
            f"{_sum(f'increase(vllm:num_preemptions_total[{WINDOW}])')} / instance:vllm_requests:increase10m "
            f"> {at.preemptions_per_request} {enough}",
            "10m",
            f"{CHAT} preempts {{{{ $value | humanizePercentage }}}} of its requests",
            "The KV cache is too small for the requests that run at once; preempted ones compute their prompt again.",
        ),
        Alert(
            "VllmFirstTokenSlow",
            "warning",
            f"instance:vllm_time_to_first_token_seconds:p95_10m > {at.first_token_seconds} {enough}",
            "10m",
            f"{CHAT} needs {{{{ $value | humanizeDuration }}}} to the first token",
            f"Of 20 requests one waits longer than {at.first_token_seconds} s for its first token.",
        ),
        Alert(
            "VllmTokensSlow",
            "warning",
            f"instance:vllm_inter_token_latency_seconds:p95_10m > {at.token_seconds} {enough}",
            "10m",
            f"{CHAT} needs {{{{ $value | humanizeDuration }}}} for a token",
            f"Of 20 tokens one comes later than {at.token_seconds} s after the one before, slower than people read.",
        ),
        Alert(
            "VllmRequestErrors",
            "critical",
            f"{_sum(_increase_of('error'))} / instance:vllm_requests:increase10m > {at.error_share} {enough}",
            "5m",
            f"{{{{ $value | humanizePercentage }}}} of the requests to {CHAT} fail in the engine",
            "Requests end with the reason error.",
        ),
        Alert(
            "VllmRequestAborts",
            "warning",
            f"{_sum(_increase_of('abort'))} / instance:vllm_requests:increase10m > {at.abort_share} {enough}",
            "10m",
            f"{{{{ $value | humanizePercentage }}}} of the requests to {CHAT} are aborted",
            "The server ended requests itself, as it does when it is stopped. Clients that hang up are not counted.",
        ),
        Alert(
            "VllmServerErrors",
            "critical",
            f"{_sum(f'increase(http_requests_total{_SERVER_ERROR}[{WINDOW}])')} / "
            f"{_sum(f'increase(http_requests_total{_FROM_VLLM}[{WINDOW}])')} > {at.error_share} and "
            f"{_sum(f'increase(http_requests_total{_FROM_VLLM}[{WINDOW}])')} >= {at.least_requests}",
            "5m",
            f"{{{{ $value | humanizePercentage }}}} of the answers of {CHAT} are server errors",
            "The server answers with 5xx: a dead engine, or a limit of queued requests (503).",
        ),
        Alert(
            "VllmRequestsRejected",
            "warning",
            f"{_sum(f'increase(vllm:admission_rejections_total[{WINDOW}])')} > 0",
            "5m",
            f"{CHAT} turns requests away",
            "Its queue is as long as --max-num-queued-reqs or --max-num-queued-tokens allow.",
        ),
    ]


_FROM_VLLM = f'{{job="{VLLM}"}}'
_SERVER_ERROR = f'{{job="{VLLM}", status="5xx"}}'


def _increase_of(reason: str) -> str:
    return f'increase(vllm:request_success_total{{finished_reason="{reason}"}}[{WINDOW}])'


def gateway_alerts(at: Thresholds) -> list[Alert]:
    """Return the alerts of the gateways. A proxy without servers, such as that of the metrics, has no such series."""
    of_gateway = f'job="{GATEWAY}"'
    up = f'sum by ({PROXY}) (haproxy_server_status{{{of_gateway}, state="UP"}})'
    servers = f'count by ({PROXY}) (haproxy_server_status{{{of_gateway}, state="UP"}})'
    answers = f"sum by ({PROXY}) (increase(haproxy_backend_http_responses_total{{{of_gateway}}}[{WINDOW}]))"
    failed = f'sum by ({PROXY}) (increase(haproxy_backend_http_responses_total{{{of_gateway}, code="5xx"}}[{WINDOW}]))'
    return [
        Alert(
            "VllmGatewayDown",
            "critical",
            f"up{{{of_gateway}}} == 0",
            "2m",
            "The gateway {{ $labels.host }} does not answer",
            "Nothing answers at {{ $labels.instance }}, so clients may reach no model through it.",
        ),
        Alert(
            "VllmModelWithoutServer",
            "critical",
            f"{up} == 0",
            "1m",
            "No server of {{ $labels.proxy }} is up behind {{ $labels.host }}",
            "Every request for this model is answered with 503.",
        ),
        Alert(
            "VllmModelOnLastServer",
            "warning",
            f"{up} == 1 and {servers} > 1",
            "10m",
            "One server of {{ $labels.proxy }} is left behind {{ $labels.host }}",
            "The next fault of that server takes the model away.",
        ),
        Alert(
            "VllmGatewayErrors",
            "critical",
            f"{failed} / {answers} > {at.error_share} and {answers} >= {at.least_requests}",
            "5m",
            "{{ $value | humanizePercentage }} of the answers of {{ $labels.proxy }} are server errors",
            "Clients of the gateway {{ $labels.host }} get 5xx.",
        ),
    ]


def gpu_alerts(at: Thresholds) -> list[Alert]:
    """Return the alerts of the GPUs."""
    # The gauge holds the code of the last Xid until the exporter or the driver starts again.
    real = " ".join(["> 0", *(f"!= {code}" for code in at.ignored_xids)])
    return [
        Alert(
            "GpuExporterDown",
            "warning",
            f'up{{job="{DCGM}"}} == 0',
            "10m",
            "The GPUs of {{ $labels.host }} are not watched",
            "dcgm-exporter does not answer at {{ $labels.instance }}: it is stopped, or the driver or DCGM is broken.",
        ),
        Alert(
            "GpuXid",
            "critical",
            f"max by ({GPU}) (DCGM_FI_DEV_XID_ERRORS {real})",
            "0m",
            f"{CARD} reported Xid {{{{ $value }}}}",
            "The driver reported an error that a restart of the engine does not mend. The value stays until the "
            "exporter is restarted.",
        ),
        Alert(
            "GpuLost",
            "critical",
            "host:gpus:count < max_over_time(host:gpus:count[6h])",
            "5m",
            "{{ $labels.host }} has {{ $value }} GPUs, and had more",
            "A GPU fell off the bus, or somebody took it away.",
        ),
        Alert(
            "GpuMemoryFault",
            "critical",
            f"max by ({GPU}) (DCGM_FI_DEV_ROW_REMAP_FAILURE) > 0",
            "0m",
            f"{CARD} has no spare memory rows left",
            "A faulty row of memory could not be replaced. NVIDIA replaces such GPUs.",
        ),
        Alert(
            "GpuUncorrectableErrors",
            "warning",
            f"max by ({GPU}) (increase(DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS[1d])) > 0 or "
            f"max by ({GPU}) (increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[1d])) > 0",
            "0m",
            f"{CARD} had uncorrectable memory errors",
            "Rows of memory are replaced at the next reset of the GPU; until then it may fail again.",
        ),
        Alert(
            "GpuHot",
            "warning",
            f"max by ({GPU}) (DCGM_FI_DEV_GPU_TEMP) > {at.gpu_celsius} or "
            f"max by ({GPU}) (DCGM_FI_DEV_MEMORY_TEMP) > {at.gpu_memory_celsius}",
            "10m",
            f"{CARD} is at {{{{ $value }}}} degrees",
            "It is about to lower its clocks, and with them the speed of every rank that waits for it.",
        ),
        Alert(
            "GpuThrottled",
            "warning",
            f"max by ({GPU}) (increase(DCGM_FI_DEV_THERMAL_VIOLATION[{WINDOW}])) > 0",
            "10m",
            f"{CARD} runs slower because it is hot",
            "Its clocks were lowered for its temperature within the last 10 minutes.",
        ),
    ]
