"""The doctor beside real engines: silent where all is well, and right about each of a table of faults."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import MODEL, doctor, make_instance, verdicts
from testinfra.host import Host


def test_a_healthy_node_has_no_verdict() -> None:
    run, found = doctor()
    assert run.code == 0, run.output
    assert found["hosts"]["node1"]["verdicts"] == [], run.output
    assert found["hosts"]["node1"]["instances"] == ["chat"]
    assert "node1: nothing is wrong (chat)" in run.output
    assert "1 host, 0 without an answer; 0 failures, 0 warnings." in run.output


@dataclass(frozen=True)
class Fault:
    """An engine that is broken: how, and what the doctor has to say of it."""

    id: str
    evidence: str
    remedy: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    drop_in: str = ""
    # on the node, before it is started; {folder} is a copy of the model for this fault
    prepare: str = ""
    start: bool = True
    # what a release prints that cannot be made to die so on this node; its engine says it and ends
    said: str = ""


def printed(text: str) -> str:
    """A drop-in whose program says what an engine said, and ends with 1."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'ExecStart=\nExecStart=/usr/bin/python3 -c "import sys; print(sys.argv[1]); sys.exit(1)" "{quoted}"\n'


CORE = "(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] "
FAULTS = {
    # engines that vLLM itself ends
    "option": Fault(
        "wrong_option", "unrecognized arguments: --no-such-option", "Correct extra_args", {"no-such-option": 1}
    ),
    "port": Fault("port_in_use", "Address already in use", "See who it is (ss -ltnp)", {"port": 8000}),
    "address": Fault("address_not_here", "Cannot assign requested address", "Correct host", {"host": "192.0.2.7"}),
    "cache": Fault(
        "no_kv_cache",
        "No available memory for the cache blocks",
        "Raise kv_cache_memory_gib",
        {"kv-cache-memory-bytes": 1},
    ),
    "length": Fault(
        "max_model_len_too_long", "User-specified max_model_len (99999)", "Set max_model_len", {"max-model-len": 99999}
    ),
    "heads": Fault(
        "heads_not_divisible", "attention heads (4) must be divisible", "divides 4", {"tensor-parallel-size": 3}
    ),
    "nowhere": Fault(
        "model_missing", "/srv/nowhere: not there", "See whether its disk is mounted", {"model": "/srv/nowhere"}
    ),
    "weights": Fault(
        "model_files_missing",
        "Cannot find any model weights",
        "See whether the path of model",
        {"model": "{folder}"},
        prepare="rm {folder}/*.safetensors",
    ),
    "damaged": Fault(
        "weights_damaged",
        "SafetensorError",
        "Compare the sizes",
        {"model": "{folder}"},
        prepare="truncate --size 5000 {folder}/model.safetensors",
    ),
    "unknown": Fault(
        "architecture_not_supported",
        "are not supported for now",
        "Use a newer engine_version",
        {"model": "{folder}"},
        prepare="sed -i s/LlamaForCausalLM/NobodyForCausalLM/ {folder}/config.json",
    ),
    "offline": Fault(
        "hub_not_reached", "cached snapshot", "Run deploy.yml: the role model", {"model": "nobody/nothing"}
    ),
    "closed": Fault(
        "not_writable",
        "Permission denied",
        "let vllm read the file",
        {"model": "{folder}"},
        prepare="chmod 0600 {folder}/config.json",
    ),
    "shm": Fault(
        "shm_too_small",
        "Insufficient space in /dev/shm",
        "Make it larger",
        {"tensor-parallel-size": 2},
        drop_in="TemporaryFileSystem=/dev/shm:size=1M,mode=1777\n",
    ),
    "interface": Fault(
        "interface_missing",
        "eth7",
        "Correct network_interface",
        {"tensor-parallel-size": 2},
        environment={"GLOO_SOCKET_IFNAME": "eth7"},
    ),
    "compiler": Fault(
        "no_compiler",
        "No working C++ compiler found",
        "Install gcc",
        {"enforce-eager": None},
        environment={"CXX": "/nowhere/g++"},
    ),
    # what systemd ends, or does not begin
    "release": Fault(
        "release_missing",
        "status=203/EXEC",
        "Run deploy.yml again",
        prepare="ln -sfn ../gone /opt/vllm/instances/{name}",
    ),
    "token": Fault(
        "credential_missing",
        "status=243/CREDENTIALS",
        "Run deploy.yml with vllm_hf_token",
        drop_in="LoadCredential=hf_token:/etc/credstore/vllm.hf_token\n",
    ),
    "limit": Fault(
        "start_limit_hit",
        "Start request repeated too quickly",
        "Correct the fault",
        drop_in="Restart=always\nRestartSec=0.1\nExecStart=\nExecStart=/bin/false\n",
    ),
    "killed": Fault(
        "killed",
        "status=9/KILL",
        "Look at the kernel's log",
        drop_in="ExecStart=\nExecStart=/bin/sh -c 'kill -9 $$$$'\n",
    ),
    "stopped": Fault("unit_stopped", "inactive (dead)", "systemctl start vllm@stopped", start=False),
    "orphan": Fault(
        "settings_missing",
        "asserts failed",
        "Run deploy.yml again, which writes it",
        prepare="rm /etc/vllm/{name}.yaml && cp /var/lib/vllm/receipts/chat.json /var/lib/vllm/receipts/{name}.json",
    ),
    # kinds that this node can be brought to
    "noexec": Fault(
        "release_not_executable",
        "Permission denied",
        "findmnt -T /opt/vllm",
        drop_in="NoExecPaths=/opt/vllm\n",
    ),
    "waits": Fault(
        "start_timed_out",
        "start-pre operation timed out",
        "See what it waits for",
        drop_in="TimeoutStartSec=2\nExecStartPre=/bin/sleep 60\n",
    ),
    "nobody": Fault(
        "unit_not_set_up", "status=217/USER", "the user of the service does not exist", drop_in="User=gone\n"
    ),
    "name": Fault("dns_failed", "Name or service not known", "getent hosts", {"host": "nowhere.invalid"}),
    # kinds that it cannot: what is printed is played back through a unit and its journal
    "ninja": Fault(
        "ninja_missing",
        "'ninja'",
        "release's bin",
        said=f"{CORE}FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
    ),
    "ptxas": Fault(
        "tool_not_executable",
        "bin/ptxas",
        "chmod a+x",
        said=f"{CORE}PermissionError: [Errno 13] Permission denied: '/opt/vllm/x/triton/backends/nvidia/bin/ptxas'",
    ),
    "headers": Fault(
        "cuda_headers_missing",
        "cuda_runtime.h",
        "CUDA_HOME",
        said="/opt/x/sampling.cuh:20:10: fatal error: cuda_runtime.h: No such file or directory",
    ),
    "newer": Fault(
        "no_kernel_for_gpu",
        "no kernel image",
        "newer engine_version",
        said=f"{CORE}RuntimeError: CUDA error: no kernel image is available for execution on the device",
    ),
    "pidfd": Fault(
        "call_forbidden",
        "pidfd_getfd",
        "allows pidfd_getfd",
        said=f"{CORE}RuntimeError: pidfd_getfd(pidfd=185, fd=163) failed with errno 1: Operation not permitted.",
    ),
    "imex": Fault(
        "imex_missing",
        "MNNVL",
        "nvidia-imex",
        said="gpu01:37:37 [1] mnnvl.cc:67 NCCL WARN MNNVL (cliqueSize 8) is available but not working on this system.",
    ),
    "memlock": Fault(
        "memlock_too_low",
        "ibv_reg_mr",
        "LimitMEMLOCK",
        said="gpu01:7:7 [3] misc/ibvwrap.cc:160 NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory",
    ),
    "loopback": Fault(
        "gloo_on_loopback",
        "127.0.1.1",
        "Set network_interface",
        said=f"{CORE}RuntimeError: Gloo connectFullMesh failed with Connection refused, remote=[127.0.1.1]:413",
    ),
    "rankport": Fault(
        "rank_port_in_use",
        "EADDRINUSE",
        "Start the instance again",
        said=f"{CORE}torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
        "address. port: 32847, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
    ),
    "mig": Fault(
        "gpu_named_by_uuid",
        "MIG-00",
        "Name GPUs by number",
        said="(APIServer pid=801) ValueError: invalid literal for int() with base 10: 'MIG-00000000-0000'",
    ),
    "bent": Fault("unknown_fault", "quux.FrobError", "journalctl -u vllm@bent", said=f"{CORE}quux.FrobError: bent"),
    "pipeline": Fault(
        "engine_died_serving",
        "EngineCore encountered a fatal error",
        "use tensor_parallel_size",
        {"pipeline-parallel-size": 2},
        start=False,
    ),
}
# vLLM takes a gibibyte while it is imported: few at once.
AT_ONCE = 3


def end_of(host: Host, names: list[str]) -> None:
    """Start units, a few at once, and wait until each has ended."""
    script = (
        f"printf '%s\\n' {' '.join(names)} | xargs -P {AT_ONCE} -I X timeout 240 systemctl start --wait vllm@X; true"
    )
    host.check_output("sh -c %s", script)


def kill_by_request(host: Host, name: str, port: int) -> None:
    """Wait until an engine says that it is well, ask it something, and wait until it has died of that."""
    script = (
        "import json,time,urllib.request as u\n"
        f"base='http://127.0.0.1:{port}'\n"
        "for _ in range(240):\n"
        "    try:\n"
        "        u.urlopen(base+'/health',timeout=2); break\n"
        "    except Exception: time.sleep(1)\n"
        f"body=json.dumps({{'model':'{name}','prompt':'Hello','max_tokens':4}}).encode()\n"
        "try: u.urlopen(u.Request(base+'/v1/completions',body,{'Content-Type':'application/json'}),timeout=60).read()\n"
        "except Exception as error: print(error)\n"
    )
    host.check_output("python3 -c %s", script)
    deadline = time.monotonic() + 90
    while host.check_output("systemctl show --property ActiveState --value vllm@%s", name) == "active":
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.fixture(scope="module")
def broken(host: Host) -> Iterator[dict[str, Any]]:
    """All faults of the table at once, and the doctor's report of them."""
    for place, (name, fault) in enumerate(FAULTS.items()):
        folder = f"/var/lib/vllm/models/{name}"
        settings = {
            key: folder if value == "{folder}" else value
            for key, value in {"port": 8101 + place, **fault.settings}.items()
        }
        drop_in = printed(fault.said) if fault.said else fault.drop_in
        make_instance(host, name, settings, fault.environment, drop_in)
        if "{folder}" in f"{fault.settings}{fault.prepare}":
            host.check_output("cp -r %s %s", MODEL, folder)
        if fault.prepare:
            host.check_output("sh -c %s", fault.prepare.format(folder=folder, name=name))
    host.check_output("systemctl daemon-reload && systemctl enable --quiet vllm@stopped")
    host.check_output("systemctl start --no-block vllm@pipeline")
    end_of(host, [name for name, fault in FAULTS.items() if fault.start])
    kill_by_request(host, "pipeline", 8101 + list(FAULTS).index("pipeline"))
    run, found = doctor()
    assert run.code != 0, run.output
    yield {**found, "output": run.output}
    for name in FAULTS:
        host.run("systemctl disable --now vllm@%s", name)
        host.run("rm -rf /etc/vllm/%s.* /etc/systemd/system/vllm@%s.service.d /opt/vllm/instances/%s", name, name, name)
        host.run("rm -rf /var/lib/vllm/models/%s /var/cache/vllm/%s /var/lib/vllm/receipts/%s.json", name, name, name)
        host.run("systemctl reset-failed vllm@%s", name)
    host.run("systemctl daemon-reload")


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_engine(broken: dict[str, Any], name: str) -> None:
    fault = FAULTS[name]
    told = verdicts(broken, name)
    assert fault.id in [one["id"] for one in told], told
    (verdict,) = (one for one in told if one["id"] == fault.id)
    assert verdict["severity"] == "fail"
    assert any(fault.evidence in line for line in verdict["evidence"]), verdict
    assert any(fault.remedy in remedy for remedy in verdict["remedies"]), verdict
    assert verdict["cause"]
    assert "?" not in verdict["cause"], verdict["cause"]


def test_the_healthy_engine_beside_them_has_none(broken: dict[str, Any]) -> None:
    assert verdicts(broken, "chat") == []


def test_the_report_names_each(broken: dict[str, Any]) -> None:
    assert "x FAIL option: vLLM does not know an option." in broken["output"]
    assert f"{broken['summary']['fail']} failures" in broken["output"]
    assert broken["schema_version"] == 1
