"""What is done to a host's AMD software: packages, repositories, holds, reboot, and what is wrong afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import rocm_sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

from tests.unit.rocm_samples import PACKAGES, STARTED, UBUNTU, gpus, host, plan

AFTER, BEFORE = STARTED + 1, STARTED - 1
BARE = gpus(state="no_driver")
RUNS = gpus("gfx942", loaded="6.16.13")
DEBIAN_12 = {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"}
DEBIAN_13 = {"id": "debian", "version": "13", "name": "Debian GNU/Linux 13 (trixie)"}
ROCKY = {"id": "rocky", "version": "9.6", "name": "Rocky Linux 9.6"}


@pytest.mark.parametrize(
    ("distribution", "kernel", "headers", "mpi", "urls", "suite"),
    [
        (
            UBUNTU,
            "6.8.0-88-generic",
            ["linux-headers-6.8.0-88-generic", "linux-modules-extra-6.8.0-88-generic"],
            "libopenmpi3t64",
            ["amdgpu/30.30.3/ubuntu", "rocm/apt/7.2.3"],
            "noble",
        ),
        (
            {**UBUNTU, "version": "22.04"},
            "5.15.0-161-generic",
            ["linux-headers-5.15.0-161-generic", "linux-modules-extra-5.15.0-161-generic"],
            "libopenmpi3",
            ["amdgpu/30.30.3/ubuntu", "rocm/apt/7.2.3"],
            "jammy",
        ),
        (
            DEBIAN_12,
            "6.1.0-40-amd64",
            ["linux-headers-6.1.0-40-amd64", "linux-headers-amd64"],
            "libopenmpi3",
            ["amdgpu/30.30.3/ubuntu", "rocm/apt/7.2.3"],
            "jammy",
        ),
        (
            DEBIAN_13,
            "6.12.48+deb13-amd64",
            ["linux-headers-6.12.48+deb13-amd64", "linux-headers-amd64"],
            "libopenmpi40",
            ["amdgpu/30.30.3/ubuntu", "rocm/apt/7.2.3"],
            "noble",
        ),
        (
            ROCKY,
            "5.14.0-570.el9.x86_64",
            ["kernel-devel-matched", "kernel-headers"],
            "openmpi",
            ["amdgpu/30.30.3/el/9.6/main/x86_64", "rocm/el9/7.2.3/main"],
            None,
        ),
    ],
)
def test_a_bare_host(
    distribution: dict[str, Any], kernel: str, headers: list[str], mpi: str, urls: list[str], suite: str | None
) -> None:
    found = plan(host(distribution=distribution, kernel=kernel), BARE)
    assert found["problems"] == []
    assert found["packages"][: len(headers) + 1] == [*headers, "amdgpu-dkms"]
    assert {"rocm-libs", "amd-smi-lib", mpi} <= set(found["packages"])
    assert [one["url"] for one in found["repositories"]] == [f"https://repo.radeon.com/{url}" for url in urls]
    assert {one["suite"] for one in found["repositories"]} == {suite}
    assert found["key"] == {
        "url": "https://repo.radeon.com/rocm/rocm.gpg.key",
        "fingerprints": [rocm_sources.FINGERPRINT],
    }
    (notice,) = found["notices"]
    assert "no driver of AMD's packages and no ROCm; amdgpu 30.30.3 and ROCm 7.2.3 will be installed" in notice


def test_a_mirror_and_its_key() -> None:
    found = plan(host(), BARE, repository_url="http://mirror:8080/amd/", repository_fingerprints=["ab" * 20])
    assert found["repositories"][1]["url"] == "http://mirror:8080/amd/rocm/apt/7.2.3"
    assert found["key"] == {"url": "http://mirror:8080/amd/rocm/rocm.gpg.key", "fingerprints": ["AB" * 20]}
    assert found["preferences"] == [{"packages": "*", "pin": 'origin "mirror"', "priority": 1001}]


def test_a_host_that_is_as_wished() -> None:
    found = plan(host("30.30.3", "7.2.3"), RUNS)
    assert (found["packages"], found["hold"], found["release"], found["notices"]) == ([], [], [], [])
    assert (found["reboot"]["needed"], found["fault"], found["problems"]) == (False, None, [])
    # The repository stays known, and 7.2 is 7.2.0.
    assert len(found["repositories"]) == 2
    assert plan(host("30.30.0", "7.2.0"), RUNS, version="7.2", driver_version="30.30")["packages"] == []


@pytest.mark.parametrize(
    "facts",
    [
        host("30.30.3", "7.2.1"),
        host("30.20.1", "7.2.3"),
        host(None, "7.2.3"),
        host("30.30.3"),
        {**host("30.30.3", "7.2.3"), "packages": {}},
    ],
)
def test_anything_else_is_changed(facts: dict[str, Any]) -> None:
    assert "amdgpu-dkms" in plan(facts, gpus("gfx942", loaded="6.16.13"))["packages"]


def test_the_packages_of_a_person_replace_the_table() -> None:
    assert plan(host(), BARE, packages=["rocm"])["packages"][-2:] == ["amdgpu-dkms", "rocm"]


def test_holds() -> None:
    loose = host("30.30.3", "7.2.3")
    for package in loose["packages"].values():
        package["held"] = False
    # OpenMPI's library is the distribution's, and its updates are its own affair; so is a version that looks like one.
    loose["packages"]["other"] = {"version": "1.2.200120-1", "held": False, "installed_at": 1}
    assert plan(loose, RUNS)["hold"] == sorted(["amdgpu-dkms", *(set(PACKAGES) - {"libopenmpi3t64"})])
    assert plan(loose, RUNS, hold=False)["hold"] == []
    held = host("30.30.3", "7.2.3")
    assert "rocm-core" in plan(held, RUNS, hold=False)["release"]
    assert "amdgpu-dkms" in plan(held, RUNS, driver_version="30.30.4")["release"]
    assert plan(held, RUNS, driver="keep")["release"] == []


@pytest.mark.parametrize(
    ("facts", "gpu", "wishes", "words"),
    [
        (host(distribution={"id": "arch", "version": "", "name": "Arch Linux"}), BARE, {}, ["Arch Linux", "keep"]),
        (host(machine="aarch64"), BARE, {}, ["x86_64", "aarch64"]),
        (host(free_mib=100), BARE, {}, ["8192 MiB", "100 MiB free", "rocm_driver: keep"]),
        (host(secure_boot=True), BARE, {}, ["Secure boot", "amdgpu module", "rocm_secure_boot: accept"]),
        ({**host(), "rocm": "6.4.1"}, BARE, {}, ["ROCm 6.4.1 lies in /opt/rocm", "Remove it first"]),
        (host(), BARE, {"driver": "keep"}, ["does not work", "rocm_driver: amd"]),
        (host(kfd=False), gpus("gfx942"), {"driver": "keep"}, ["/dev/kfd", "container"]),
    ],
)
def test_what_stands_in_the_way(
    facts: dict[str, Any], gpu: dict[str, Any], wishes: dict[str, Any], words: list[str]
) -> None:
    found = plan(facts, gpu, **wishes)
    (sentence,) = found["problems"]
    assert [word for word in words if word not in sentence] == []
    assert (found["repositories"], found["key"]) == ([], None)


@pytest.mark.parametrize(
    ("facts", "gpu", "wishes"),
    [
        (host(secure_boot=True), BARE, {"secure_boot": "accept"}),
        (host("30.30.3", "7.2.1", secure_boot=True), RUNS, {}),
        (host("30.30.3", "7.2.3", free_mib=1), RUNS, {}),
        # the kernel's own module, and ROCm of somebody else's: checked, and good
        ({**host(), "rocm": "7.2.1"}, gpus("gfx942", loaded="6.8.0-88-generic"), {"driver": "keep"}),
    ],
)
def test_what_does_not_stand_in_the_way(facts: dict[str, Any], gpu: dict[str, Any], wishes: dict[str, Any]) -> None:
    assert plan(facts, gpu, **wishes)["problems"] == []


@pytest.mark.parametrize(
    ("facts", "gpu", "wish", "why"),
    [
        (host("30.30.3", "7.2.3", AFTER), BARE, "auto", "since the system was started, and is not loaded"),
        (host("30.30.3", "7.2.3", AFTER), gpus(loaded="6.8.0-88-generic"), "never", "is not loaded"),
        (host("30.30.3", "7.2.3", AFTER), gpus(loaded="6.14.14"), "auto", "6.14.14 is still loaded"),
        (host("30.30.3", "7.2.3", AFTER, loaded_module="6.14.14"), BARE, "auto", "6.14.14 is still loaded"),
        (host("30.30.3", "7.2.3", AFTER), RUNS, "always", "rocm_reboot is 'always'"),
        (host("30.30.3", "7.2.3", AFTER), RUNS, "auto", None),
        # once is enough: a module that was not built is no reason to reboot again
        (host("30.30.3", "7.2.3", BEFORE), BARE, "auto", None),
        (host("30.30.3", "7.2.3", BEFORE), RUNS, "always", None),
        (host(), BARE, "auto", None),
    ],
)
def test_reboot(facts: dict[str, Any], gpu: dict[str, Any], wish: str, why: str | None) -> None:
    found = plan(facts, gpu, reboot=wish)["reboot"]
    assert found["needed"] is (why is not None)
    assert found["allowed"] is (wish != "never")
    assert why is None or why in found["why"]
    assert plan(facts, gpu, reboot=wish, driver="keep")["reboot"]["needed"] is False


@pytest.mark.parametrize(
    ("facts", "gpu", "words"),
    [
        (host("30.30.3", "7.2.3"), RUNS, None),
        (host("30.30.3", "7.2.3", loaded_module="6.16.13"), gpus("gfx942", loaded=None), None),
        (host("30.30.3", "7.2.3"), gpus("gfx942", loaded="6.8.0-88-generic"), ["module of the kernel", "dkms status"]),
        (host("30.30.3", "7.2.3"), gpus("gfx942", loaded="6.14.14"), ["6.14.14 is loaded", "dkms status"]),
        (host("30.30.3", "7.2.3", loaded_module="6.16.13"), gpus(state="tool_failed"), ["does not work", "gpu_info"]),
        (host("30.30.3", "7.2.3", kfd=False), RUNS, ["/dev/kfd"]),
    ],
)
def test_what_is_wrong_afterwards(facts: dict[str, Any], gpu: dict[str, Any], words: list[str] | None) -> None:
    fault = plan(facts, gpu)["fault"]
    if words is None:
        assert fault is None
    else:
        assert fault is not None
        assert all(word in fault for word in words), fault


@pytest.mark.parametrize(
    ("gpu", "wishes", "applies"),
    [
        (BARE, {}, True),
        (BARE, {"driver": "keep"}, True),
        # Radeon without a driver: gpu_info calls the host one without GPUs
        (gpus(accelerator="cpu"), {}, True),
        # the graphics of a processor, beside NVIDIA GPUs or alone
        (gpus(accelerator="cuda"), {}, False),
        (gpus(accelerator="cpu"), {"driver": "keep"}, False),
        (gpus(accelerator="cpu", pci_gpus=[]), {}, False),
    ],
)
def test_hosts_of_other_kinds_are_left_alone(gpu: dict[str, Any], wishes: dict[str, Any], applies: bool) -> None:
    found = plan(host(), gpu, **wishes)
    assert found["applies"] is applies
    if not applies:
        assert (found["managed"], found["problems"], found["packages"], found["fault"]) == (False, [], [], None)
        assert bool(found["notices"]) is (wishes == {})


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"driver": "yes"}, "rocm_driver is 'yes': write one of keep, amd"),
        ({"reboot": "no"}, "rocm_reboot is 'no'"),
        ({"version": 7}, "rocm_version is '7': write it as AMD's repository does, for example 7.2.3"),
        ({"driver_version": "latest"}, "rocm_driver_version is 'latest'"),
        ({"repository_fingerprints": ["abc"]}, "rocm_repository_fingerprints holds 'ABC'"),
    ],
)
def test_wishes_that_cannot_be_understood(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        plan(host(), BARE, **wishes)
    assert words in str(error.value)


def test_nothing_is_changed_below_an_engine() -> None:
    (sentence,) = plan(host(serving=["a"]), gpus("gfx942"))["disturbed"]
    assert "vllm@a runs on this host, and these packages would be installed: " in sentence
    assert "Nothing was changed. Drain and stop the instance first" in sentence
    assert "drivers.yml" not in sentence
    assert plan(host(serving=[]), gpus("gfx942"))["disturbed"] == []
    assert plan(host("30.30.3", "7.2.3", serving=["a"]), gpus("gfx942", loaded="6.16.13"))["disturbed"] == []
    rebooted = plan(host("30.30.3", "7.2.3", 2000, serving=["a"]), gpus("gfx942", state="no_driver"))
    assert rebooted["reboot"]["needed"] is bool(rebooted["disturbed"])
