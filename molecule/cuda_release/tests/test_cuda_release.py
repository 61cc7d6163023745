"""The CUDA release of 0.33.0 from its list, on each node in the order of the tests.

PyPI is in reach and FlashInfer's index is not: where that is, the tests of the kernels' source fail.
"""

from __future__ import annotations

import json
import subprocess
import time

from conftest import RELEASE, VARIABLES, deploy, release
from testinfra.host import Host

from tests.deployments import FLEET, ROOT, kill_play, user_environment

# What is left to download when the first package was unpacked into the release: lists and their answers.
REST_MIB = 300


def received_mib(host: Host) -> int:
    """MiB that the node has received."""
    counters = host.check_output("sh -c 'cat /sys/class/net/*/statistics/rx_bytes'")
    return sum(map(int, counters.split())) // 1024**2


def test_an_installation_that_is_killed_goes_on_from_where_it_was(host: Host, node: str) -> None:
    variables = json.dumps({**VARIABLES, "vllm_hosts": node})
    command = ["ansible-playbook", "-i", str(FLEET / "hosts.yml"), "playbooks/deploy.yml", "-e", variables]
    with subprocess.Popen(command, cwd=ROOT, env=user_environment(), stdout=subprocess.DEVNULL) as play:
        deadline = time.monotonic() + 1800
        # uv downloads all before it writes the first package
        while host.run(f"sh -c 'ls {RELEASE}/lib/python3.*/site-packages/vllm/__init__.py'").rc:
            assert time.monotonic() < deadline
            assert play.poll() is None
            time.sleep(2)
        kill_play(play)
    assert not host.file(f"{RELEASE}/release.json").exists
    before = received_mib(host)
    assert before > 3500
    run = deploy(node)
    # the engine starts on no GPU
    assert run.code != 0
    assert release(host)["vllm"] == "0.33.0"
    assert received_mib(host) - before < REST_MIB


def test_the_release_is_what_the_list_says(host: Host) -> None:
    found = release(host)
    minor = found["python"].rpartition(".")[0]
    assert found["lock"] == f"0.33.0-cuda-py{minor}-x86_64.txt"
    wanted = (ROOT / "roles/engine/files/locks" / found["lock"]).read_text()
    assert f"# packages: {found['packages']}\n" in wanted
    assert len(found["modules"]) >= 20
    assert {"flashinfer", "torch", "triton", "vllm.entrypoints.openai.api_server", "xgrammar"} <= set(found["modules"])


def test_what_the_host_has_of_kernels_is_said(host: Host) -> None:
    """It plays GPUs back and has no library of the driver, so nothing can be linked."""
    kernels = release(host)["kernels"]
    assert kernels["source"] == "none"
    assert kernels["environment"] == {"VLLM_USE_DEEP_GEMM": "0", "VLLM_USE_FLASHINFER_SAMPLER": "0"}


def test_the_engine_refuses_in_a_sentence_and_the_release_is_left_as_it_is(host: Host, node: str) -> None:
    before = host.file(f"{RELEASE}/release.json").mtime
    run = deploy(node, nccl_check_when="never")
    assert host.file(f"{RELEASE}/release.json").mtime == before
    assert "could not be installed from https://flashinfer.ai/whl (they are not on PyPI)." in run.text, run.output
    assert run.code != 0
    assert "Failed to infer device type" in run.text, run.output
    assert "The release finds neither a GPU nor that it is a CPU build." in run.text, run.output
    assert 'VLLM_USE_FLASHINFER_SAMPLER="0"' in host.file("/etc/vllm/tiny.env").content_string


def test_the_cache_takes_no_space_of_its_own(host: Host) -> None:
    both = host.check_output("sh -c 'du -scm /opt/vllm/cache /opt/vllm/releases | tail -1 | cut -f1'")
    assert int(both) < 11264
