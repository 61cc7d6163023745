"""The filters, called as Ansible calls them: with tagged and lazy values, in its own templating."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import table

from tests.unit import plan_samples
from tests.unit.samples import QWEN3_06B, cpu_host
from tests.unit.templating import load_trusted, render

INVENTORY = """\
first_port: 9000
folder: /srv/models
vllm_models:
  - name: chat
    model: "{{ folder }}/chat"
    port: "{{ first_port }}"
    tensor_parallel_size: 2
    environment:
      GREETING: "costs $5"
  - name: "{{ 'em' ~ 'bed' }}"
    model: "{{ folder }}/embed"
    gpu_memory_utilization: 0.5
    extra_args: {seed: 0, compilation-config: {level: 3}}
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, Any]:
    """An inventory with templates in it, and the facts of a host."""
    (tmp_path / "vars.yml").write_text(INVENTORY, encoding="utf-8")
    facts = {"gpu_facts": cpu_host(), "model_facts": {"chat": QWEN3_06B, "embed": QWEN3_06B}}
    return {**load_trusted(tmp_path / "vars.yml"), **facts}


def plain_all_through(value: Any) -> bool:
    """Whether a value holds only what Ansible can store: no tuple, no class of our own."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain_all_through(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain_all_through, value))
    return value is None or isinstance(value, (str, int, float, bool))


def test_instance_problems(variables: dict[str, Any]) -> None:
    text = "{{ vllm_models | gpufleet.vllm.instance_problems }}"
    assert render(text, variables) == []
    variables["vllm_models"][0]["prot"] = 1
    assert render(text, variables) == [
        "vllm_models[0] (chat) has the unknown field 'prot': did you mean 'port'? "
        "Other options of vllm serve go under 'extra_args'."
    ]
    (said,) = render("{{ nothing | default([]) | gpufleet.vllm.instance_problems }}", variables)
    assert said.startswith("There are no models to serve")


def test_parallel_layout(variables: dict[str, Any]) -> None:
    text = (
        "{{ vllm_models | gpufleet.vllm.parallel_layout("
        "gpu_facts=gpu_facts, model_facts=model_facts, model_root='/var/lib/vllm/models') }}"
    )
    chat, embed = found = render(text, variables)
    assert plain_all_through(found)
    assert json.dumps(found) == json.dumps(render(text, variables))
    assert chat["rejected"] is None
    assert chat["environment"] == {"VLLM_CPU_OMP_THREADS_BIND": "0,1|2,3", "GREETING": "costs $5"}
    assert (chat["model"], chat["port"]) == ("/srv/models/chat", 9000)
    assert embed["name"] == "embed"
    assert embed["serve_args"]["compilation-config"] == {"level": 3}
    assert embed["serve_args"]["gpu-memory-utilization"] == 0.5


def test_the_sentences_of_a_layout_can_be_picked(variables: dict[str, Any]) -> None:
    variables["model_facts"] = {"chat": {"problem": "It is not there."}, "embed": QWEN3_06B}
    text = (
        "{{ vllm_models | gpufleet.vllm.parallel_layout(gpu_facts=gpu_facts, model_facts=model_facts)"
        " | selectattr('rejected') | map(attribute='rejected.sentence') | list }}"
    )
    assert render(text, variables) == ["chat: It is not there."]


def test_port_problems(variables: dict[str, Any]) -> None:
    layouts = [{"name": "chat", "port": 9000, "ports": [9000], "unit": "vllm@chat.service"}]
    listeners = [{"port": 9000, "pid": 7, "process": "nginx", "unit": "nginx.service"}]
    text = "{{ layouts | gpufleet.vllm.port_problems(listeners) }}"
    assert render(text, {"layouts": layouts, "listeners": []}) == []
    assert render(text, {"layouts": layouts, "listeners": listeners}) == [
        "chat: port 9000 is already in use by nginx (pid 7, nginx.service). "
        "Give the instance another 'port', or stop what holds it."
    ]


@pytest.mark.parametrize(("version", "count"), [("3.11.2", 0), ("3.9.2", 1)])
def test_engine_problems(version: str, count: int) -> None:
    host = {
        "paths": {"/o": {"exists": False, "free_mib": 100}, "/o/r": {"exists": False, "free_mib": 100}},
        "python": {"version": version, "problem": None},
    }
    text = (
        "{{ host | gpufleet.vllm.engine_problems(root='/o', releases={'0.33.0': '/o/r'},"
        " python='/usr/bin/python3', disk_mib=need) }}"
    )
    found = render(text, {"host": host, "need": "100"})
    assert len(found) == count
    assert len(render(text, {"host": host, "need": 101})) == count + 1


@pytest.mark.parametrize(("value", "quoted"), [("costs $5", r'"costs \$5"'), (7, '"7"'), ("größe", '"größe"')])
def test_systemd_quote(value: Any, quoted: str) -> None:
    assert render("{{ value | gpufleet.vllm.systemd_quote }}", {"value": value}) == quoted


def test_systemd_quote_refuses_with_a_sentence() -> None:
    with pytest.raises(AnsibleError, match="which has no place in an environment file; take it out"):
        render("{{ value | gpufleet.vllm.systemd_quote }}", {"value": "a\x00b"})


def test_plan_table() -> None:
    report = plan_samples.pairs()
    wanted = table.table(report)
    for given in (report, report["hosts"]):
        assert render("{{ given | gpufleet.vllm.plan_table }}", {"given": given}) == wanted
    narrow = render("{{ given | gpufleet.vllm.plan_table(width=70) }}", {"given": report})
    assert narrow == table.table(report, 70) != wanted


def test_compatibility_problems() -> None:
    gpu_facts = {"accelerator": "cuda", "driver_version": "535.1", "devices": [], "nvswitch": {"count": 0}}
    text = (
        "{{ gpu_facts | gpufleet.vllm.compatibility_problems(version='0.33.0', host={'glibc': '2.36'},"
        " driver_branch=branch, instances=wanted) }}"
    )
    (said,) = render(text, {"gpu_facts": gpu_facts, "branch": None, "wanted": []})
    assert said.startswith("vLLM 0.33.0 is built for CUDA 13.0")
    # What a person wrote may be anything: other checks speak of it.
    for wanted in ("nonsense", {"a": 1}, [1, "x", {"name": "a", "environment": "x", "devices": "y"}]):
        assert len(render(text, {"gpu_facts": gpu_facts, "branch": None, "wanted": wanted})) == 1
    assert render(text, {"gpu_facts": gpu_facts, "branch": "580", "wanted": []}) == []


def test_driver_plan_and_openpgp_fingerprints() -> None:
    role = load_trusted(Path(__file__).parents[4] / "roles/cuda/defaults/main.yml")
    wishes = load_trusted(Path(__file__).parents[4] / "roles/cuda/vars/main.yml")["__cuda_wishes"]
    facts = {"found": {"packages": {}, "distribution": {"id": "debian", "version": "13"}}, "gpu": {"pci_gpus": []}}
    text = "{{ found | gpufleet.vllm.driver_plan(gpu_facts=gpu, wishes=wishes) }}"
    found = render(text, {**role, **facts, "wishes": wishes})
    assert plain_all_through(found)
    assert found["applies"] is False
    with pytest.raises(AnsibleError, match="cuda_driver is 'yes'"):
        render(text, {**role, **facts, "wishes": wishes, "cuda_driver": "yes"})
    with pytest.raises(AnsibleError, match="no armored OpenPGP key"):
        render("{{ 'x' | gpufleet.vllm.openpgp_fingerprints }}", {})


def test_an_engine_over_several_hosts_is_decided_from_what_each_has_set() -> None:
    entry = {"name": "big", "model": "/m", "nodes": ["a", "b"], "network_interface": "eth1"}
    hostvars = {
        name: {
            "layout_input": {
                "models": [entry],
                "gpu_facts": cpu_host(),
                "model_facts": {"big": QWEN3_06B},
                "interfaces": {"eth1": {"address": f"10.0.0.{place}"}},
            }
        }
        for place, name in enumerate("ab", start=1)
    }
    text = (
        "{{ [entry] | gpufleet.vllm.parallel_layout(gpu_facts=hosts[host].layout_input.gpu_facts, model_facts={}, "
        "host=host, hosts=hosts) }}"
    )
    (head,), (other,) = (render(text, {"entry": entry, "hosts": hostvars, "host": name}) for name in "ab")
    assert head["rejected"] is other["rejected"] is None
    assert head["together"] == other["together"]
    assert (head["node_rank"], other["node_rank"]) == (0, 1)
    # a host that is not in the play has set nothing
    (refused,) = render(text, {"entry": entry, "hosts": {**hostvars, "b": {}}, "host": "a"})
    assert refused["rejected"]["rule"] == "node_unknown"


HOSTVARS: dict[str, Any] = {
    "gpu01": {"vllm_models": [{"name": "chat", "model": "/srv/chat", "host": "0.0.0.0"}], "unrelated": object()},
    "lb01": {"ansible_host": "10.0.0.2"},
}


def test_scrape_targets() -> None:
    text = "{{ ['gpu01'] | gpufleet.vllm.scrape_targets(hostvars, gateways=['lb01:9000', 'lb02']) }}"
    found = render(text, {"hostvars": HOSTVARS})
    assert plain_all_through(found)
    assert [(one["targets"], one["labels"]["job"]) for one in found["targets"]] == [
        (["gpu01:8000"], "vllm"),
        (["10.0.0.2:9000"], "vllm-gateway"),
        (["lb02:8405"], "vllm-gateway"),
    ]
    assert found["problems"] == []


def test_scrape_targets_with_a_host_that_the_inventory_lacks() -> None:
    found = render("{{ ['gpu99'] | gpufleet.vllm.scrape_targets(hostvars) }}", {"hostvars": HOSTVARS})
    assert found["problems"][0].startswith("There is nothing to scrape")


def test_scrape_targets_knows_what_may_become_of_loopback() -> None:
    with pytest.raises(AnsibleError, match="monitoring_loopback is 'ignore'; write one of refuse, skip"):
        render("{{ [] | gpufleet.vllm.scrape_targets(hostvars, loopback='ignore') }}", {"hostvars": {}})


def test_alert_rules() -> None:
    found = render("{{ {'down_minutes': 3} | gpufleet.vllm.alert_rules(runbook='https://wiki') }}", {})
    assert plain_all_through(found)
    (down,) = [rule for group in found["groups"] for rule in group["rules"] if rule.get("alert") == "VllmInstanceDown"]
    assert (down["for"], down["annotations"]["runbook_url"]) == ("3m", "https://wiki#vllminstancedown")
    # Prometheus' own templates are left for it
    assert down["annotations"]["summary"].startswith("{{ $labels.vllm_instance }}")
    with pytest.raises(AnsibleError, match="unknown threshold 'down_minute': did you mean 'down_minutes'"):
        render("{{ {'down_minute': 3} | gpufleet.vllm.alert_rules(runbook='') }}", {})
