"""The token of the hub: where it goes, and that it goes nowhere else."""

from __future__ import annotations

import secrets as random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import MODEL, run_here
from testinfra.host import Host

from tests import leaks
from tests.deployments import ROOT, Run, ask, remove_instances, unit
from tests.hub_process import serving

CREDENTIAL = "/etc/credstore.encrypted/vllm.hf_token"
NAMES = ("offline", "online")
# Copies all arguments and environments of the node, for as long as it runs.
SAMPLER = "while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; sleep 0.2; done > /run/sampled"


def new_token() -> str:
    """A token that the stand-in takes, and that is nowhere else in the world."""
    return f"hf_good_{random.token_hex(12)}"


@dataclass
class Gated:
    """A gated model on the stand-in, and what Ansible leaves on the control node."""

    address: str
    model: Path
    left: Path

    def instances(self, **more: Any) -> list[dict[str, Any]]:
        """An instance that is offline, and one that has a way to the hub."""
        small = {"max_model_len": 256, "kv_cache_memory_gib": 0.25, "enforce_eager": True, **more}
        common = {"model": "someone/gated", **small}
        return [
            {**common, "name": "offline", "port": 8030},
            {
                **common,
                "name": "online",
                "port": 8031,
                "environment": {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": self.address},
            },
        ]

    def deploy(self, *arguments: str, token: str | None = None, models: Any = None, **extra: Any) -> Run:
        """Deploy with everything that Ansible can write down, at the highest verbosity that users take."""
        variables = {"vllm_models": models or self.instances(), "layout_hub_endpoint": self.address, **extra}
        environment = {
            "ANSIBLE_VERBOSITY": "3",
            "ANSIBLE_DIFF_ALWAYS": "1",
            "ANSIBLE_LOG_PATH": str(self.left / "log"),
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.left / "facts"),
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit",
            "JUNIT_OUTPUT_DIR": str(self.left / "junit"),
            "HF_HOME": str(self.left / "hf"),
        }
        if token is not None:
            environment["HF_TOKEN"] = token
        run = run_here("playbooks/deploy.yml", *arguments, extra=variables, environment=environment)
        (self.left / f"output-{time.monotonic_ns()}").write_text(run.output)
        return run


@pytest.fixture(scope="module")
def gated(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """A gated model that tokens of this test may have."""
    folder = tmp_path_factory.mktemp("hub")
    model = folder / "someone" / "gated"
    shutil.copytree(MODEL, model)
    (model / ".gated").write_text("hf_good_")
    with serving(folder, host) as address:
        yield Gated(address, model, tmp_path_factory.mktemp("left"))
    remove_instances(host, NAMES)
    host.run("rm -rf /etc/credstore*/vllm.hf_token /etc/systemd/system/vllm@online.service.d; systemctl daemon-reload")


@pytest.fixture(scope="module")
def node(host: Host) -> str:
    """The name by which ssh knows the node."""
    return "node1"


def refused(run: Run, sentence: str) -> None:
    """Assert that nothing was changed, and why."""
    assert run.code != 0
    assert sentence in run.text, run.output
    assert run.count("changed") == 0


def test_what_the_hub_refuses_is_told_apart_before_the_first_change(gated: Gated) -> None:
    refused(
        gated.deploy(token=""), "The hub model someone/gated is gated and no token was given: accept its licence at"
    )
    refused(gated.deploy(token="hf_wrong_wrong"), "The hub does not accept the token that was used for someone/gated")
    (gated.model / ".gated").write_text("hf_good_somebody_else")
    refused(
        gated.deploy(token=new_token()), "the account tester has not accepted its licence: do so at https://hugging"
    )
    (gated.model / ".gated").write_text("hf_good_")
    refused(gated.deploy(token="password"), "does not look like a token of the hub, which begins with hf_.")


def test_what_is_planted_would_be_found(host: Host, node: str, tmp_path: Path) -> None:
    """In every kind of place; without this, finding nothing later would mean nothing."""
    planted = f"hf_planted_{random.token_hex(8)}"
    host.check_output("systemd-run --unit planted --setenv=A=%s sleep 60", planted)
    host.check_output("systemd-run --unit planted-too sh -c %s", f"sleep 60; : {planted}")
    host.check_output("logger %s", planted)
    files = ["/tmp/planted", "/root/.bash_history", "/var/lib/vllm/planted.json", "/etc/vllm/planted.env", CREDENTIAL]
    host.check_output("mkdir -p /etc/credstore.encrypted")
    for file in files:
        host.check_output("echo %s >> %s && chmod 0644 %s", planted, file, file)
    (tmp_path / "log").write_text(f"some {planted} text")
    try:
        found = leaks.on_node(node, [planted], allowed=[CREDENTIAL])
        assert set(found) == {"systemctl show", "systemctl cat", "journal", "environ", "cmdline", "files"}
        assert set(files) <= set(found["files"])
        assert leaks.in_folder(tmp_path, [planted]) == [str(tmp_path / "log")]
    finally:
        host.check_output(f"systemctl stop planted planted-too; rm -f {' '.join(files)}")


def test_the_token_is_nowhere_but_where_it_belongs(host: Host, node: str, gated: Gated, tmp_path: Path) -> None:
    """Through a deployment, a failed one, a rotation and a restart; from the environment, a vault, a file."""
    first, second = new_token(), new_token()
    host.check_output("systemd-run --unit sampler sh -c %s", SAMPLER)
    # 1. the environment
    run = gated.deploy(token=first)
    assert run.code == 0, run.output
    for name, port in zip(NAMES, (8030, 8031), strict=True):
        assert ask(host, name, port)["usage"]["completion_tokens"] >= 1
    assert host.file(CREDENTIAL).mode == 0o600
    assert host.check_output("systemd-creds decrypt --name=hf_token %s -", CREDENTIAL) == first
    assert host.check_output("cat /run/credentials/vllm@online.service/hf_token") == first
    assert not host.file("/run/credentials/vllm@offline.service/hf_token").exists
    again = gated.deploy(token=first)
    assert (again.code, again.count("changed")) == (0, 0), again.output

    # 2. a vault, and a deployment that fails
    vault = tmp_path / "vault.yml"
    password = tmp_path / "password"
    password.write_text("open")
    encrypted = subprocess.run(
        ["ansible-vault", "encrypt_string", "--vault-password-file", str(password), "--stdin-name", "vllm_hf_token"],
        input=first,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    vault.write_text(encrypted)
    failing = gated.instances()
    failing[1]["extra_args"] = {"no-such-option": 1}
    run = gated.deploy("-e", f"@{vault}", f"--vault-password-file={password}", models=failing)
    assert run.code != 0
    assert "unrecognized arguments: --no-such-option" in run.text
    assert gated.deploy("-e", f"@{vault}", f"--vault-password-file={password}").code == 0

    # 3. a file of variables, with another token: only the instance that has it is restarted
    before = {name: unit(host, name, "InvocationID") for name in NAMES}
    file = tmp_path / "token.yml"
    file.write_text(f"vllm_hf_token: {second}\n")
    run = gated.deploy("-e", f"@{file}")
    assert run.code == 0, run.output
    assert "token: encrypted by systemd-creds (replaced)" in run.output
    assert unit(host, "offline", "InvocationID") == before["offline"]
    assert unit(host, "online", "InvocationID") != before["online"]
    assert host.check_output("cat /run/credentials/vllm@online.service/hf_token") == second
    host.check_output("systemctl restart vllm@online")

    host.check_output("systemctl stop sampler")
    assert leaks.on_node(node, [first, second], allowed=[CREDENTIAL]) == {}
    file.unlink()
    assert leaks.in_folder(gated.left, [first, second]) == []
    assert leaks.in_folder(Path.home() / ".ansible", [first, second]) == []
    # The samples are a file of the node, so that a token in them would have been found; there must be some.
    assert int(host.check_output("stat --format %s /run/sampled")) > 100_000
    host.check_output("rm /run/sampled")


def test_it_is_removed_everywhere(host: Host, node: str, gated: Gated) -> None:
    token = host.check_output("systemd-creds decrypt --name=hf_token %s -", CREDENTIAL)
    before = unit(host, "offline", "InvocationID")
    predicted = gated.deploy("--check", token=token, model_hf_token_state="absent")
    assert predicted.count("changed") > 0
    assert host.file(CREDENTIAL).exists
    # The control node still shows it to the hub, to read the model.
    run = gated.deploy(token=token, model_hf_token_state="absent")
    assert run.code == 0, run.output
    assert not host.file(CREDENTIAL).exists
    assert not host.file("/run/credentials/vllm@online.service/hf_token").exists
    assert not host.file("/etc/systemd/system/vllm@online.service.d/hf_token.conf").exists
    assert unit(host, "offline", "InvocationID") == before
    assert host.run("grep -rl %s /run/credentials", token).stdout == ""
    assert gated.deploy(token=token, model_hf_token_state="absent").count("changed") == 0
