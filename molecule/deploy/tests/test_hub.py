"""A model from the hub. The hub is a stand-in (tests/hub_stand_in.py); what downloads from it is real."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MODEL, run_here
from testinfra.host import Host

from tests.deployments import ROOT, ask, remove_instances

NAME = "from-hub"


@pytest.fixture
def hub(host: Host, tmp_path: Path) -> Iterator[str]:
    """Run the stand-in where the node can reach it and return its address."""
    shutil.copytree(MODEL, tmp_path / "someone" / "tiny")
    gateway = host.check_output("ip -4 route show default").split()[2]
    with socket.socket() as free:
        free.bind((gateway, 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "tests/hub_stand_in.py"), "--folder", str(tmp_path), "--host", gateway]
    with subprocess.Popen([*command, "--port", str(port)]) as process:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((gateway, port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://{gateway}:{port}"
        process.terminate()
    remove_instances(host, [NAME])


def test_a_hub_model_is_downloaded_once_and_served_offline(host: Host, hub: str, tmp_path: Path) -> None:
    wanted = {
        "name": NAME,
        "model": "someone/tiny",
        "port": 8020,
        "max_model_len": 256,
        "kv_cache_memory_gib": 0.25,
        "enforce_eager": True,
    }
    extra = {"vllm_models": [wanted], "layout_hub_endpoint": hub}
    environment = {"HF_HOME": str(tmp_path / "hf")}
    first = run_here("playbooks/deploy.yml", extra=extra, environment=environment)
    assert first.code == 0, first.output
    assert ask(host, NAME, 8020)["usage"]["completion_tokens"] >= 1
    again = run_here("playbooks/deploy.yml", extra=extra, environment=environment)
    assert (again.code, again.count("changed")) == (0, 0), again.output


def test_an_unknown_hub_model(hub: str, tmp_path: Path) -> None:
    run = run_here(
        "playbooks/deploy.yml",
        extra={"vllm_models": [{"name": NAME, "model": "someone/else"}], "layout_hub_endpoint": hub},
        environment={"HF_HOME": str(tmp_path / "hf")},
    )
    assert run.code != 0
    assert "The hub has no model someone/else, or it is private" in run.text, run.output
    assert run.count("changed") == 0
