"""Every fault is met with a sentence, and, where it can be known before, without a change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Deploy
from testinfra.host import Host

from tests.deployments import Run, remove_instances

MODEL = "/var/lib/vllm/models/alpha"
SMALL: dict[str, Any] = {
    "port": 8010,
    "max_model_len": 256,
    "kv_cache_memory_gib": 0.25,
    "enforce_eager": True,
}


def refused(run: Run, *sentences: str) -> None:
    """Assert that a run failed with the sentences and changed nothing."""
    assert run.code != 0
    for sentence in sentences:
        assert sentence in run.text, run.output
    assert run.count("changed") == 0
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ([], "There are no models to serve: 'vllm_models' is empty or not a list."),
        (
            [{"name": "one", "model": "/srv/x"}, {"name": "one", "model": "/srv/x", "port": 8001}],
            "vllm_models[1] (one) has the name one of vllm_models[0] (one); give each instance of a host its own.",
        ),
        (
            [{"name": "one", "model": "/srv/x"}, {"name": "two", "model": "/srv/x"}],
            "vllm_models[1] (two) has the port 8000 of vllm_models[0] (one); give each instance of a host its own.",
        ),
        (
            [{"name": "one", "model": "/srv/x", "tensor_paralel_size": 2}],
            "vllm_models[0] (one) has the unknown field 'tensor_paralel_size': did you mean 'tensor_parallel_size'?",
        ),
        ([{"name": "one", "model": "/srv/missing"}], "one: The model path /srv/missing does not exist"),
        ([{"name": "one", "model": "/etc/ssh"}], "one: The model path /etc/ssh has no config.json"),
        (
            [{"name": "one", "model_source": "/nowhere/on/the/control/node"}],
            "one: The model path /nowhere/on/the/control/node does not exist",
        ),
        (
            [{"name": "one", "model": MODEL, "tensor_parallel_size": 3}],
            "one: tensor_parallel_size 3 does not divide 4 attention heads. Write tensor_parallel_size: 2.",
        ),
        ([{"name": "one", "model": MODEL, "tensor_parallel_size": 4}], "one: 4 ranks need 4 CPU cores"),
    ],
)
def test_bad_input(deploy: Deploy, models: list[dict[str, Any]], sentence: str) -> None:
    refused(deploy(vllm_models=models), sentence)


def test_no_models_at_all(deploy: Deploy) -> None:
    refused(deploy(vllm_models=None), "Write a list of entries with at least 'name' and 'model' in the inventory.")


def test_a_port_in_use(host: Host, deploy: Deploy) -> None:
    host.check_output("systemd-run --unit squatter python3 -m http.server 8099")
    try:
        deadline = time.monotonic() + 20
        while not host.socket("tcp://0.0.0.0:8099").is_listening:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        run = deploy(vllm_models=[{"name": "one", "model": MODEL, "port": 8099}])
        refused(run, "one: port 8099 is already in use by python3 (pid", "squatter.service). Give the instance another")
    finally:
        host.check_output("systemctl stop squatter")


def test_too_little_disk(host: Host, deploy: Deploy) -> None:
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=64m tmpfs /mnt/small")
    try:
        run = deploy(engine_root="/mnt/small/vllm")
        refused(run, "The vLLM release takes about 4096 MiB of disk space, and /mnt/small/vllm has", "MiB free.")
    finally:
        host.check_output("umount /mnt/small")


def test_no_python(deploy: Deploy) -> None:
    run = deploy(engine_python="/usr/bin/python3.99", engine_root="/opt/other")
    refused(run, "vLLM cannot be installed: /usr/bin/python3.99 does not exist.", "name it in engine_python.")


@pytest.fixture
def broken(host: Host) -> Iterator[str]:
    """Give the name of an instance that is removed after the test."""
    name = "broken"
    yield name
    remove_instances(host, [name])


def failure(output: str, name: str) -> list[str]:
    """Give the lines that a play shows of an instance that failed."""
    lines = output.splitlines()
    begin = next(number for number, line in enumerate(lines) if f"(item={name})" in line and "failed:" in line)
    end = next(
        (
            number
            for number, line in enumerate(lines[begin + 1 :], begin + 1)
            if line.startswith(("TASK", "PLAY", "ok:"))
        ),
        len(lines),
    )
    return [line for line in lines[begin:end] if line.strip()]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra_args": {"no-such-option": 1}}, "vllm: error: unrecognized arguments: --no-such-option"),
        ({"kv_cache_memory_gib": 0.0001}, "No available memory for the cache blocks"),
    ],
)
def test_an_engine_that_dies_while_starting(deploy: Deploy, broken: str, change: dict[str, Any], reason: str) -> None:
    begin = time.monotonic()
    run = deploy(vllm_models=[{"name": broken, "model": MODEL, **SMALL, **change}])
    assert run.code != 0
    assert f"vllm@{broken}.service died while starting: " in run.text, run.output
    assert reason in run.text
    # What the doctor says, and no layout: cause, line, remedies, and where the whole log is.
    shown = failure(run.output, broken)
    assert len(shown) <= 25, shown
    assert any(line.strip().startswith("| ") and reason[:40] in line for line in shown), shown
    assert any(line.strip().startswith("1. ") for line in shown), shown
    assert any(f"journalctl -b -u vllm@{broken}.service" in line for line in shown), shown
    assert not any("serve_args" in line or "tensor_parallel_size:" in line for line in shown), shown
    # The default of warmup_timeout is an hour.
    assert time.monotonic() - begin < 120


def test_an_engine_that_dies_on_its_first_request(deploy: Deploy, broken: str) -> None:
    wanted = {"name": broken, "model": MODEL, "pipeline_parallel_size": 2, **SMALL}
    run = deploy(vllm_models=[wanted])
    assert run.code != 0
    assert f"vllm@{broken}.service died on its first request, after /health had said that it was well" in run.text, (
        run.output
    )
    assert "Pipeline parallelism over CPU ranks turned healthy" in run.text


def test_systemd_gave_up_and_a_corrected_setting_starts_it(host: Host, deploy: Deploy, broken: str) -> None:
    wanted = {"name": broken, "model": MODEL, **SMALL}
    assert deploy(vllm_models=[{**wanted, "extra_args": {"no-such-option": 1}}]).code != 0
    assert host.check_output("systemctl show --property ActiveState --value vllm@%s", broken) == "failed"
    corrected = deploy(vllm_models=[wanted])
    assert corrected.code == 0, corrected.output
