"""The doctor on recordings: a table of faults played back, each with cause, evidence and remedy; and what is no fault.

A recording is a folder of files, as record.yml writes it. Engines' lines are the samples of the table of signatures,
the GPUs those of tests/unit/fixtures/hosts.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import instance_sources, recorded, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import diagnose, evidence, loglines, verdict
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import ENGINE, FABRIC, Signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures import BY_ID, TABLE
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import diagnosis
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.samples import CHECKOUT

HOSTS = CHECKOUT / "tests/unit/fixtures/hosts"
NOW, MONOTONIC = 1_796_000_000.0, 500_000.0
PROCESS = {"invocation": "a1", "pid": 812, "digest": "d1", "started": 400_000.0}
RECEIPT: dict[str, Any] = {
    "schema_version": 1,
    "time": "2026-11-29T10:00:00+00:00",
    "instance": "chat",
    "process": PROCESS,
    "comparison": [{"quantity": "kv_cache_tokens", "predicted": 1000, "actual": 1010, "ratio": 0.99, "beyond": False}],
}
STARTED = "1795999000.1 systemd[1]: Starting vllm@chat.service - vLLM instance chat...\n"


def chat(**changes: Any) -> dict[str, Any]:
    """A healthy instance as instances.json has it."""
    return {
        "settings": {"model": "/srv/m", "port": "8000", "max-model-len": "4096"},
        "has_settings": True,
        "environment": [],
        "online": False,
        "process": PROCESS,
        "pids": [812, 815],
        "release": "0.33.0-cuda",
        "release_there": True,
        "receipt": RECEIPT,
        "receipt_damaged": False,
        "check": None,
        "model": {"state": "ok", "path": "/srv/m", "missing": []},
        "listener": {"port": 8000, "pid": 812, "process": "vllm", "unit": "vllm@chat.service"},
        "server": {
            "health": 200,
            "problem": None,
            "models": {"status": 200, "offered": {"chat": 4096}},
            "load": {"running": 0, "waiting": 0, "kv_cache_usage": 0.0},
            "request": {"kind": "chat", "seconds": 0.1, "problem": None},
        },
        **changes,
    }


def unit(**changes: str) -> str:
    """What systemctl show says of a healthy unit."""
    found = {
        "Id": "vllm@chat.service",
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "MainPID": "812",
        "NRestarts": "0",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "DropInPaths": "",
        **changes,
    }
    return "".join(f"{key}={value}\n" for key, value in found.items())


class Folder:
    """A recording that is being made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.host: dict[str, Any] = {
            "now": NOW,
            "monotonic": MONOTONIC,
            "disks": [{"path": "/", "device": 1, "total_mib": 100_000, "free_mib": 50_000}],
            "compiler": "/usr/bin/gcc",
            "tokens": [],
            "late": [],
        }
        self.instance(chat(), unit(), STARTED)

    def instance(self, one: Mapping[str, Any] | None, unit_text: str, journal: str) -> None:
        """Write the instance chat."""
        instances = {"chat": one} if one is not None else {}
        self.write(instance_sources.INSTANCES, json.dumps({**self.host, "instances": instances}))
        self.write(instance_sources.UNITS, unit_text)
        self.write(instance_sources.journal_name("chat"), journal)

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.path / name).write_text(text, encoding="utf-8")

    def gpus(self, name: str) -> None:
        """Take the GPUs of a fixture."""
        shutil.copytree(HOSTS / name, self.path, dirs_exist_ok=True)

    def of_host(self, **changes: Any) -> None:
        """Change what instances.json says of the host."""
        self.host.update(changes)
        self.instance(chat(), unit(), STARTED)

    def verdicts(self) -> list[dict[str, Any]]:
        """Read the folder as doctor_info does, and judge."""
        return diagnose.host(evidence.build(recorded.read_recording(str(self.path)), "recorded"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A recording of a healthy host."""
    return Folder(tmp_path)


def died(name: str, result: str = "exit-code") -> Callable[[Folder], None]:
    """An engine that ended with the lines of a signature."""

    def make(folder: Folder) -> None:
        lines = "".join(f"1795999010.5 vllm[812]: {line}\n" for line in BY_ID[name].sample.splitlines())
        text = unit(ActiveState="failed", SubState="failed", Result=result, MainPID="0")
        folder.instance(chat(process=None, server=None, listener=None), text, STARTED + lines)

    return make


def lives(**changes: Any) -> Callable[[Folder], None]:
    """An instance whose unit runs, with something else than a healthy one has."""
    return lambda folder: folder.instance(chat(**changes), unit(), STARTED)


def stopped(**changes: str) -> Callable[[Folder], None]:
    """An instance that does not run."""
    text = unit(ActiveState="inactive", SubState="dead", MainPID="0", **changes)
    return lambda folder: folder.instance(chat(process=None, server=None, listener=None), text, STARTED)


def kernel(name: str) -> Callable[[Folder], None]:
    """Lines of the kernel's log, or of the fabric manager's journal."""
    if BY_ID[name].where == FABRIC:
        return lambda folder: folder.write(instance_sources.FABRIC, BY_ID[name].sample + "\n")
    said = [loglines.entry(line).text for line in BY_ID[name].sample.splitlines()]
    fresh = "".join(f"{NOW - 60} kernel: {line}\n" for line in said)
    return lambda folder: folder.write(instance_sources.KERNEL, fresh)


def gpus(name: str) -> Callable[[Folder], None]:
    """GPUs of a fixture."""
    return lambda folder: folder.gpus(name)


def xml(old: str, new: str, name: str = "h100-nvswitch") -> Callable[[Folder], None]:
    """GPUs of a fixture, of which nvidia-smi says something else."""

    def make(folder: Folder) -> None:
        folder.gpus(name)
        path = folder.path / sources.NVIDIA_XML
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return make


def text_of(name: str, old: str, new: str, fixture: str = "h100-nvswitch") -> Callable[[Folder], None]:
    """Another tool of a fixture that says something else."""

    def make(folder: Folder) -> None:
        folder.gpus(fixture)
        path = folder.path / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return make


def uneven(folder: Folder) -> None:
    """Two GPUs of an instance, one of which holds more."""
    gpu = (
        "<gpu id='00000000:{bus}:00.0'><product_name>NVIDIA L40S</product_name><minor_number>{n}</minor_number>"
        "<fb_memory_usage><total>46068 MiB</total><used>{used} MiB</used><free>1 MiB</free></fb_memory_usage>"
        "<processes><process_info><pid>{pid}</pid><type>C</type><process_name>VLLM::Worker_TP{n}</process_name>"
        "<used_memory>{used} MiB</used_memory></process_info></processes></gpu>"
    )
    body = gpu.format(bus="17", n=0, used=40000, pid=812) + gpu.format(bus="65", n=1, used=12000, pid=815)
    folder.write(sources.NVIDIA_XML, f"<nvidia_smi_log>{body}</nvidia_smi_log>")


def gpu(number: int, bus: str, body: str) -> str:
    """An L40S as nvidia-smi -q -x prints it, as far as it is looked at."""
    return (
        f"<gpu id='00000000:{bus}:00.0'><product_name>NVIDIA L40S</product_name><minor_number>{number}</minor_number>"
        f"<fb_memory_usage><total>46068 MiB</total><used>100 MiB</used><free>1 MiB</free></fb_memory_usage>{body}</gpu>"
    )


def one_gpu(body: str) -> Callable[[Folder], None]:
    """A host with one GPU of which nvidia-smi says something."""
    text = f"<nvidia_smi_log>{gpu(0, '17', body)}</nvidia_smi_log>"
    return lambda folder: folder.write(sources.NVIDIA_XML, text)


def over_sockets(folder: Folder) -> None:
    """An instance on GPUs 0 and 1 of four, each of another processor."""
    process = "<processes><process_info><pid>{}</pid><type>C</type></process_info></processes>"
    bodies = (process.format(812), process.format(815), "", "")
    buses = ("17", "65", "ca", "e3")
    body = "".join(gpu(number, bus, bodies[number]) for number, bus in enumerate(buses))
    folder.write(sources.NVIDIA_XML, f"<nvidia_smi_log>{body}</nvidia_smi_log>")
    files: dict[str, str] = {}
    for number, bus in enumerate(buses):
        path = f"/sys/bus/pci/devices/0000:{bus}:00.0"
        files |= {f"{path}/class": "0x030200", f"{path}/vendor": "0x10de", f"{path}/numa_node": str(number % 2)}
    folder.write(sources.HOST, json.dumps({"files": files}))


def no_numa(folder: Folder) -> None:
    """A GPU of a machine with two NUMA nodes that is of none of them."""
    one_gpu("")(folder)
    path = "/sys/bus/pci/devices/0000:17:00.0"
    files = {f"{path}/class": "0x030200", f"{path}/vendor": "0x10de", f"{path}/numa_node": "-1"}
    files |= {f"/sys/devices/system/node/node{number}/cpulist": f"{number}" for number in (0, 1)}
    folder.write(sources.HOST, json.dumps({"files": files}))


def last_words(one: Signature) -> str:
    """What the evidence has to hold: how the last line of a sample begins."""
    last = loglines.entry(one.sample.splitlines()[-1]).text
    return " ".join(evidence.plain([last])[-1].split())[:30].strip()


# By id: how it is made, its severity, and words of the evidence and of a remedy.
FAULTS: dict[str, tuple[Callable[[Folder], None], str, str, str]] = {
    # told by the journal of an instance
    **{
        one.id: (died(one.id), one.severity, last_words(one), re.split(r"\[\[|{", one.remedies[0])[0][:20])
        for one in TABLE
        if one.where == ENGINE and one.severity == "fail"
    },
    # told by the kernel and the fabric manager
    **{
        one.id: (kernel(one.id), one.severity, last_words(one), re.split(r"\[\[|{", one.remedies[0])[0][:20])
        for one in TABLE
        if one.where != ENGINE
    },
    # GPUs
    "driver": (gpus("lost-gpu"), "fail", "gpu_lost", "See the message"),
    "memory_errors": (
        xml("<remapped_row_failure>No<", "<remapped_row_failure>Yes<"),
        "fail",
        "row_remap_failure",
        "have it replaced",
    ),
    "fabric_manager": (xml("<state>Completed<", "<state>In Progress<"), "fail", "In Progress", "nvidia-fabricmanager"),
    "acs": (text_of(sources.LSPCI, "ReqRedir- CmpltRedir-", "ReqRedir+ CmpltRedir+"), "warn", "ACS", "BIOS"),
    "pcie_width": (gpus("rtx4090-pcie"), "warn", "width_current", "slot"),
    "persistence_mode": (gpus("rtx4090-pcie"), "warn", "persistence_mode False", "nvidia-persistenced"),
    "gpu_memory_in_use": (gpus("rtx4090-pcie"), "warn", "processes", "Stop them"),
    "pcie_generation": (
        one_gpu(
            "<pci><pci_gpu_link_info><pcie_gen><max_device_link_gen>4</max_device_link_gen><max_host_link_gen>3"
            "</max_host_link_gen></pcie_gen></pci_gpu_link_info></pci>"
        ),
        "warn",
        "'generation_host': 3",
        "BIOS",
    ),
    "numa": (no_numa, "warn", "numa_node None", "Turn NUMA on"),
    "gpu_recovery": (one_gpu("<gpu_recovery_action>Reset</gpu_recovery_action>"), "fail", "Reset", "Drain the host"),
    "compute_mode": (one_gpu("<compute_mode>Prohibited</compute_mode>"), "warn", "Prohibited", "nvidia-smi -c 0"),
    "uneven_gpus": (uneven, "warn", "GPU 0: 40000 MiB", "another program"),
    # instances
    "unit_stopped": (stopped(), "fail", "inactive (dead)", "systemctl start vllm@chat"),
    "not_warmed_up": (lives(receipt={**RECEIPT, "process": {**PROCESS, "pid": 1}}), "warn", "pid 1", "Run deploy.yml"),
    "never_warmed_up": (lives(receipt=None), "warn", "no receipt", "Run deploy.yml"),
    "receipt_damaged": (lives(receipt=None, receipt_damaged=True), "warn", "chat.json", "Remove it"),
    "prediction_off": (
        lives(
            receipt={
                **RECEIPT,
                "comparison": [
                    {"quantity": "kv_cache_tokens", "predicted": 9, "actual": 6, "ratio": 1.5, "beyond": True}
                ],
            }
        ),
        "warn",
        "receipt of 2026",
        "calibrate.yml",
    ),
    "does_not_serve": (
        lives(server={**chat()["server"], "request": {"kind": None, "seconds": 9, "problem": "Broken pipe"}}),
        "fail",
        "after 9 s: Broken pipe",
        "systemctl restart vllm@chat",
    ),
    "unhealthy": (lives(server={"health": 503, "problem": None}), "fail", "Starting", "systemctl restart"),
    "no_answer": (lives(server={"health": None, "problem": "timed out"}), "fail", "active (running)", "rank hangs"),
    "wrong_model": (
        lives(server={**chat()["server"], "models": {"status": 200, "offered": {"other": 1}}}),
        "fail",
        "/v1/models: other",
        "See who listens",
    ),
    "wrong_length": (
        lives(server={**chat()["server"], "models": {"status": 200, "offered": {"chat": 1}}}),
        "warn",
        "/v1/models: chat",
        "Run deploy.yml",
    ),
    "engine_stalled": (
        lives(receipt=None, server={"health": None, "problem": "Connection refused"}),
        "fail",
        "Starting",
        "nccl_check",
    ),
    "model_missing": (
        lives(model={"state": "missing", "path": "/srv/m", "missing": []}),
        "fail",
        "/srv/m",
        "disk is mounted",
    ),
    "model_incomplete": (
        lives(model={"state": "incomplete", "path": "/srv/m", "missing": ["a.safetensors"]}),
        "fail",
        "a.safetensors",
        "Run deploy.yml",
    ),
    "release_gone": (
        lives(release_there=False, program="/data/vllm/instances/chat/bin/vllm"),
        "fail",
        "/data/vllm/instances/chat/bin/vllm: not there",
        "Run deploy.yml",
    ),
    "settings_gone": (lives(has_settings=False), "fail", "chat.yaml", "Run deploy.yml"),
    "credential_gone": (
        lambda folder: folder.instance(chat(), unit(DropInPaths="/etc/x/hf_token.conf"), STARTED),
        "fail",
        "hf_token.conf",
        "vllm_hf_token",
    ),
    "restarted": (
        lambda folder: folder.instance(
            chat(process={**PROCESS, "started": MONOTONIC - 60}, receipt=None),
            unit(NRestarts="2"),
            STARTED + "vllm@chat.service: Failed with result 'oom-kill'.\n" + STARTED,
        ),
        "warn",
        "oom-kill",
        "See why",
    ),
    "unit_failed": (
        lambda folder: folder.instance(
            chat(process=None, server=None),
            unit(ActiveState="failed", SubState="failed", Result="protocol"),
            STARTED + "vllm: something new\n",
        ),
        "fail",
        "something new",
        "journalctl -u vllm@chat.service",
    ),
    "port_held": (
        lambda folder: folder.instance(
            chat(process=None, server=None, listener={"process": "python3", "pid": 7, "unit": None}),
            unit(ActiveState="inactive", SubState="dead"),
            STARTED,
        ),
        "fail",
        "inactive",
        "Stop that program",
    ),
    "not_installed": (
        lambda folder: folder.instance(
            chat(process=None, server=None), unit(ActiveState="inactive", LoadState="not-found"), ""
        ),
        "fail",
        "LoadState=not-found",
        "Run deploy.yml",
    ),
    "unit_restarting": (
        lambda folder: folder.instance(
            chat(process=None, server=None),
            unit(ActiveState="activating", SubState="auto-restart", NRestarts="4"),
            STARTED + "vllm: something new\n",
        ),
        "fail",
        "something new",
        "journalctl -u vllm@chat.service",
    ),
    "daemon_reload": (
        lambda folder: folder.instance(chat(), unit(NeedDaemonReload="yes"), STARTED),
        "warn",
        "NeedDaemonReload=yes",
        "daemon-reload",
    ),
    "unknown_fault": (
        lambda folder: folder.instance(
            chat(process=None, server=None),
            unit(ActiveState="failed", SubState="failed", Result="exit-code"),
            STARTED + "(Worker_TP1 pid=815) ERROR 11-23 20:31:07 [x.py:1] quux.FrobError: the frob is bent\n",
        ),
        "fail",
        "quux.FrobError: the frob is bent",
        "journalctl -u vllm@chat.service",
    ),
    "inodes_almost_used": (
        lambda folder: folder.of_host(
            disks=[{"path": "/", "device": 1, "total_mib": 100_000, "free_mib": 50_000, "free_inodes": 17}]
        ),
        "warn",
        "df -i /: 17 inodes",
        "du --inodes",
    ),
    "fabric_health": (
        xml("<state>Completed<", "<health><summary>Unhealthy</summary></health><state>Completed<"),
        "fail",
        "Unhealthy",
        "nvidia-smi nvlink",
    ),
    "slowdown": (
        one_gpu(
            "<clocks_event_reasons><clocks_event_reason_hw_thermal_slowdown>Active"
            "</clocks_event_reason_hw_thermal_slowdown></clocks_event_reasons>"
        ),
        "warn",
        "hw_thermal_slowdown",
        "check fans",
    ),
    "vgpu_license": (
        one_gpu(
            "<vgpu_software_licensed_product><license_status>Unlicensed (Restricted)</license_status>"
            "</vgpu_software_licensed_product>"
        ),
        "fail",
        "Unlicensed (Restricted)",
        "nvidia-gridd",
    ),
    "no_token": (lives(online=True), "note", "HF_HUB_OFFLINE=0", "Set vllm_hf_token"),
    "ranks_over_sockets": (over_sockets, "warn", "GPU 1: NUMA node 1", "Name GPUs of one NUMA node"),
    "nccl_check_slow_links": (
        lives(
            check={
                "state": "fail",
                "findings": [
                    {
                        "id": "slow_links",
                        "severity": "fail",
                        "cause": "the links carry 1 GB/s",
                        "evidence": ["0, 1: 1 GB/s"],
                        "remedies": ["compare the slots"],
                    }
                ],
            }
        ),
        "fail",
        "0, 1: 1 GB/s",
        "Compare the slots.",
    ),
    # the host
    "disk_almost_full": (
        lambda folder: folder.of_host(disks=[{"path": "/tmp", "device": 2, "total_mib": 900, "free_mib": 4}]),
        "warn",
        "df /tmp: 4 of 900",
        "Remove what is not needed",
    ),
    "shm_almost_full": (
        lambda folder: folder.write(sources.HOST, json.dumps({"shm": {"total_mib": 2000, "free_mib": 3}})),
        "warn",
        "3 of 2000",
        "ls -l /dev/shm",
    ),
    "compiler_missing": (lambda folder: folder.of_host(compiler=None), "warn", "no gcc", "Run deploy.yml"),
    "late": (
        lambda folder: folder.of_host(late=["the model of chat: no answer"]),
        "warn",
        "the model of chat",
        "hangs",
    ),
}


def test_a_healthy_recording_has_no_verdict(folder: Folder) -> None:
    assert folder.verdicts() == []


@pytest.mark.parametrize("name", ["h100-nvswitch", "h200-vm"])
def test_healthy_gpus_have_no_verdict(folder: Folder, name: str) -> None:
    folder.gpus(name)
    assert [one["id"] for one in folder.verdicts()] == []


def test_a_healthy_start_of_a_real_engine_has_no_verdict(folder: Folder) -> None:
    lines = (CHECKOUT / "tests/unit/fixtures/engine/h200-0.25.1-graphs.txt").read_text(encoding="utf-8")
    folder.instance(chat(), unit(), STARTED + lines)
    assert folder.verdicts() == []


def test_every_fault_is_played_back() -> None:
    elsewhere = {"different_releases", "different_models", "clock_differs", "clock_not_synchronized"}
    assert {check.id for check in verdict.CHECKS} - elsewhere <= set(FAULTS)
    assert len(FAULTS) > 100


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_is_played_back(folder: Folder, name: str) -> None:
    make, severity, in_evidence, in_remedies = FAULTS[name]
    make(folder)
    told = folder.verdicts()
    (one,) = (entry for entry in told if entry["id"] == name)
    assert one["severity"] == severity
    assert one["cause"].strip() and not re.search(r"[][{}]{2}|\{|\?", one["cause"]), one["cause"]
    assert any(in_evidence in line for line in one["evidence"]), one["evidence"]
    assert any(in_remedies in remedy for remedy in one["remedies"]), one["remedies"]
    failures = [entry["id"] for entry in told if entry["severity"] == "fail"]
    if severity == "fail":
        assert failures == [name]


@pytest.mark.parametrize(
    ("capability", "remedy"), [("12.0", "use a newer engine_version"), ("7.0", "the last release")]
)
def test_gpus_say_whether_they_are_newer_or_older_than_the_release(
    folder: Folder, capability: str, remedy: str
) -> None:
    died("no_kernel_for_gpu")(folder)
    one_gpu("")(folder)
    folder.write(sources.NVIDIA_QUERY, f"index, pci.bus_id, compute_cap\n0, 00000000:17:00.0, {capability}\n")
    (one,) = (entry for entry in folder.verdicts() if entry["id"] == "no_kernel_for_gpu")
    assert remedy in one["remedies"][0]
    assert len(one["remedies"]) == 2
    assert f"GPUs: compute capability {capability}" in one["evidence"]


def test_ids_of_instances_are_told(folder: Folder) -> None:
    died("wrong_option")(folder)
    (one,) = folder.verdicts()
    assert one["instance"] == "chat"
    assert one["evidence"][-1] == "systemd: failed (failed), result exit-code, restarts 0"


def test_what_an_engine_overcame_is_history(folder: Folder) -> None:
    old = "".join(f"vllm: {line}\n" for line in BY_ID["cuda_802"].sample.splitlines())
    folder.instance(chat(), unit(), STARTED + old + STARTED)
    assert folder.verdicts() == []


def test_an_engine_that_was_told_to_end_did_not_die(folder: Folder) -> None:
    """What vLLM 0.32 says when it is stopped well."""
    last = (
        "Stopping vllm@chat.service - vLLM instance chat...\n"
        "(APIServer pid=1) ERROR 11-29 11:31:30 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: "
        "EngineCore encountered an issue. See stack trace (above) for the root cause.\n"
    )
    text = unit(ActiveState="inactive", SubState="dead", MainPID="0")
    folder.instance(chat(process=None, server=None, listener=None), text, STARTED + last)
    assert [one["id"] for one in folder.verdicts()] == ["unit_stopped"]
    killed = "vllm@chat.service: State 'stop-sigterm' timed out. Killing.\n"
    folder.instance(chat(process=None, server=None, listener=None), text, STARTED + last + killed)
    assert [one["id"] for one in folder.verdicts()] == ["unit_stopped", "stopped_hard"]


def test_an_engine_that_loads_is_no_fault(folder: Folder) -> None:
    young = {**PROCESS, "started": MONOTONIC - 90}
    folder.instance(chat(process=young, receipt=None, server={"health": None, "problem": "x"}), unit(), STARTED)
    assert folder.verdicts() == []


def test_a_unit_between_two_deaths_tells_of_the_first(folder: Folder) -> None:
    lines = "".join(f"vllm: {line}\n" for line in BY_ID["port_in_use"].sample.splitlines())
    young = {**PROCESS, "started": MONOTONIC - 2}
    one = chat(process=young, receipt=None, server={"health": None, "problem": "x"})
    folder.instance(one, unit(NRestarts="3"), STARTED + lines + STARTED)
    assert [entry["id"] for entry in folder.verdicts()] == ["port_in_use"]


def test_a_warning_of_a_healthy_engine_is_told(folder: Folder) -> None:
    folder.instance(chat(), unit(), STARTED + BY_ID["compiled_while_serving"].sample + "\n")
    (one,) = folder.verdicts()
    assert (one["id"], one["severity"]) == ("compiled_while_serving", "warn")


def test_own_programs_do_not_hold_gpu_memory(folder: Folder) -> None:
    uneven(folder)
    assert "gpu_memory_in_use" not in [one["id"] for one in folder.verdicts()]


def test_cards_without_peer_to_peer_are_in_order(folder: Folder) -> None:
    folder.gpus("rtx4090-pcie")
    (one,) = (entry for entry in folder.verdicts() if entry["id"] == "p2p")
    assert one["severity"] in ("note", "warn")


def test_a_folder_with_a_journal_alone(tmp_path: Path) -> None:
    (tmp_path / "journal-chat.txt").write_text(BY_ID["heads_not_divisible"].sample, encoding="utf-8")
    found = evidence.build(recorded.read_recording(str(tmp_path)), "recorded")
    assert [(one["id"], one["instance"]) for one in diagnose.host(found)] == [("heads_not_divisible", "chat")]


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_recording_can_be_read(described: str, journal: str, units: str) -> None:
    outputs = {
        instance_sources.INSTANCES: sources.ToolOutput(sources.OK, described),
        instance_sources.journal_name("x"): sources.ToolOutput(sources.OK, journal),
        instance_sources.UNITS: sources.ToolOutput(sources.OK, units),
    }
    assert isinstance(diagnose.host(evidence.build(outputs, "recorded")), list)


def gathered(**changes: Any) -> dict[str, Any]:
    """The evidence of a host with the instance chat."""
    outputs = {
        instance_sources.INSTANCES: sources.ToolOutput(
            sources.OK, json.dumps({"now": NOW, "compiler": "x", "instances": {"chat": chat(**changes)}})
        ),
        instance_sources.UNITS: sources.ToolOutput(sources.OK, unit()),
    }
    return evidence.build(outputs, "live")


def test_replicas_are_compared() -> None:
    hosts = {"a": gathered(), "b": gathered(), "c": gathered(release="0.32.0-cuda")}
    found = diagnosis.report({name: {"evidence": one} for name, one in hosts.items()})
    assert {host: [one["id"] for one in entry["verdicts"]] for host, entry in found["hosts"].items()} == {
        "a": [],
        "b": [],
        "c": ["different_releases"],
    }
    assert found["hosts"]["c"]["verdicts"][0]["cause"] == (
        "chat runs 0.32.0-cuda here and 0.33.0-cuda elsewhere: answers and speed differ."
    )
    other = gathered(settings={**chat()["settings"], "model": "/srv/other"})
    found = diagnosis.report({"a": {"evidence": hosts["a"]}, "b": {"evidence": hosts["b"]}, "d": {"evidence": other}})
    assert [one["id"] for one in found["hosts"]["d"]["verdicts"]] == ["different_models"]


@pytest.mark.parametrize(
    ("seconds", "ids"), [(0.0, []), (1.5, []), (30.0, ["clock_differs"]), (-9.0, ["clock_differs"])]
)
def test_the_clock(seconds: float, ids: list[str]) -> None:
    found = {**gathered(), "clock_offset_seconds": seconds}
    assert [one["id"] for one in diagnose.host(found)] == ids
    found["clock_synchronized"] = False
    assert [one["id"] for one in diagnose.host(found)] == [*ids, *(["clock_not_synchronized"] if ids else [])]


def test_the_report() -> None:
    broken = gathered(server={"health": 503, "problem": None}, receipt=None)
    found = diagnosis.report(
        {
            "a": {"evidence": gathered()},
            "b": {"evidence": broken},
            "c": {"unreachable": True, "msg": "No route\nto host"},
            "d": {},
        }
    )
    assert found["schema_version"] == 1
    assert found["summary"] == {"hosts": 4, "lost": ["c", "d"], "fail": 1, "warn": 0, "note": 0}
    text = diagnosis.text(found)
    assert "a: nothing is wrong (chat)" in text
    assert "  x FAIL chat: The server says that it is not well. /health answers 503" in text
    assert "c: unreachable: No route to host" in text
    assert "d: unknown: it was not asked" in text
    assert text.endswith("4 hosts, 2 without an answer; 1 failures, 0 warnings.")
    assert max(map(len, text.splitlines())) <= diagnosis.WIDTH
