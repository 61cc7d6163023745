"""The program of the ranks, with a stand-in for torch that writes what NCCL would and fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    all_reduce_worker,
    collective_events,
    collective_report,
)

from tests.unit.collective_samples import FOUR, event

# NCCL puts the process id in for %p, and writes to standard output where no file is named.
TORCH = """
import os
class cuda:
    set_device = staticmethod(lambda device: None)
class device:
    def __init__(self, *words): pass
"""
DISTRIBUTED = """
import os, sys, time
WARNING = "gpu1:1:2 [0] misc/shmutils.cc:88 NCCL WARN Error: failed to extend /dev/shm/nccl-x to 9637892 bytes"
def init_process_group(*words, **more):
    name = os.environ.get("NCCL_DEBUG_FILE")
    log = open(name.replace("%p", str(os.getpid())), "w", buffering=1) if name else sys.stdout
    log.write("NCCL version 2.29.7\\n" + WARNING + "\\n")
    if os.environ["STAND_IN"] == "hang":
        time.sleep(60)
    raise RuntimeError("unhandled system error (run with NCCL_DEBUG=INFO for details)")
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    folder = tmp_path / "modules" / "torch" / "distributed"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text(TORCH)
    (folder / "__init__.py").write_text(DISTRIBUTED)
    return folder.parents[1]


def run(job: dict[str, Any], folder: Path, stand_in: Path, way: str) -> collective_report.Outcome:
    (folder / "job.json").write_text(json.dumps(job))
    environment = {**os.environ, "PYTHONPATH": str(stand_in), "STAND_IN": way, "TMPDIR": str(folder)}
    command = [sys.executable, all_reduce_worker.__file__, str(folder / "job.json"), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return collective_report.Outcome(
        job=job,
        place=0,
        events=collective_events.parse(done.stdout),
        errors=done.stderr.splitlines(),
        result="success" if done.returncode == 0 else "exit-code",
    )


@pytest.mark.parametrize("way", ["fail", "hang"])
def test_what_nccl_warns_of_is_evidence(tmp_path: Path, stand_in: Path, way: str) -> None:
    seen = run({**FOUR, "seconds": 3}, tmp_path, stand_in, way)
    (found,) = collective_report.findings(seen)
    assert found["id"] == "shm_too_small"
    assert any("NCCL WARN Error: failed to extend /dev/shm/nccl-x" in line for line in found["evidence"])
    assert not any("NCCL version" in line for line in seen.errors)
    assert not list(tmp_path.glob("nccl-log-*"))


def test_a_log_that_the_user_wants_elsewhere_is_left_there(tmp_path: Path, stand_in: Path) -> None:
    own = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": str(tmp_path / "mine.%p")}
    run({**FOUR, "seconds": 3, "environment": own}, tmp_path, stand_in, "fail")
    assert len(list(tmp_path.glob("mine.*"))) == 4


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    def seen(job: dict[str, Any]) -> str | None:
        return all_reduce_worker.model_of(job)

    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "model.safetensors").write_text("weights")
    job = {"model": str(tmp_path), "revision": "main"}
    first = seen(job)
    assert first == seen(job)
    (tmp_path / "config.json").write_text('{"a": 2}')
    second = seen(job)
    (tmp_path / "model.safetensors").write_text("other weights")
    assert len({first, second, seen(job)}) == 3
    assert seen({"model": "a/b", "revision": "c0ffee"}) == "a/b at c0ffee"
    assert seen({"model": None}) is None


@pytest.mark.parametrize(("seconds", "problem"), [(0.0, "Name or service not known"), (1.0, "no answer within 0.1 s")])
def test_a_host_says_whether_it_knows_its_name(monkeypatch: pytest.MonkeyPatch, seconds: float, problem: str) -> None:
    said: list[dict[str, Any]] = []

    def talk(name: str, **more: Any) -> None:
        said.append(event(name, -1, **more))

    def unknown(_name: str) -> str:
        time.sleep(seconds)
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.gethostbyname", unknown)
    monkeypatch.setattr(all_reduce_worker, "NAME_SECONDS", 0.1)
    all_reduce_worker.own_name(talk)  # type: ignore[arg-type]
    assert (said[0]["event"], said[0]["problem"]) == ("named", problem)
