"""What is to be done to a host's NVIDIA software."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver_sources

from tests.unit.driver_samples import B200, DEBIAN, GB200, ROCKY, UBUNTU, gpus, host, plan, with_fabric
from tests.unit.samples import CHECKOUT


def test_a_bare_host() -> None:
    found = plan(host(), gpus(switches=4))
    assert (found["problems"], found["modules"], found["branch"]) == ([], "open", 580)
    assert found["driver_packages"] == [
        "linux-headers-6.1.0-40-amd64",
        "linux-headers-amd64",
        "nvidia-driver-cuda",
        "nvidia-kernel-open-dkms",
        "nvidia-persistenced",
    ]
    # Their version is known once the driver is there.
    assert found["matched_packages"] == ["nvidia-fabricmanager", "libnvidia-nscq"]
    assert found["services"] == ["nvidia-persistenced.service", "nvidia-fabricmanager.service"]
    assert found["repository"] == {
        "url": "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64",
        "key_url": "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/3bf863cc.pub",
        "fingerprints": ["EB693B3035CD5710E231E123A4B469963BF863CC"],
    }
    assert found["preferences"][0]["pin"] == "version 580.*"
    assert found["reboot"]["needed"] is False


def test_a_host_that_is_as_it_should_be() -> None:
    found = plan(with_fabric("580.105.08"), gpus(loaded="580.105.08", switches=4))
    nothing = ("problems", "notices", "driver_packages", "matched_packages", "other_packages", "release")
    assert [found[key] for key in nothing] == [[]] * 6
    assert found["hold"] == ["libnvidia-nscq", "nvidia-fabricmanager"]
    assert (found["stream"], found["fault"], found["reboot"]["needed"]) == (None, None, False)


def test_without_an_nvidia_gpu_nothing_is_done() -> None:
    found = plan(host(), {**gpus(), "accelerator": "cpu", "state": "ready", "pci_gpus": []}, dcgm=True)
    assert found["applies"] is False
    assert "nothing is done" in found["notices"][0]
    left = ("driver_packages", "services", "problems", "hold", "release")
    assert [found[key] for key in left] == [[]] * 5
    assert (found["repository"], found["fault"]) == (None, None)
    kept = plan(host(), {**gpus(), "accelerator": "cpu", "state": "ready", "pci_gpus": []}, driver="keep")
    assert kept["notices"] == []


def test_a_kept_driver_is_not_touched() -> None:
    found = plan(with_fabric("580.95.05"), gpus(loaded="580.105.08", switches=4), driver="keep")
    for key in ("driver_packages", "matched_packages", "hold", "release", "services", "problems", "notices"):
        assert found[key] == [], key
    assert (found["repository"], found["reboot"]["needed"], found["managed"]) == (None, False, False)


def test_a_fabric_manager_for_a_kept_driver_is_of_its_version() -> None:
    found = plan(
        with_fabric("580.95.05"), gpus(loaded="580.105.08", switches=4), driver="keep", fabric_manager="manage"
    )
    assert found["matched_packages"] == ["nvidia-fabricmanager=580.105.08-*", "libnvidia-nscq=580.105.08-*"]
    assert found["driver_packages"] == []
    first, second = found["preferences"]
    assert (first["pin"], first["priority"]) == ("version 580.105.08-*", 1001)
    # The repository must not bring a driver with the next upgrade.
    assert (second["pin"], second["priority"]) == ('origin "developer.download.nvidia.com"', -1)


@pytest.mark.parametrize(
    ("wishes", "version", "changes"),
    [
        ({}, "580.95.05", False),
        ({"driver_version": "580.95.05"}, "580.95.05", False),
        ({"driver_version": "580.105.08"}, "580.95.05", True),
        ({"driver_branch": "590"}, "580.95.05", True),
        ({}, "590.48.01", True),
        ({"driver_branch": 580}, "580.95.05", False),
    ],
)
def test_when_a_driver_is_changed(wishes: dict[str, Any], version: str, changes: bool) -> None:
    found = plan(host(version), gpus(loaded=version), **wishes)
    assert bool(found["driver_packages"]) is changes
    # Held libraries would stand in the way of their own upgrade.
    assert bool(found["release"]) is changes
    assert bool(found["notices"]) is changes


def test_a_missing_part_of_the_driver_is_installed() -> None:
    cuda = host("580.105.08")
    del cuda["packages"]["nvidia-persistenced"]
    assert "nvidia-persistenced" in plan(cuda, gpus(loaded="580.105.08"))["driver_packages"]


@pytest.mark.parametrize(
    ("distribution", "wishes", "expected", "stream"),
    [
        (UBUNTU, {}, {"nvidia-open"}, None),
        (UBUNTU, {"driver_modules": "proprietary"}, {"cuda-drivers"}, None),
        (
            UBUNTU,
            {"driver": "distribution"},
            {"nvidia-headless-580-server-open", "nvidia-utils-580-server"},
            None,
        ),
        (ROCKY, {}, {"nvidia-driver-cuda", "kmod-nvidia-open-dkms"}, "nvidia-driver:580-open"),
        (ROCKY, {"driver_modules": "proprietary"}, {"kmod-nvidia-latest-dkms"}, "nvidia-driver:580-dkms"),
        (DEBIAN, {"driver_modules": "proprietary"}, {"nvidia-kernel-dkms"}, None),
        (
            {"id": "debian", "version": "13"},
            {"driver": "distribution", "driver_branch": "550"},
            {"nvidia-open-kernel-dkms", "nvidia-smi"},
            None,
        ),
    ],
)
def test_packages_of_a_distribution(
    distribution: dict[str, Any], wishes: dict[str, Any], expected: set[str], stream: str | None
) -> None:
    found = plan(host(distribution=distribution), gpus(), **wishes)
    assert found["problems"] == []
    assert expected <= set(found["driver_packages"])
    assert found["stream"] == stream
    assert (found["repository"] is None) == (wishes.get("driver") == "distribution")


def test_the_distributions_own_fabric_manager_has_the_branch_in_its_name() -> None:
    packages = {
        name: {"version": "580.159.03-0ubuntu0.24.04.1", "held": False, "installed_at": 1}
        for name in ("nvidia-headless-580-server-open", "nvidia-utils-580-server")
    }
    cuda = host(distribution=UBUNTU, packages=packages, installed_driver="580.159.03")
    found = plan(cuda, gpus(loaded="580.159.03", switches=6), driver="distribution")
    assert found["matched_packages"] == [
        "nvidia-fabricmanager-580=580.159.03-*",
        "libnvidia-nscq-580=580.159.03-*",
    ]


def test_dnf_writes_versions_in_its_own_way() -> None:
    names = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced")
    packages = {name: {"version": "3:580.105.08-1.el9", "held": None, "installed_at": 1} for name in names}
    cuda = host(distribution=ROCKY, packages=packages, installed_driver="580.105.08")
    found = plan(cuda, gpus(loaded="580.105.08", switches=4))
    assert found["matched_packages"] == ["nvidia-fabricmanager-580.105.08", "libnvidia-nscq-580.105.08"]
    assert (found["driver_packages"], found["hold"]) == ([], [])


@pytest.mark.parametrize(
    ("gpu", "wishes", "managed", "extra"),
    [
        (gpus(switches=4), {}, True, []),
        (gpus(switches=0), {}, False, []),
        (gpus(switches=4), {"fabric_manager": "check"}, False, []),
        # switches that the PCI bus does not show
        (gpus(B200), {}, True, ["nvlsm", "infiniband-diags"]),
        (gpus(B200, cpu={"hypervisor": "KVM"}), {}, False, []),
        (gpus(GB200), {}, False, []),
    ],
)
def test_where_a_fabric_manager_is_installed(
    gpu: dict[str, Any], wishes: dict[str, Any], managed: bool, extra: list[str]
) -> None:
    found = plan(host(), gpu, **wishes)
    assert found["fabric_manager"] is managed
    assert found["matched_packages"] == (["nvidia-fabricmanager", "libnvidia-nscq", *extra] if managed else [])


def test_a_rack_wide_domain() -> None:
    assert "cuda_imex_nodes" in " ".join(plan(host(), gpus(GB200))["notices"])
    found = plan(host("580.95.05"), gpus(GB200, loaded="580.95.05"), imex_nodes=["10.0.0.1", "10.0.0.2"])
    assert found["matched_packages"] == ["nvidia-imex=580.95.05-*"]
    assert found["services"] == ["nvidia-persistenced.service", "nvidia-imex.service"]
    assert found["notices"] == []


def test_toolkit_and_dcgm() -> None:
    found = plan(host("580.95.05"), gpus(loaded="580.95.05"), driver="keep", toolkit="13.0", dcgm=True)
    assert found["other_packages"] == ["cuda-toolkit-13-0", "datacenter-gpu-manager-4-cuda13"]
    assert found["services"] == ["nvidia-dcgm.service"]
    assert found["repository"] is not None
    assert [record["priority"] for record in found["preferences"]] == [1001, -1]


def test_a_mirror_with_its_own_key() -> None:
    fingerprint = "01234567 89012345 67890123 45678901 23456789"
    found = plan(host(), gpus(), repository_url="http://mirror/nvidia/", repository_fingerprints=[fingerprint])
    assert found["repository"] == {
        "url": "http://mirror/nvidia",
        "key_url": "http://mirror/nvidia/3bf863cc.pub",
        "fingerprints": [fingerprint.replace(" ", "")],
    }


def test_nothing_is_held_where_nothing_shall_be() -> None:
    found = plan(host("580.95.05"), gpus(loaded="580.95.05"), hold=False)
    assert found["hold"] == []
    assert found["release"] == ["libcuda1", "nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"]


@pytest.mark.parametrize(
    ("kernel", "more"),
    [
        ("6.1.0-40-amd64", ["linux-headers-amd64"]),
        ("6.12.48+deb13-cloud-amd64", ["linux-headers-cloud-amd64"]),
        ("6.1.0-40-arm64", ["linux-headers-arm64"]),
        ("6.18.44-custom", []),
    ],
)
def test_headers_follow_the_kernel(kernel: str, more: list[str]) -> None:
    debian = driver_sources.DISTRIBUTIONS["debian-12"]
    assert driver_sources.headers(debian.headers, debian.name, kernel) == [f"linux-headers-{kernel}", *more]


def test_every_distribution_is_in_the_table_of_the_docs() -> None:
    text = (CHECKOUT / "docs/hosts.md").read_text(encoding="utf-8")
    for distribution in driver_sources.DISTRIBUTIONS.values():
        assert f"| {distribution.name} |" in text
        assert len(distribution.fingerprint) == 40


def test_what_an_engine_does_not_survive_is_refused_below_one() -> None:
    serves: dict[str, Any] = {"serving": ["a", "b"]}
    found = plan(host("580.95.05", **serves), gpus(loaded="580.95.05"), driver_version="580.105.08")
    assert found["problems"] == []
    (sentence,) = found["disturbed"]
    assert "vllm@a, vllm@b run on this host, and the NVIDIA driver would be changed from 580.95.05" in sentence
    assert "playbooks/drivers.yml" in sentence
    for quiet in (
        plan(host("580.95.05", serving=[]), gpus(loaded="580.95.05"), driver_version="580.105.08"),
        plan(host("580.95.05", **serves), gpus(loaded="580.95.05")),
        plan(host("580.95.05", **serves), gpus(loaded="580.95.05"), hold=False),
        plan(host("580.95.05", **serves), gpus(loaded="580.95.05"), dcgm=True, toolkit="13.0"),
        plan(host("580.95.05", **serves), gpus(loaded="580.95.05"), driver="keep", driver_version="580.105.08"),
        # a person reboots it
        plan(host("580.105.08", 2000, **serves), gpus(loaded="580.95.05"), reboot="never"),
    ):
        assert quiet["disturbed"] == []


@pytest.mark.parametrize(
    ("cuda", "gpu", "wishes", "words"),
    [
        (host(), gpus(), {}, "the NVIDIA driver would be installed (580)"),
        (host("580.105.08", 2000), gpus(loaded="580.95.05"), {}, "the host would be rebooted"),
        (
            with_fabric("580.95.05"),
            gpus(loaded="580.105.08", switches=4),
            {"driver": "keep", "fabric_manager": "manage"},
            "nvidia-fabricmanager=580.105.08-*",
        ),
        (
            with_fabric("580.105.08", fabric={"runs": False, "ran": False}),
            gpus(loaded="580.105.08", switches=4),
            {},
            "the fabric manager would be started",
        ),
        (
            host("580.95.05", imex_nodes=["10.0.0.1"])
            | {"packages": host("580.95.05")["packages"] | {"nvidia-imex": {"version": "580.95.05-1", "held": True}}},
            gpus(GB200, loaded="580.95.05"),
            {"imex_nodes": ["10.0.0.1", "10.0.0.2"]},
            "IMEX would be restarted",
        ),
    ],
)
def test_every_change_below_an_engine_is_said(
    cuda: dict[str, Any], gpu: dict[str, Any], wishes: dict[str, Any], words: str
) -> None:
    assert words in " and ".join(plan(cuda, gpu, **wishes)["changes"])


RAN = {"runs": True, "ran": True, "reset_due": False}


@pytest.mark.parametrize(
    ("cuda", "resets", "reboots"),
    [
        (with_fabric("580.95.05", fabric={"runs": False, "ran": False, "reset_due": False}), False, False),
        (with_fabric("580.95.05", fabric=RAN), True, True),
        (with_fabric("580.105.08", fabric=RAN), False, False),
        (with_fabric("580.105.08", fabric={**RAN, "runs": False}), True, True),
        # an earlier run was not allowed to
        (with_fabric("580.105.08", fabric={**RAN, "reset_due": True}), False, True),
    ],
)
def test_a_fabric_manager_that_is_started_anew_needs_the_gpus_reset(
    cuda: dict[str, Any], resets: bool, reboots: bool
) -> None:
    gpu = gpus(loaded="580.105.08", switches=4)
    for wishes in ({}, {"driver": "keep", "fabric_manager": "manage"}):
        found = plan(cuda, gpu, **wishes)
        assert (found["resets"], found["reboot"]["needed"]) == (resets, reboots)
        assert not reboots or "until they are reset" in found["reboot"]["why"]
    checked = plan(cuda, gpu, driver="keep", fabric_manager="check")
    assert (checked["resets"], checked["reboot"]["needed"]) == (False, False)


@pytest.mark.parametrize(
    ("distribution", "wishes", "expected"),
    [
        (DEBIAN, {}, "nvidia-driver-cuda=580.*"),
        (DEBIAN, {"driver_version": "580.105.08"}, "nvidia-driver-cuda=580.105.08-*"),
        (UBUNTU, {"driver_version": "580.105.08"}, "nvidia-open=580.105.08-*"),
        (ROCKY, {}, "nvidia-driver-cuda"),
        (ROCKY, {"driver_version": "580.105.08"}, "nvidia-driver-cuda-580.105.08"),
        (UBUNTU, {"driver": "distribution"}, "nvidia-utils-580-server"),
    ],
)
def test_packages_carry_the_version_that_is_wanted(
    distribution: dict[str, Any], wishes: dict[str, Any], expected: str
) -> None:
    found = plan(host(distribution=distribution), gpus(), **wishes)
    assert expected in found["driver_specs"]
    assert not [spec for spec in found["driver_specs"] if spec.startswith(("linux-", "kernel-")) and "580" in spec]


def test_a_version_converges_with_dnf() -> None:
    names = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced")
    packages = {name: {"version": "3:580.105.08-1.el9", "held": None, "installed_at": 1} for name in names}
    cuda = host(distribution=ROCKY, packages=packages, installed_driver="580.105.08")
    assert plan(cuda, gpus(loaded="580.105.08"), driver_version="580.105.08")["driver_specs"] == []
    assert plan(cuda, gpus(loaded="580.105.08"), driver_version="580.95.05")["driver_specs"]


MODULES = {"ib_umad": "loaded", "mlx5_ib": "available"}


def test_the_fifth_nvlink_has_its_subnet_manager_with_its_modules() -> None:
    cuda = with_fabric("580.105.08", nvlink_modules=MODULES)
    cuda["packages"]["nvlsm"] = {"version": "2025.03.1-1", "held": False, "installed_at": 1}
    found = plan(cuda, gpus(B200, loaded="580.105.08"))
    assert (found["nvlink_modules"], found["load_modules"]) == (["ib_umad", "mlx5_ib"], ["mlx5_ib"])
    assert found["matched_packages"] == ["infiniband-diags"]
    assert "nvlsm" in found["hold"]
    # it has to go with the driver
    assert "nvlsm" in plan(cuda, gpus(B200, loaded="580.105.08"), driver_version="580.95.05")["driver_specs"]
    assert plan(cuda, gpus(loaded="580.105.08", switches=4))["nvlink_modules"] == []


def test_a_kernel_without_these_modules() -> None:
    missing = {**MODULES, "mlx5_ib": "missing"}
    (sentence,) = plan(host(nvlink_modules=missing), gpus(B200))["problems"]
    assert "has no module mlx5_ib" in sentence
    ubuntu = plan(host(distribution=UBUNTU, kernel="6.8.0-60-generic", nvlink_modules=missing), gpus(B200))
    assert (ubuntu["problems"], ubuntu["matched_packages"][-1]) == ([], "linux-modules-extra-6.8.0-60-generic")
