"""What a run changes, and what it leaves alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from conftest import MODEL, Deploy
from testinfra.host import Host

from tests.deployments import ask, run_playbook, unit, wait_for_answer

ODD = "a \"quoted\" $HOME `id` %h 100% back\\slash 'single' # ; tab\there, two\nlines, ünïcode"


def starts(host: Host, name: str) -> int:
    """Count how often systemd has started an instance since the node booted."""
    lines: str = host.check_output("journalctl --boot --no-pager --output cat --unit vllm@%s.service", name)
    return lines.count(f"Started vllm@{name}.service")


def test_a_check_of_a_deployed_node_finds_nothing(deploy: Deploy) -> None:
    checked = deploy("--check", "--diff")
    assert checked.code == 0, checked.output
    assert checked.count("changed") == 0
    assert "--- before" not in checked.output


def test_a_second_run_changes_nothing(host: Host, deploy: Deploy) -> None:
    before = [unit(host, name, "InvocationID") for name in ("alpha", "beta")]
    receipts = host.check_output("sha256sum /var/lib/vllm/receipts/*")
    again = deploy()
    assert (again.code, again.count("changed")) == (0, 0), again.output
    assert [unit(host, name, "InvocationID") for name in ("alpha", "beta")] == before
    assert host.check_output("sha256sum /var/lib/vllm/receipts/*") == receipts
    assert again.text.count("; it is warm") == 2
    assert "warming up" not in again.text


def test_the_status_of_a_fleet_of_which_a_host_is_gone(tmp_path: Path) -> None:
    report = tmp_path / "status.json"
    run = run_playbook("playbooks/status.yml", "-i", "gone.invalid,", extra={"status_report": str(report)})
    assert "2 hosts, 1 without an answer; 2 instances, 2 serving." in run.output, run.output
    hosts = json.loads(report.read_text())["hosts"]
    assert hosts["gone.invalid"]["state"] == "unreachable"
    assert {one["name"]: one["layout"]["tensor_parallel_size"] for one in hosts["node1"]["instances"]} == {
        "alpha": 2,
        "beta": 1,
    }
    assert all(one["warm"] and one["running"] == 0 for one in hosts["node1"]["instances"])


def test_a_changed_setting_restarts_its_own_instance_once(
    host: Host, deploy: Deploy, models: list[dict[str, Any]]
) -> None:
    wanted = copy.deepcopy(models)
    wanted[1]["max_model_len"] = 640
    wanted[1]["environment"] = {"ODD": ODD}
    alpha, beta_starts = unit(host, "alpha", "InvocationID"), starts(host, "beta")

    predicted = deploy("--check", "--diff", vllm_models=wanted)
    assert predicted.code == 0, predicted.output
    assert predicted.count("changed") > 0
    assert "+max-model-len: 640" in predicted.output
    assert "/var/lib/vllm/receipts/beta.json" in predicted.output
    assert "/var/lib/vllm/receipts/alpha.json" not in predicted.output
    assert starts(host, "beta") == beta_starts

    changed = deploy(vllm_models=wanted)
    assert changed.code == 0, changed.output
    assert unit(host, "alpha", "InvocationID") == alpha
    assert starts(host, "beta") == beta_starts + 1
    served = host.check_output(
        "python3 -c %s",
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8001/v1/models').read().decode())",
    )
    assert '"max_model_len":640' in served.replace(" ", "")

    pid = unit(host, "beta", "MainPID")[0]
    environment = host.check_output("cat /proc/%s/environ", pid).split("\0")
    assert f"ODD={ODD}" in environment

    back = deploy()
    assert back.code == 0, back.output
    assert starts(host, "beta") == beta_starts + 2
    ask(host, "beta", 8001)


def test_a_changed_model_is_copied_and_served(host: Host, deploy: Deploy) -> None:
    """The settings stay the same, the files at the same path do not."""
    before = [starts(host, name) for name in ("alpha", "beta")]
    added = MODEL / "NOTICE"
    added.write_text("The model as it was delivered the second time.\n")
    try:
        changed = deploy()
    finally:
        added.unlink()
    assert changed.code == 0, changed.output
    assert [starts(host, name) for name in ("alpha", "beta")] == [count + 1 for count in before]
    assert deploy().count("changed") == 0


def test_an_interrupted_run_is_made_good(host: Host, deploy: Deploy) -> None:
    """A setting was written and the run ended before the restart: the next run restarts, though it writes nothing."""
    before = starts(host, "beta")
    host.check_output("sed -i 's/^GPUFLEET_DIGEST=.*/GPUFLEET_DIGEST=other/' /etc/vllm/beta.env")
    host.check_output("systemctl restart vllm@beta")
    wait_for_answer(host, "beta", 8001)
    again = deploy()
    assert again.code == 0, again.output
    assert starts(host, "beta") == before + 2
    assert deploy().count("changed") == 0


def test_a_half_made_release_is_made_again(host: Host, deploy: Deploy) -> None:
    """Without its mark a release counts as interrupted; the check says so and changes nothing."""
    mark = "/opt/vllm/releases/0.32.0-cpu/release.json"
    assert '"vllm": "0.32.0+cpu"' in host.file(mark).content_string
    host.check_output("mv %s /root/release.json", mark)
    checked = deploy("--check")
    host.check_output("mv /root/release.json %s", mark)
    assert checked.code == 0, checked.output
    assert checked.count("changed") > 0
