"""What stands in the way of a driver, when to reboot, and what is wrong afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

from tests.unit.driver_samples import B200, H100, ROCKY, STARTED, V100, gpus, host, plan


@pytest.mark.parametrize(
    ("ids", "wishes", "modules", "words"),
    [
        ([H100], {}, "open", []),
        ([V100], {}, "proprietary", []),
        ([None], {}, "open", []),
        ([B200], {"driver_modules": "proprietary"}, None, ["Blackwell", "Write 'auto' or 'open'"]),
        ([V100], {"driver_modules": "open"}, None, ["before Turing", "'proprietary'"]),
        ([V100], {"driver_branch": "590"}, None, ["580 is the last branch"]),
        ([H100], {"driver_modules": "proprietary", "driver_branch": "620"}, None, ["only open kernel modules"]),
        ([V100, B200], {}, None, ["no driver drives both"]),
    ],
)
def test_kernel_modules(ids: list[Any], wishes: dict[str, Any], modules: str | None, words: list[str]) -> None:
    found = plan(host(), gpus(*ids), **wishes)
    if modules:
        assert (found["modules"], found["problems"]) == (modules, [])
    else:
        assert all(word in " ".join(found["problems"]) for word in words), found["problems"]
        assert found["repository"] is None


@pytest.mark.parametrize(
    ("cuda", "gpu", "wishes", "words"),
    [
        (host(distribution={"id": "arch", "version": "", "name": "Arch Linux"}), gpus(), {}, ["Arch Linux", "keep"]),
        (host(distribution=ROCKY), gpus(), {"driver": "distribution"}, ["no NVIDIA driver of its own", "nvidia"]),
        (host(), gpus(), {"driver": "distribution"}, ["Debian 12 has the NVIDIA driver 535", "cuda_driver: nvidia"]),
        (host(), gpus(), {"driver_branch": "550"}, ["installs 580 and newer"]),
        (host(machine="ppc64le"), gpus(), {}, ["ppc64le"]),
        (host(), gpus(loaded="580.1"), {}, ["did not come as packages", "nvidia-uninstall"]),
        (host(free_mib=100), gpus(), {}, ["4096 MiB", "100 MiB free"]),
        (host(secure_boot=True), gpus(), {}, ["Secure boot", "mokutil", "cuda_secure_boot: accept"]),
    ],
)
def test_what_stands_in_the_way(
    cuda: dict[str, Any], gpu: dict[str, Any], wishes: dict[str, Any], words: list[str]
) -> None:
    found = plan(cuda, gpu, **wishes)
    (sentence,) = found["problems"]
    assert [word for word in words if word not in sentence] == []
    assert found["repository"] is None


@pytest.mark.parametrize(
    ("cuda", "gpu", "wishes"),
    [
        (host(secure_boot=True), gpus(), {"secure_boot": "accept"}),
        # the key is enrolled: a driver runs
        (host("580.95.05", secure_boot=True), gpus(loaded="580.95.05"), {"driver_branch": "590"}),
        (host("580.95.05", free_mib=1), gpus(loaded="580.95.05"), {}),
        (host(distribution={"id": "arch"}), gpus(loaded="580.1"), {"driver": "keep"}),
    ],
)
def test_what_does_not_stand_in_the_way(cuda: dict[str, Any], gpu: dict[str, Any], wishes: dict[str, Any]) -> None:
    assert plan(cuda, gpu, **wishes)["problems"] == []


AFTER, BEFORE = STARTED + 1, STARTED - 1


@pytest.mark.parametrize(
    ("cuda", "gpu", "wish", "why"),
    [
        (host("580.95.05", AFTER), gpus(state="driver_failed"), "auto", "since the system was started"),
        (host("580.95.05", AFTER, nouveau=True), gpus(state="driver_failed"), "auto", "nouveau still holds"),
        (host("580.95.05", BEFORE), gpus(state="driver_mismatch"), "auto", "another one is still loaded"),
        (host("590.48.01", AFTER), gpus(loaded="580.95.05"), "never", "580.95.05 is still loaded"),
        (host("580.95.05", AFTER), gpus(loaded="580.95.05"), "always", "'always'"),
        # was rebooted already: another reboot would not help
        (host("580.95.05", BEFORE), gpus(state="driver_failed"), "auto", None),
        (host("580.95.05", AFTER), gpus(loaded="580.95.05"), "auto", None),
        (host("580.95.05", BEFORE), gpus(loaded="580.95.05"), "always", None),
        (host(), gpus(), "auto", None),
    ],
)
def test_when_to_reboot(cuda: dict[str, Any], gpu: dict[str, Any], wish: str, why: str | None) -> None:
    found = plan(cuda, gpu, reboot=wish)["reboot"]
    assert (found["needed"], found["allowed"]) == (why is not None, wish != "never")
    assert why is None or why in found["why"]


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        (gpus(loaded="580.95.05"), None),
        (gpus(state="driver_failed"), "The NVIDIA driver does not work. As gpu_info says it."),
        (gpus(loaded="570.1"), "580.95.05, and 570.1 is loaded"),
        (
            gpus(
                loaded="580.95.05",
                readiness=[{"check": "fabric_manager", "state": "fail", "message": "Not complete.", "remedy": "Do."}],
            ),
            "Not complete. Do.",
        ),
    ],
)
def test_what_is_wrong_afterwards(gpu: dict[str, Any], words: str | None) -> None:
    found = plan(host("580.95.05", BEFORE), gpu)["fault"]
    assert found is None if words is None else words in found


def test_a_kept_driver_that_is_not_there_is_a_fault_with_the_way_out() -> None:
    assert "cuda_driver: nvidia" in plan(host(), gpus(), driver="keep")["fault"]


def test_an_ignored_fabric_is_no_fault() -> None:
    bad = [{"check": "fabric_manager", "state": "fail", "message": "Not complete.", "remedy": "Do."}]
    gpu = gpus(loaded="580.95.05", switches=4, readiness=bad)
    assert plan(host("580.95.05", BEFORE), gpu, fabric_manager="ignore")["fault"] is None


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"driver": "yes"}, "cuda_driver is 'yes': write one of keep, nvidia, distribution"),
        ({"reboot": "later"}, "cuda_reboot"),
        ({"driver_branch": "latest"}, "cuda_driver_branch is 'latest'"),
        ({"driver_version": "580"}, "cuda_driver_version is '580'"),
        ({"driver_version": "590.48.01"}, "not of cuda_driver_branch 580"),
        ({"toolkit": "13"}, "write a version of CUDA as '13.0'"),
        ({"repository_fingerprints": ["3bf863cc"]}, "40 hexadecimal digits"),
    ],
)
def test_wishes_that_cannot_be_understood(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(host(), gpus(), **wishes)
