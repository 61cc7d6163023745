"""The receipt of each instance says what its engine said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Deploy
from testinfra.host import Host

from tests.deployments import remove_drop_in, run_playbook, unit, wait_for_answer

KEY = "sesame-street"


def receipt(host: Host, name: str) -> dict[str, Any]:
    """Read the receipt of an instance."""
    found: dict[str, Any] = json.loads(host.file(f"/var/lib/vllm/receipts/{name}.json").content_string)
    return found


def test_it_says_what_the_engine_said(host: Host) -> None:
    found = receipt(host, "alpha")
    invocation, pid = unit(host, "alpha", "InvocationID", "MainPID")
    journal = host.check_output("journalctl --no-pager --output cat _SYSTEMD_INVOCATION_ID=%s", invocation)
    told = re.search(r"CPU KV cache size: ([\d,]+) tokens, .* request: ([\d.]+)x", journal)
    assert told
    assert found["actual"]["kv_cache_tokens"] == int(told[1].replace(",", ""))
    assert found["actual"]["max_concurrency"] == float(told[2])
    assert told[0] in found["actual"]["words"]
    assert 1 < found["actual"]["load_seconds"] < 180
    assert (found["process"]["invocation"], found["process"]["pid"]) == (invocation, int(pid))


def test_it_says_what_was_decided_and_predicted(host: Host) -> None:
    found = receipt(host, "alpha")
    assert found["layout"]["tensor_parallel_size"] == 2
    assert "VLLM_CPU_OMP_THREADS_BIND" in found["layout"]["environment"]
    assert found["engine"]["release"] == "0.32.0-cpu"
    assert found["engine"]["vllm"] == "0.32.0+cpu"
    (compared,) = [one for one in found["comparison"] if one["quantity"] == "kv_cache_tokens"]
    assert compared["predicted"] == found["predicted"]["kv_cache_tokens"]
    assert compared["ratio"] == pytest.approx(1, abs=0.05)
    assert not compared["beyond"]


def test_it_was_warmed_up(host: Host) -> None:
    warmed = receipt(host, "alpha")["warmup"]
    assert {step["kind"] for step in warmed["steps"]} == {"chat", "completion"}
    assert not [step for step in warmed["steps"] if "refused" in step]
    assert max(step["longest_prompt_tokens"] for step in warmed["steps"]) > 500
    assert max(step["requests"] for step in warmed["steps"]) == 8
    # what a first user would have waited for
    assert warmed["first_token_seconds"] < warmed["first_request_seconds"]
    assert warmed["tokens_per_second"] > 0


def test_it_is_readable_and_whole(host: Host) -> None:
    file = host.file("/var/lib/vllm/receipts/alpha.json")
    assert (file.user, file.mode) == ("root", 0o644)
    assert host.check_output("ls -A /var/lib/vllm/receipts").split() == ["alpha.json", "beta.json"]


def test_the_receipts_of_a_fleet_are_read(tmp_path: Path) -> None:
    """Engines on CPUs do not say what the weights take; docs/planning.md says what calibrate.yml makes of others."""
    made = tmp_path / "calibration.yml"
    run = run_playbook("playbooks/calibrate.yml", extra={"calibration_file": str(made)})
    assert run.code == 0, run.output
    assert "None of 2 receipts says by how much a prediction was off." in run.output
    assert yaml.safe_load(made.read_text()) == {"vllm_calibration": []}


@pytest.fixture
def guarded(host: Host) -> Iterator[str]:
    """Give beta an API key, as an administrator may do beside the collection, and take it away again."""
    folder = "/etc/systemd/system/vllm@beta.service.d"
    host.check_output("umask 077 && echo VLLM_API_KEY=%s > /root/beta.key", KEY)
    host.check_output(
        "mkdir -p %s && printf '[Service]\\nEnvironmentFile=/root/beta.key\\n' > %s/key.conf", folder, folder
    )
    host.check_output("systemctl daemon-reload && systemctl restart vllm@beta")
    yield "beta"
    remove_drop_in(host, "beta")
    wait_for_answer(host, "beta", 8001)


def test_a_server_with_an_api_key_is_warmed_up_and_the_key_stays_there(
    host: Host, deploy: Deploy, guarded: str
) -> None:
    run = deploy("-vvv")
    assert run.code == 0, run.output
    assert KEY not in run.output
    text = host.file(f"/var/lib/vllm/receipts/{guarded}.json").content_string
    assert KEY not in text
    assert json.loads(text)["process"]["invocation"] == unit(host, guarded, "InvocationID")[0]
