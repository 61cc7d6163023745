"""An instance that comes and goes beside others, and then everything goes. The last of the scenario's tests."""

from __future__ import annotations

import copy
from typing import Any

from conftest import MODEL, Deploy
from testinfra.host import Host

from tests.deployments import ask, run_playbook, unit

LEFT = (
    "find / -xdev -path /proc -prune -o -path /var/log -prune -o -path /var/cache/uv -prune -o "
    "'(' -iname '*vllm*' -o -iname '*gpufleet*' ')' -print"
)
GAMMA = {
    "name": "gamma",
    "model_source": str(MODEL),
    "port": 8002,
    "max_model_len": 256,
    "kv_cache_memory_gib": 0.25,
    "enforce_eager": True,
}
OF_GAMMA = """
/etc/vllm/gamma.yaml /etc/vllm/gamma.env /opt/vllm/instances/gamma /var/cache/vllm/gamma
/var/lib/vllm/receipts/gamma.json /etc/systemd/system/multi-user.target.wants/vllm@gamma.service
"""


def test_an_instance_comes_and_goes_beside_others(host: Host, deploy: Deploy, models: list[dict[str, Any]]) -> None:
    before = [unit(host, name, "InvocationID") for name in ("alpha", "beta")]
    added = deploy(vllm_models=[*copy.deepcopy(models), GAMMA])
    assert added.code == 0, added.output
    ask(host, "gamma", 8002)
    assert all(host.file(path).exists for path in OF_GAMMA.split())
    assert [unit(host, name, "InvocationID") for name in ("alpha", "beta")] == before

    without = [*copy.deepcopy(models), {"name": "gamma", "state": "absent"}]
    predicted = deploy("--check", "--diff", vllm_models=without)
    assert (predicted.code, predicted.count("changed")) == (0, 1), predicted.output
    assert "before: /etc/vllm/gamma.yaml" in predicted.output
    ask(host, "gamma", 8002)

    gone = deploy(vllm_models=without)
    assert (gone.code, gone.count("changed")) == (0, 1), gone.output
    assert unit(host, "gamma", "ActiveState", "UnitFileState") == ["inactive", "disabled"]
    assert not [path for path in OF_GAMMA.split() if host.file(path).exists]
    # the weights are removed by somebody who says so
    assert host.file("/var/lib/vllm/models/gamma").is_directory
    assert [unit(host, name, "InvocationID") for name in ("alpha", "beta")] == before
    assert deploy(vllm_models=without).count("changed") == 0


def test_a_teardown_leaves_nothing(host: Host) -> None:
    refused = run_playbook("playbooks/teardown.yml")
    assert refused.code != 0
    assert "run it with -e teardown_confirm=true" in refused.text
    assert unit(host, "alpha", "ActiveState") == ["active"]

    wanted = {"teardown_confirm": True, "teardown_models": True}
    predicted = run_playbook("playbooks/teardown.yml", "--check", extra={"teardown_models": True})
    assert predicted.count("changed") == 1, predicted.output
    assert unit(host, "alpha", "ActiveState") == ["active"]

    done = run_playbook("playbooks/teardown.yml", extra=wanted)
    assert (done.code, done.count("changed")) == (0, 1), done.output
    for word in ("vllm@alpha.service (stopped)", "/opt/vllm/releases", "user vllm"):
        assert word in predicted.text
        assert word in done.text
    assert host.check_output(LEFT) == ""
    assert "vllm" not in host.check_output("systemctl list-units --all --no-legend; systemctl list-unit-files")
    assert "vllm" not in host.check_output("cut -d: -f1 /etc/passwd /etc/group")
    assert "vllm" not in host.check_output("ps -eo args")
    assert run_playbook("playbooks/teardown.yml", extra=wanted).count("changed") == 0
