"""A node is a machine as a playbook expects it: systemd, a network of its own, package registries, reboots."""

from __future__ import annotations

from testinfra.host import Host


def test_systemd_is_running(host: Host) -> None:
    assert host.check_output("systemctl is-system-running --wait") == "running"
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


def test_it_was_rebooted_by_converge(host: Host) -> None:
    boots = host.check_output("journalctl --list-boots --quiet").splitlines()
    assert len(boots) == 2, boots


def test_it_has_its_name_and_knows_its_neighbours(host: Host) -> None:
    assert host.check_output("hostname") in ("bookworm", "trixie")
    assert host.check_output("getent hosts bookworm trixie | wc -l") == "2"


def test_services_are_its_own(host: Host) -> None:
    """Two nodes in one control group would list each other's processes."""
    group = "system.slice/ssh.service/cgroup.procs"
    pids = host.run(f"cat /sys/fs/cgroup/systemd/{group} /sys/fs/cgroup/{group}").stdout.split()
    assert pids
    assert "0" not in pids, "a process outside the node is in the group of its sshd"


def test_it_reaches_the_debian_archive(host: Host) -> None:
    done = host.run("apt-get update -o APT::Update::Error-Mode=any")
    assert done.rc == 0, done.stderr


def test_the_wheel_cache_is_writable(host: Host) -> None:
    assert host.mount_point("/var/cache/uv").exists
    assert host.run("touch /var/cache/uv/.probe && rm /var/cache/uv/.probe").rc == 0
