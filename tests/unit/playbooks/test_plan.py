"""plan.yml as a person runs it, on inventories that need no GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plan_models import Models

from tests.hub_stand_in import Hub
from tests.unit.conftest import write_model
from tests.unit.samples import CHECKOUT

HOSTS = CHECKOUT / "tests/unit/fixtures/hosts"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}
WEIGHTS = 16060522496
H100 = {"name": "H100", "count": 8, "interconnect": "nvlink"}
LIVE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}


class Done(NamedTuple):
    """How a run ended."""

    rc: int
    said: str
    report: dict[str, Any] | None

    @property
    def hosts(self) -> dict[str, Any]:
        """The hosts of the report."""
        assert self.report is not None, self.said
        hosts: dict[str, Any] = self.report["hosts"]
        return hosts

    def instance(self, host: str, name: str) -> dict[str, Any]:
        """One layout of the report."""
        (found,) = [one for one in self.hosts[host]["instances"] if one["name"] == name]
        instance: dict[str, Any] = found
        return instance


class Plans:
    """Runs plan.yml in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.report, self.page = folder / "plan.json", folder / "plan.html"
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(CONFIG))

    def model(self, name: str = "llama", **more: Any) -> dict[str, Any]:
        """An entry of vllm_models, by default of a model that one H100 holds."""
        known = {"model_config": str(self.config), "weights_bytes": WEIGHTS}
        return {"name": name, "model": "org/llama", **known, **more}

    def run(self, hosts: dict[str, Any], *options: str, **variables: Any) -> Done:
        """Run the playbook with an inventory of these hosts and these variables for all of them."""
        inventory = self.folder / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables}}, sort_keys=False))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook", CHECKOUT / "playbooks/plan.yml", "-i", inventory),
                *("-e", f"plan_report={self.report}", "-e", f"plan_page={self.page}", *options),
            ],
            cwd=self.folder,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".collections"),
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                "ANSIBLE_HOME": str(self.folder / "home"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        report = json.loads(self.report.read_text()) if self.report.exists() else None
        return Done(done.returncode, done.stdout + done.stderr, report)


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    """A folder to plan in."""
    return Plans(tmp_path)


def test_one_inventory_of_all_kinds(plans: Plans) -> None:
    folder = write_model(plans.folder / "model", config__json=json.dumps(CONFIG).encode())
    hosts = {
        **{f"gpu{number:02d}": {"gpu_profile": H100} for number in range(1, 13)},
        "ws1": {"gpu_profile": {"name": 4090, "count": 2, "interconnect": "pcie"}},
        "old": {"gpu_recording": str(HOSTS / "a100-pairs")},
        "here": {**LIVE, "vllm_models": [{"name": "llama", "model": str(folder), "kv_cache_memory_gib": 1}]},
    }
    done = plans.run(hosts, vllm_models=[plans.model()])
    assert done.rc == 0, done.said
    assert list(done.hosts) == list(hosts)
    assert done.report is not None
    assert done.report["schema_version"] == 1
    sources = {host: entry["gpu_facts"]["source"] for host, entry in done.hosts.items()}
    assert (sources["gpu01"], sources["ws1"], sources["old"], sources["here"]) == (
        "profile",
        "profile",
        "recorded",
        "live",
    )
    for host in hosts:
        one = done.instance(host, "llama")
        assert one["rejected"] is None
        assert [node["host"] for node in one["nodes"]] == [host]
        assert one["serve_args"][0] == one["model"]
    # only the host that is there was asked
    assert re.findall(r"^ok: \[(.*?)\]$", done.said.split("TASK [Read the GPUs]")[1], re.MULTILINE) == ["here"]
    assert "gpu[01-12] (12 hosts)" in done.said
    assert "15 hosts, 15 instances, 0 refused." in done.said
    assert "gpu[01-12]" in plans.page.read_text()
    assert plans.report.stat().st_mode & 0o777 == 0o644
    assert re.search(r"^here +: ok=2 +changed=0", done.said, re.MULTILINE)


def test_a_second_run_changes_nothing(plans: Plans) -> None:
    hosts = {"a": {"gpu_profile": H100}}
    first = plans.run(hosts, vllm_models=[plans.model()])
    was = plans.report.stat(), plans.page.stat()
    second = plans.run(hosts, vllm_models=[plans.model()])
    assert "changed=1" in first.said
    assert "changed=1" not in second.said
    assert f"{plans.report}: is as it was" in second.said
    assert (plans.report.stat().st_ino, plans.page.stat().st_ino) == (was[0].st_ino, was[1].st_ino)


def test_check_mode_writes_nothing(plans: Plans) -> None:
    done = plans.run({"a": {"gpu_profile": H100}}, "--check", vllm_models=[plans.model()])
    assert done.rc == 0, done.said
    assert not plans.report.exists()
    assert not plans.page.exists()
    assert f"{plans.report}: would be written" in done.said
    assert "1 host, 1 instance, 0 refused." in done.said


def test_hosts_are_chosen(plans: Plans) -> None:
    hosts = {host: {"gpu_profile": H100} for host in ("a", "b", "c")}
    assert list(plans.run(hosts, "-e", "vllm_hosts=a:b", vllm_models=[plans.model()]).hosts) == ["a", "b"]
    assert list(plans.run(hosts, "--limit", "c", vllm_models=[plans.model()]).hosts) == ["c"]


def test_a_refusal_is_a_result(plans: Plans) -> None:
    hosts = {"ws1": {"gpu_profile": {"name": "RTX 4090", "interconnect": "pcie"}}}
    models = [plans.model(weights_bytes=141107412992), plans.model("small", port=8001, weights_bytes=2 * 2**30)]
    done = plans.run(hosts, vllm_models=models)
    assert done.rc == 0, done.said
    rejected = done.instance("ws1", "llama")["rejected"]
    assert {"reason", "rule", "remedies"} <= set(rejected)
    assert "GiB" in rejected["reason"]
    assert done.instance("ws1", "small")["rejected"] is None
    assert "1 host, 2 instances, 1 refused.\n  x ws1: llama:" in done.said
    done = plans.run(hosts, "-e", "plan_fail_on_rejected=true", vllm_models=models)
    assert done.rc == 2
    assert "1 instance(s) refused: llama on ws1" in done.said


MODELS_THAT_CANNOT_BE_READ: list[tuple[dict[str, Any], str]] = [
    ({"model_config": "nowhere.json"}, "nowhere.json cannot be read on the control node (No such file or directory)"),
    ({"model_config": "broken.json"}, "broken.json is not JSON"),
    ({"weights_index": "config.json", "weights_bytes": None}, "config.json states no metadata.total_size"),
    ({"weights_index": "index.json"}, "weights_bytes and weights_index are both written"),
    ({"model_config": None, "weights_bytes": None, "model": "/srv/nowhere"}, "write model_config, the path of"),
]


def test_a_model_that_cannot_be_read_is_refused(plans: Plans) -> None:
    (plans.folder / "broken.json").write_text("{")
    (plans.folder / "index.json").write_text(json.dumps({"metadata": {"total_size": WEIGHTS}}))
    models = [plans.model()]
    for number, (change, _words) in enumerate(MODELS_THAT_CANNOT_BE_READ):
        files = {key: str(plans.folder / value) for key, value in change.items() if str(value).endswith(".json")}
        changed = plans.model(f"bad{number}", port=8001 + number, **{**change, **files})
        models.append({key: value for key, value in changed.items() if value is not None})
    done = plans.run({"a": {"gpu_profile": H100}}, vllm_models=models)
    assert done.rc == 0, done.said
    for number, (_change, words) in enumerate(MODELS_THAT_CANNOT_BE_READ):
        assert words in done.instance("a", f"bad{number}")["rejected"]["reason"]
    assert done.instance("a", "llama")["rejected"] is None


def test_paths_are_relative_to_where_the_command_is_started(plans: Plans) -> None:
    index = plans.folder / "index.json"
    index.write_text(json.dumps({"metadata": {"total_size": WEIGHTS}}))
    model = {"name": "x", "model": "org/x", "model_config": str(plans.config), "weights_index": str(index)}
    (plans.folder / "case").symlink_to(HOSTS / "h100-nvswitch")
    done = plans.run({"a": {"gpu_recording": "case"}}, "-e", "plan_report=other.json", vllm_models=[model])
    assert done.rc == 0, done.said
    found = json.loads((plans.folder / "other.json").read_text())["hosts"]["a"]
    assert found["instances"][0]["rejected"] is None
    assert found["gpu_facts"]["source"] == "recorded"


def test_models_of_the_hub(plans: Plans, hub: Hub) -> None:
    models = [{"name": "good", "model": "org/good"}, {"name": "gated", "model": "org/gated", "port": 8001}]
    hosts = {host: {"gpu_profile": H100} for host in ("a", "b", "c")}
    done = plans.run(hosts, "-e", f"layout_hub_endpoint={hub.url}", vllm_models=models)
    assert done.rc == 0, done.said
    for host in hosts:
        assert "gated" in done.instance(host, "gated")["rejected"]["reason"]
        assert done.instance(host, "good")["origin"] == "hub"


def test_the_hub_is_shown_the_token_of_the_inventory(plans: Plans, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the one that the control node is logged in with, which deploy.yml does not use either."""
    write_model(hub.folder / "org/opened", __gated=b"hf_good", config__json=json.dumps(CONFIG).encode())
    login = plans.folder / "login"
    login.write_text("hf_good1234")
    monkeypatch.setenv("HF_TOKEN_PATH", str(login))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    models = [{"name": "gated", "model": "org/opened"}]
    hosts = {"a": {"gpu_profile": H100, "vllm_hf_token": "hf_good1234\n"}, "b": {"gpu_profile": H100}}
    done = plans.run(hosts, vllm_models=models, layout_hub_endpoint=hub.url)
    assert done.instance("a", "gated")["rejected"] is None, done.said
    assert "no token was given" in done.instance("b", "gated")["rejected"]["reason"]
    assert "hf_good1234" not in done.said + json.dumps(done.report)


def test_each_model_is_read_once(plans: Plans) -> None:
    asked = []

    def ask_hub(name: str, revision: str, _token: str) -> dict[str, Any]:
        asked.append((name, revision))
        return {"revision": revision}

    models = Models(ask_hub)
    for host in range(5):
        assert models.facts({"model": "a/b"}, None if host else {}) == {"revision": "main"}
        assert models.facts({"model": "a/b", "revision": "v1"}, None) == {"revision": "v1"}
        assert models.facts(plans.model(), None)["weight_bytes"] == WEIGHTS
        plans.config.write_text("{")  # what is read again would be a problem now
        assert models.facts({"model": "/on/host"}, {"/on/host": {"num_layers": 3}}) == {"num_layers": 3}
    assert asked == [("a/b", "main"), ("a/b", "v1")]


def test_a_host_that_cannot_be_reached(plans: Plans) -> None:
    dead = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_common_args": "-o BatchMode=yes"}
    done = plans.run({"dead": dead, "fine": {"gpu_profile": H100}}, vllm_models=[plans.model()])
    assert done.rc == 2
    assert "dead could not be read" in done.said
    assert done.hosts["dead"]["gpu_facts"]["state"] == "unreachable"
    assert "could not be read" in done.instance("dead", "llama")["rejected"]["reason"]
    assert done.instance("fine", "llama")["rejected"] is None


def test_a_host_that_gives_no_facts(plans: Plans) -> None:
    odd = {**LIVE, "ansible_python_interpreter": "/usr/bin/false"}
    done = plans.run({"odd": odd}, vllm_models=[plans.model()])
    assert done.rc == 2
    assert done.hosts["odd"]["gpu_facts"]["state"] == "unreadable"


def test_values_of_the_inventory_may_be_templates(plans: Plans) -> None:
    hosts = {
        "a8": {"gpus": 8, "gpu_profile": {"name": "{{ product }}", "count": "{{ gpus }}", "interconnect": "nvlink"}},
        "b2": {"gpus": 2, "gpu_profile": {"name": "{{ product }}", "count": "{{ gpus }}", "interconnect": "nvlink"}},
    }
    model = plans.model("{{ inventory_hostname }}")
    done = plans.run(hosts, product="H100", vllm_models=[model])
    assert done.rc == 0, done.said
    assert [len(entry["gpu_facts"]["devices"]) for entry in done.hosts.values()] == [8, 2]
    assert [entry["instances"][0]["name"] for entry in done.hosts.values()] == ["a8", "b2"]


BAD_INVENTORIES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"gpu_profile": {"name": "H1000"}}, {}, "gpu_profile.name is 'H1000', which is not in the table of GPUs."),
    ({"gpu_profile": {"name": "H100", "nvlink": 1}}, {}, "gpu_profile has no field 'nvlink'."),
    ({"gpu_profile": "H100"}, {}, "gpu_profile is 'H100': write a mapping"),
    ({"gpu_recording": "nowhere"}, {}, "gpu_recording is 'nowhere', and there is no folder"),
    ({"gpu_recording": 3}, {}, "gpu_recording is 3; write the path of a folder"),
    ({"gpu_profile": H100, "gpu_recording": "."}, {}, "gpu_profile and gpu_recording are both written"),
    ({"gpu_profile": H100, "engine_version": 0.33}, {}, "engine_version is 0.33; write text in quotes"),
    ({"gpu_profile": H100, "vllm_network_interface": 3}, {}, "vllm_network_interface is 3; write the name"),
    (
        {"gpu_profile": H100},
        {"prot": 1},
        "vllm_models[0] (llama) has the unknown field 'prot': did you mean 'port'?",
    ),
    ({"gpu_profile": H100}, {"port": 0}, "vllm_models[0] (llama): port is 0; write a port from 1 to 65535."),
    ({"gpu_profile": H100, "vllm_models": None}, {}, "There are no models to serve"),
    ({"gpu_profile": H100, "vllm_models": "{{ nothing }}"}, {}, "the variable vllm_models cannot be computed"),
]


def test_bad_input_is_said(plans: Plans) -> None:
    hosts = {
        f"a{number}": {"vllm_models": [{**plans.model(), **change}], **host}
        for number, (host, change, _words) in enumerate(BAD_INVENTORIES)
    }
    done = plans.run(hosts)
    assert done.rc == 2
    said = re.sub(r"\s+", " ", done.said)
    for number, (_host, _change, words) in enumerate(BAD_INVENTORIES):
        assert f"a{number}: {words}" in said
    assert "Traceback" not in said
    assert done.report is None


def test_the_same_fault_of_many_hosts_is_said_once(plans: Plans) -> None:
    hosts = {f"n{number}": {"gpu_profile": {"name": "H1000"}} for number in range(1, 5)}
    done = plans.run({**hosts, "x": {"gpu_recording": "nowhere"}}, vllm_models=[plans.model()])
    assert done.said.count("n[1-4]: gpu_profile.name is 'H1000'") == done.said.count("x: gpu_recording is 'nowhere'")
    assert "n[1-4]: gpu_profile.name is 'H1000'" in done.said


@pytest.mark.parametrize(
    ("file", "words"),
    [("nowhere/plan.json", "there is no folder"), (".", "which is a folder; write the name of a file")],
)
def test_a_report_that_cannot_be_written(plans: Plans, file: str, words: str) -> None:
    done = plans.run({"a": {"gpu_profile": H100}}, "-e", f"plan_report={file}", vllm_models=[plans.model()])
    assert done.rc == 2
    assert words in re.sub(r"\s+", " ", done.said)
