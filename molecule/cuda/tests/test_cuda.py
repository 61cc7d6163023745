"""What the role makes of a bare node, and what it does when versions change. The tests build on one another."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import INSTALLED, driver, role
from testinfra.host import Host

from tests.driver_nodes import boots, counts, version

NEXT = "590.48.01"


def test_a_bare_node_has_the_driver_loaded_after_one_reboot(nodes: list[Host]) -> None:
    for node in nodes:
        assert boots(node) == 2
        assert driver(node) == INSTALLED
        assert version(node, "nvidia-kernel-open-dkms").startswith(f"{INSTALLED}-1")
        assert node.service("nvidia-persistenced").is_running
        assert node.service("nvidia-persistenced").is_enabled
        assert "blacklist nouveau" in node.file("/etc/modprobe.d/gpufleet-nouveau.conf").content_string


def test_the_fabric_manager_is_of_the_drivers_version_and_runs(nodes: list[Host]) -> None:
    for node in nodes:
        assert version(node, "nvidia-fabricmanager") == f"{INSTALLED}-1 hold"
        assert node.service("nvidia-fabricmanager").is_running
        assert node.service("nvidia-fabricmanager").is_enabled
        assert "<state>Completed</state>" in node.check_output("nvidia-smi -q -x")


def test_a_second_run_and_a_check_change_nothing() -> None:
    again = role()
    assert (again.code, counts(again, "changed")) == (0, [0, 0]), again.output
    checked = role("--check", "--diff")
    assert (checked.code, counts(checked, "changed")) == (0, [0, 0]), checked.output


def test_held_packages_survive_an_upgrade(nodes: list[Host]) -> None:
    """The branch is enough: a newer version of it is offered, and only the hold keeps it away."""
    any_version = role(cuda_driver_version="")
    assert any_version.code == 0, any_version.output
    for node in nodes:
        assert "Candidate: 580.105.08-1" in node.check_output("apt-cache policy nvidia-driver-cuda")
        said = node.check_output("apt-get --assume-yes upgrade")
        assert "kept back" in said
        assert version(node, "nvidia-driver-cuda") == f"{INSTALLED}-1 hold"
        assert version(node, "libcuda1") == f"{INSTALLED}-1 hold"


def test_a_fabric_manager_of_another_version_is_refused_or_mended(nodes: list[Host]) -> None:
    before = [boots(node) for node in nodes]
    for node in nodes:
        node.check_output(
            "apt-get install --assume-yes --allow-change-held-packages nvidia-fabricmanager=580.105.08-1"
            " && systemctl restart nvidia-fabricmanager || true"
        )
        assert not node.service("nvidia-fabricmanager").is_running

    refused = role(cuda_driver="keep", cuda_driver_version="")
    assert refused.code != 0
    assert counts(refused, "failed") == [1, 1]
    assert counts(refused, "changed") == [0, 0]
    assert f"nvidia-fabricmanager is 580.105.08 and the driver {INSTALLED}" in refused.text
    assert "error 802" in refused.text

    mended = role(cuda_driver="keep", cuda_driver_version="", cuda_fabric_manager="manage")
    assert mended.code == 0, mended.output
    for node in nodes:
        assert version(node, "nvidia-fabricmanager").startswith(f"{INSTALLED}-1 ")
        assert node.service("nvidia-fabricmanager").is_running
    # the GPUs had joined the fabric of another one
    assert [boots(node) for node in nodes] == [number + 1 for number in before]


def test_a_fabric_that_is_not_complete_is_a_plain_failure(nodes: list[Host]) -> None:
    """nvidia-smi looks fine there, and CUDA would fail with error 802."""
    before = [boots(node) for node in nodes]
    for node in nodes:
        node.check_output("systemctl stop nvidia-fabricmanager")
    refused = role(cuda_driver="keep", cuda_driver_version="")
    assert (counts(refused, "failed"), counts(refused, "changed")) == ([1, 1], [0, 0])
    assert "The NVLink fabric is not ready (GPU 0: In Progress" in refused.text
    waiting = role(cuda_reboot="never")
    assert waiting.code == 0, waiting.output
    assert "The fabric manager was started anew since the GPUs joined its fabric" in waiting.text
    mended = role()
    assert mended.code == 0, mended.output
    for node in nodes:
        assert "<state>Completed</state>" in node.check_output("nvidia-smi -q -x")
    assert [boots(node) for node in nodes] == [number + 1 for number in before]


@pytest.mark.parametrize("wanted", [{}, {"cuda_preflight": False}], ids=["checked", "unchecked"])
def test_nothing_is_changed_below_an_engine(nodes: list[Host], serving: None, wanted: dict[str, Any]) -> None:
    """Not the driver, not the fabric manager, no reboot; of an instance, too, that no inventory knows."""
    before = [boots(node) for node in nodes]
    refused = role(cuda_driver_branch="590", cuda_driver_version="", **wanted)
    assert (counts(refused, "failed"), counts(refused, "changed")) == ([1, 1], [0, 0]), refused.output
    assert "vllm@foreign runs on this host, and the NVIDIA driver would be changed from" in refused.text
    assert "Run playbooks/drivers.yml" in refused.text
    unchanged = role()
    assert (unchanged.code, counts(unchanged, "changed")) == (0, [0, 0]), unchanged.output
    for node in nodes:
        node.check_output("systemctl stop nvidia-fabricmanager")
    restart = role(**wanted)
    for node in nodes:
        # as it was: nothing but the stand-in knows of its restart
        node.check_output("systemctl start nvidia-fabricmanager")
        assert version(node, "nvidia-driver-cuda") == f"{INSTALLED}-1 hold"
    assert counts(restart, "changed") == [0, 0], restart.output
    assert "the fabric manager would be started and the host would be rebooted below it" in restart.text
    assert [boots(node) for node in nodes] == before


def test_a_foreign_key_is_refused_before_anything_is_written(nodes: list[Host]) -> None:
    for node in nodes:
        node.check_output("mv /etc/apt/keyrings/gpufleet-nvidia.asc /root/key")
    refused = role(cuda_repository_fingerprints=["0123456789" * 4])
    for node in nodes:
        left = node.file("/etc/apt/keyrings/gpufleet-nvidia.asc").exists
        node.check_output("mv /root/key /etc/apt/keyrings/gpufleet-nvidia.asc")
        assert not left
    assert refused.code != 0
    assert f"{'0123456789' * 4} is expected. Nothing was changed." in refused.text


def test_without_leave_to_reboot_a_new_branch_waits_and_says_so(nodes: list[Host]) -> None:
    wanted = {"cuda_driver_branch": "590", "cuda_driver_version": "", "cuda_reboot": "never"}
    before = [boots(node) for node in nodes]
    predicted = role("--check", **wanted)
    assert predicted.code == 0, predicted.output
    assert f"The host has NVIDIA driver {INSTALLED}; NVIDIA driver 590 will be installed" in predicted.text
    assert "The host would not be rebooted" in predicted.text

    waiting = role(**wanted)
    assert waiting.code == 0, waiting.output
    assert f"The installed driver is {NEXT}, and another one is still loaded." in waiting.text
    assert "reboot it when it suits, then run this again" in waiting.text
    assert [boots(node) for node in nodes] == before
    for node in nodes:
        assert version(node, "nvidia-driver-cuda") == f"{NEXT}-1 hold"
        assert version(node, "nvidia-fabricmanager") == f"{NEXT}-1 hold"
        assert driver(node) == ""


def test_the_next_run_with_leave_makes_it_good(nodes: list[Host]) -> None:
    before = [boots(node) for node in nodes]
    done = role(cuda_driver_branch="590", cuda_driver_version="")
    assert done.code == 0, done.output
    assert [boots(node) for node in nodes] == [number + 1 for number in before]
    for node in nodes:
        assert driver(node) == NEXT
        assert node.service("nvidia-fabricmanager").is_running
        assert "<state>Completed</state>" in node.check_output("nvidia-smi -q -x")
    again = role(cuda_driver_branch="590", cuda_driver_version="")
    assert (again.code, counts(again, "changed")) == (0, [0, 0]), again.output


def test_hosts_of_one_nvlink_domain_run_imex_in_the_drivers_version(nodes: list[Host]) -> None:
    wanted = {"cuda_driver_branch": "590", "cuda_driver_version": "", "cuda_imex_nodes": ["10.0.0.1", "10.0.0.2"]}
    done = role(**wanted)
    assert done.code == 0, done.output
    for node in nodes:
        assert version(node, "nvidia-imex") == f"{NEXT}-1 hold"
        assert node.file("/etc/nvidia-imex/nodes_config.cfg").content_string == "10.0.0.1\n10.0.0.2\n"
        assert node.service("nvidia-imex").is_running
        assert node.service("nvidia-imex").is_enabled
    again = role(**wanted)
    assert (again.code, counts(again, "changed")) == (0, [0, 0]), again.output


def test_the_gate_refuses_a_release_that_the_driver_cannot_run(nodes: list[Host]) -> None:
    """A driver below 580 is refused before anything is changed, with both ways out."""
    refused = role("--check", cuda_driver="distribution", cuda_driver_branch="535", cuda_driver_version="")
    assert refused.code != 0
    assert "vLLM 0.33.0 is built for CUDA 13.0" in refused.text
    assert "choose vLLM 0.19 (engine_version)" in refused.text
    for node in nodes:
        assert driver(node) == NEXT
