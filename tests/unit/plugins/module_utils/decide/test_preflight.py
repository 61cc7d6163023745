"""What is said before the first change."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import preflight

ROOT, PYTHON = "/opt/vllm", "/usr/bin/python3"
WANTED = "a Python from 3.11 to below 3.15"


def mark(version: str) -> str:
    return f"{ROOT}/releases/{version}-cuda/release.json"


def engine(
    version: str | None = "3.11.2",
    problem: str | None = None,
    free: int = 20480,
    there: tuple[str, ...] = (),
    releases: tuple[str, ...] = ("0.33.0",),
    missing: tuple[str, ...] = (),
) -> list[str]:
    paths = {mark(one): {"exists": one in there, "free_mib": free} for one in releases}
    host = {
        "paths": {ROOT: {"exists": bool(there), "free_mib": free}, **paths},
        "python": {"version": version, "problem": problem},
    }
    marks = {one: mark(one) for one in releases}
    return preflight.engine_problems(host, ROOT, marks, PYTHON, 20480, missing)


@pytest.mark.parametrize("version", ["3.11.0", "3.11.2", "3.14.9", "3.13.0rc1", "3.14"])
def test_a_python_that_will_do(version: str) -> None:
    assert engine(version) == []


@pytest.mark.parametrize("version", ["3.9.21", "3.10.99", "3.15.0", "2.7.18", "4.0.0", "3.2.0"])
def test_a_python_that_will_not_do(version: str) -> None:
    assert engine(version) == [
        f"vLLM 0.33.0 needs {WANTED}, and {PYTHON} is {version}. Name another one in engine_python."
    ]


def test_wheels_for_rocm_are_of_one_python() -> None:
    paths = {ROOT: {"exists": False, "free_mib": 9}, "m": {"exists": False}}
    for version, count in (("3.12.3", 0), ("3.11.2", 1), ("3.13.5", 1)):
        host = {"paths": paths, "python": {"version": version, "problem": None}}
        found = preflight.engine_problems(host, ROOT, {"0.31.0": "m"}, PYTHON, 1, variant="rocm")
        said = f"vLLM 0.31.0 needs Python 3.12, and {PYTHON} is {version}. Name another one in engine_python."
        assert found == [said] * count


def test_no_python() -> None:
    assert engine(None, f"{PYTHON} does not exist") == [
        f"vLLM cannot be installed: {PYTHON} does not exist. Install {WANTED} and name it in engine_python."
    ]


def test_each_release_is_asked_for_its_own_python() -> None:
    assert engine("3.10.12", releases=("0.21.0",)) == []
    (said,) = engine("3.10.12", free=90000, releases=("0.21.0", "0.33.0"))
    assert said.startswith("vLLM 0.33.0 needs")


def test_too_little_disk_and_a_wrong_python_are_both_said() -> None:
    python, disk = engine("3.9.2", free=20479)
    assert "3.9.2" in python
    assert disk == (
        "The vLLM release takes about 20480 MiB of disk space, and /opt/vllm has 20479 MiB free. "
        "Free some, or name a folder on a larger disk in engine_root."
    )


def test_two_releases_take_twice_the_space() -> None:
    (said,) = engine(free=40959, releases=("0.32.0", "0.33.0"))
    assert said.startswith("The vLLM releases 0.32.0, 0.33.0 take about 40960 MiB of disk space")
    assert engine(free=20480, there=("0.32.0",), releases=("0.32.0", "0.33.0")) == []


def test_a_release_that_is_there_needs_nothing() -> None:
    assert engine("2.7.18", free=0, there=("0.33.0",), missing=("gcc",)) == []


@pytest.mark.parametrize("version", ["latest", "0.33.x", "0.33.0; rm -rf /", "0.33.0 ", ""])
def test_what_is_not_a_version(version: str) -> None:
    (said,) = engine(releases=(version,))
    assert said.startswith(f"The vLLM version {version!r} is not a version.")


def test_packages_that_cannot_be_installed() -> None:
    (said,) = engine(missing=("gcc", "libnuma1"))
    assert said.startswith("vLLM needs packages of the distribution that are not installed: gcc, libnuma1.")


CHAT = {"name": "chat", "port": 8000, "ports": [8000], "unit": "vllm@chat.service"}


def listener(port: int = 8000, **more: Any) -> dict[str, Any]:
    return {"port": port, "pid": 812, "process": "nginx", "unit": "nginx.service", **more}


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([], []),
        ([listener(8001)], []),
        ([listener(unit="vllm@chat.service")], []),
        ([listener()], ["by nginx (pid 812, nginx.service)"]),
        ([listener(unit=None)], ["by nginx (pid 812)"]),
        ([listener(unit="vllm@other.service", process="vllm")], ["by vllm (pid 812, vllm@other.service)"]),
        ([listener(unit=None, pid=None, process=None)], ["by a process that cannot be seen"]),
    ],
)
def test_ports(held: list[dict[str, Any]], said: list[str]) -> None:
    assert preflight.port_problems([CHAT], held) == [
        f"chat: port 8000 is already in use {holder}. Give the instance another 'port', or stop what holds it."
        for holder in said
    ]


def test_every_port_is_looked_at() -> None:
    other = {"name": "other", "port": 8001, "ports": [8001], "unit": "vllm@other.service"}
    found = preflight.port_problems([CHAT, other], [listener(8000), listener(8001)])
    assert [line.split(":")[0] for line in found] == ["chat", "other"]


@pytest.mark.parametrize(
    ("python", "family", "packages"),
    [
        ("/usr/bin/python3", "Debian", ["python3-venv", "python3-dev"]),
        ("/usr/bin/python3.12", "Debian", ["python3.12-venv", "python3.12-dev"]),
        ("/usr/bin/python3.12", "RedHat", ["python3.12", "python3.12-devel"]),
        ("/opt/python/bin/python3.12", "Debian", []),
        ("/usr/bin/python3.12", "Suse", []),
    ],
)
def test_a_python_gets_its_own_packages(python: str, family: str, packages: list[str]) -> None:
    assert preflight.python_packages(python, family) == packages


def test_a_python_of_another_kind_must_be_whole() -> None:
    """A distribution's own lacks nothing that its packages do not bring."""
    paths = {ROOT: {"exists": False, "free_mib": 9}, "m": {"exists": False}}
    found = {"version": "3.12.3", "problem": None, "lacking": ["venv", "headers"]}
    host = {"paths": paths, "python": found}
    assert preflight.engine_problems(host, ROOT, {"0.33.0": "m"}, "/usr/bin/python3", 1) == []
    (said,) = preflight.engine_problems(host, ROOT, {"0.33.0": "m"}, "/opt/p/python3", 1)
    assert said.startswith(
        "/opt/p/python3 cannot make virtual environments (it has no module ensurepip) and has no header"
    )


def test_what_an_installation_that_was_cut_off_has_left_is_not_asked_for_again() -> None:
    paths = {ROOT: {"exists": True, "free_mib": 3000}, "m": {"exists": False}}
    host = {"paths": paths, "python": {"version": "3.12.3", "problem": None}}
    assert len(preflight.engine_problems(host, ROOT, {"0.33.0": "m"}, PYTHON, 11264)) == 1
    assert preflight.engine_problems(host, ROOT, {"0.33.0": "m"}, PYTHON, 11264, left_mib=9000) == []
