"""What the role makes of a bare node, and what it does when versions change. The tests build on one another."""

from __future__ import annotations

from conftest import module, role
from testinfra.host import Host

from tests.driver_nodes import boots, counts, version

NEXT = {"rocm_version": "7.2.3", "rocm_driver_version": "30.30.3"}


def test_a_bare_node_has_driver_and_rocm_after_one_reboot(nodes: list[Host]) -> None:
    for node in nodes:
        assert boots(node) == 2
        assert module(node) == "6.16.12"
        assert version(node, "amdgpu-dkms") == "1:6.16.12.30300200-1.22.04 hold"
        assert version(node, "rocm-core") == "7.2.1.70201-1~22.04 hold"
        assert node.file("/opt/rocm/.info/version").content_string.startswith("7.2.1")
        assert node.run("test -c /dev/kfd").rc == 0
        assert node.group("render").exists
        assert node.group("video").exists
        assert "/opt/rocm/lib\n" in node.file("/etc/ld.so.conf.d/gpufleet-rocm.conf").content_string


def test_nothing_but_amds_packages_is_held(nodes: list[Host]) -> None:
    for node in nodes:
        held = node.check_output("apt-mark showhold").split()
        assert sorted(held) == sorted(
            [
                "amdgpu-dkms",
                "amd-smi-lib",
                "hip-runtime-amd",
                "hsa-amd-aqlprofile",
                "rocm-core",
                "rocm-libs",
                "rocminfo",
                "rocprofiler-sdk",
            ]
        )


def test_a_second_run_and_a_check_change_nothing() -> None:
    again = role()
    assert (again.code, counts(again, "changed")) == (0, [0, 0]), again.output
    checked = role("--check", "--diff")
    assert (checked.code, counts(checked, "changed")) == (0, [0, 0]), checked.output


def test_hosts_whose_software_is_kept_are_checked_in_few_steps() -> None:
    kept = role(rocm_driver="keep")
    assert (kept.code, counts(kept, "changed")) == (0, [0, 0]), kept.output


def test_gpus_that_the_release_has_no_code_for_are_refused(nodes: list[Host]) -> None:
    for node in nodes:
        node.check_output("echo gfx908 > /etc/amd-stand-in-gfx")
    refused = role(**NEXT)
    for node in nodes:
        node.check_output("rm /etc/amd-stand-in-gfx")
    assert refused.code != 0
    assert (counts(refused, "failed"), counts(refused, "changed")) == ([1, 1], [0, 0])
    assert "The wheels of vLLM 0.26.0 have code for gfx90a, gfx942, gfx950" in refused.text
    assert "is gfx908 (GPUs 0, 1, 2, 3, 4, 5, 6, 7)" in refused.text


def test_a_release_whose_wheels_the_host_cannot_load_is_refused() -> None:
    """Debian 12 has glibc 2.36, Debian 13 has 2.41."""
    refused = role(rocm_engine_version="0.31.0")
    assert counts(refused, "failed") == [1, 0]
    assert "The wheels of vLLM 0.31.0 need glibc 2.39 or newer, and this host has 2.36." in refused.text


def test_another_rocm_than_that_of_the_release_is_refused() -> None:
    refused = role(rocm_version="7.0.2")
    assert counts(refused, "failed") == [1, 1]
    assert "vLLM 0.26.0 is built for ROCm 7.2, whose libraries must be on the host" in refused.text
    assert "rocm_version is 7.0.2" in refused.text


def test_a_foreign_key_is_refused_before_anything_is_written(nodes: list[Host]) -> None:
    for node in nodes:
        node.check_output("mv /etc/apt/keyrings/gpufleet-amd.asc /root/key")
    refused = role(rocm_repository_fingerprints=["0123456789" * 4])
    for node in nodes:
        left = node.file("/etc/apt/keyrings/gpufleet-amd.asc").exists
        node.check_output("mv /root/key /etc/apt/keyrings/gpufleet-amd.asc")
        assert not left
    assert refused.code != 0
    assert f"{'0123456789' * 4} is expected. Nothing was changed. If AMD has a new key" in refused.text


def test_held_packages_survive_an_upgrade(nodes: list[Host]) -> None:
    """Newer versions are on offer, and only the holds keep them away."""
    for node in nodes:
        node.check_output(
            "sed -i 's,amdgpu/30.30.2,amdgpu/30.30.3,; s,apt/7.2.1,apt/7.2.3,'"
            " /etc/apt/sources.list.d/gpufleet-amd.sources && apt-get update"
        )
        assert "Candidate: 7.2.3.70203-1~22.04" in node.check_output("apt-cache policy rocm-core")
        assert "kept back" in node.check_output("apt-get --assume-yes upgrade")
        assert version(node, "rocm-core") == "7.2.1.70201-1~22.04 hold"
        assert version(node, "amdgpu-dkms") == "1:6.16.12.30300200-1.22.04 hold"
    mended = role()
    assert (mended.code, counts(mended, "changed")) == (0, [1, 1]), mended.output


def test_without_leave_to_reboot_new_versions_wait_and_say_so(nodes: list[Host]) -> None:
    wanted = {**NEXT, "rocm_reboot": "never"}
    predicted = role("--check", **wanted)
    assert predicted.code == 0, predicted.output
    assert "the driver amdgpu 30.30.2 and ROCm 7.2.1; amdgpu 30.30.3 and ROCm 7.2.3 will be" in predicted.text
    assert "The host would not be rebooted" in predicted.text

    waiting = role(**wanted)
    assert waiting.code == 0, waiting.output
    assert "30.30.3 has the kernel module 6.16.13, and 6.16.12 is still loaded." in waiting.text
    assert "reboot it when it suits, then run this again" in waiting.text
    for node in nodes:
        assert boots(node) == 2
        assert module(node) == "6.16.12"
        assert version(node, "amdgpu-dkms") == "1:6.16.13.30300300-1.22.04 hold"
        assert version(node, "amd-smi-lib") == "26.2.70203-1~22.04 hold"


def test_the_next_run_with_leave_makes_it_good(nodes: list[Host]) -> None:
    done = role(**NEXT)
    assert done.code == 0, done.output
    for node in nodes:
        assert boots(node) == 3
        assert module(node) == "6.16.13"
    again = role(**NEXT)
    assert (again.code, counts(again, "changed")) == (0, [0, 0]), again.output
