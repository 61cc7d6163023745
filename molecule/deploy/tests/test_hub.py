"""A model from the hub, served. The hub is a stand-in (tests/hub_stand_in.py); what downloads from it is real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MODEL, run_here
from testinfra.host import Host

from tests.deployments import ask, remove_instances
from tests.hub_process import serving

NAME = "from-hub"


@pytest.fixture
def hub(host: Host, tmp_path: Path) -> Iterator[str]:
    """Run the stand-in where the node can reach it and give its address."""
    shutil.copytree(MODEL, tmp_path / "someone" / "tiny")
    with serving(tmp_path, host) as address:
        yield address
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
