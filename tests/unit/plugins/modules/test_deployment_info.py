"""The module deployment_info says what the modules say that it stands for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import credentials
from ansible_collections.gpufleet.vllm.plugins.modules import (
    cuda_info,
    deployment_info,
    gpu_info,
    host_info,
    model_info,
)

from tests.unit.plugins.modules.running import run

Capture = pytest.CaptureFixture[str]


def test_it_says_what_the_others_say(tmp_path: Path, capsys: Capture) -> None:
    root, model = tmp_path / "opt", tmp_path / "models/m"
    (root / "releases/1-cpu").mkdir(parents=True)
    (root / "releases/1-cpu/release.json").write_text("{}\n")
    (root / "releases/broken").mkdir()
    (root / "current").symlink_to("releases/1-cpu")
    model.mkdir(parents=True)
    (model / "config.json").write_text("{")
    found = run(
        deployment_info,
        capsys,
        engine_root=str(root),
        python=sys.executable,
        models=[str(model)],
        trees=[str(tmp_path / "models"), "/none"],
        users=["root", "nobody-of-that-name"],
    )
    assert found["changed"] is False
    engine = (".", "current", "cache", "releases/1-cpu", "releases/1-cpu/release.json", "releases/broken")
    token = [credentials.ENCRYPTED, credentials.PLAIN]
    assert list(found["paths"]) == [*(str(root / name) for name in engine), str(model), *token]
    users = list(found["users"])
    one = run(host_info, capsys, paths=list(found["paths"]), python=sys.executable, users=users)
    assert (found["users"], users) == (one["users"], ["root", "nobody-of-that-name"])
    for facts in (*one["paths"].values(), *found["paths"].values()):
        assert facts.pop("free_mib") > 0
    assert (found["paths"], found["python"]) == (one["paths"], one["python"])
    assert found["models"] == {str(model): run(model_info, capsys, model=str(model), required=False)["model_facts"]}
    gpu = run(gpu_info, capsys)["gpu_facts"]
    assert found["gpu_facts"]["accelerator"] == gpu["accelerator"]
    assert set(found["gpu_facts"]) == set(gpu)
    assert set(found["cuda_facts"]) == set(run(cuda_info, capsys)["cuda_facts"])
    time = (model / "config.json").stat().st_mtime_ns
    assert found["trees"] == {str(tmp_path / "models"): {"m/config.json": [1, time]}, "/none": {}}
