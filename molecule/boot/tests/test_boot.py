"""After a boot the instance serves without a person, however late that comes which it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Deploy, boot_id, journal, reboot, since_boot
from testinfra.host import Host

from tests.deployments import ask, unit, wait_for_answer

NAME = "late"
FILES = Path(__file__).resolve().parents[1] / "files"
CONFIG = "/srv/models/tiny/config.json"


def write(host: Host, path: str, text: str, mode: str = "644") -> None:
    """Write a file on the node."""
    host.check_output("printf %%s %s > %s && chmod %s %s", text, path, mode, path)


@pytest.fixture(autouse=True)
def as_before(host: Host) -> Iterator[None]:
    """Let the model folder be mounted at once again."""
    yield
    write(host, "/etc/late-seconds", "0\n")
    write(host, "/etc/late-command", "mount --bind /srv/stored /srv/models\n")
    host.check_output("sed -i '\\,/srv/models,d' /etc/fstab")


def test_a_model_folder_that_is_mounted_90_seconds_after_boot(host: Host) -> None:
    """By something that systemd knows nothing of."""
    write(host, "/etc/late-seconds", "90\n")
    reboot(host)
    assert not host.file(CONFIG).exists
    while unit(host, NAME, "ActiveState", "SubState") != ["activating", "start-pre"]:
        assert since_boot(host) < 60
    while not host.file(CONFIG).exists:
        assert since_boot(host) < 150
    assert since_boot(host) > 90
    assert wait_for_answer(host, NAME, 8000)["model"] == NAME
    assert unit(host, NAME, "NRestarts") == ["0"]
    assert f"waits for {CONFIG}, which is not mounted yet" in journal(host, f"vllm@{NAME}")


def test_another_wait_restarts_nothing(host: Host, deploy: Deploy) -> None:
    """It is in the unit's text only, which counts from the next start on."""
    before = unit(host, NAME, "InvocationID", "MainPID")
    changed = deploy(serve_wait_seconds=20)
    assert changed.code == 0, changed.output
    assert changed.count("changed") > 0
    assert unit(host, NAME, "InvocationID", "MainPID") == before
    assert "wait 20 " in host.check_output("systemctl cat vllm@%s", NAME)
    assert deploy(serve_wait_seconds=20).count("changed") == 0


def test_a_mount_of_fstab_that_fails_at_boot_is_tried_again(host: Host) -> None:
    """What it mounts comes a minute late: the mount has failed by then, and a wait of 20 s has ended in vain."""
    write(host, "/etc/late-seconds", "60\n")
    write(host, "/etc/late-command", "mv /srv/away /srv/source\n")
    host.check_output("umount /srv/models; rm -rf /srv/away /srv/source; cp -a /srv/stored /srv/away")
    host.check_output("echo '/srv/source /srv/models none bind,nofail 0 0' >> /etc/fstab && systemctl daemon-reload")
    reboot(host)
    assert not host.file(CONFIG).exists
    assert wait_for_answer(host, NAME, 8000)["model"] == NAME
    assert since_boot(host) > 60
    assert 1 <= int(unit(host, NAME, "NRestarts")[0]) <= 4
    assert f"{CONFIG} is not there after 20 s, or vllm may not read it" in journal(host, f"vllm@{NAME}")
    assert host.mount_point("/srv/models").exists


def test_a_driver_whose_modules_are_not_loaded_at_boot(host: Host) -> None:
    """nvidia-modprobe is a stand-in (files/README.md), and so is CUDA, which fails without the device file."""
    write(host, "/usr/bin/nvidia-modprobe", (FILES / "nvidia-modprobe").read_text(), "755")
    drop_in = f"/etc/systemd/system/vllm@{NAME}.service.d/cuda.conf"
    try:
        write(host, drop_in, "[Service]\nExecStartPre=/usr/bin/test -e /dev/nvidia-uvm\n")
        host.check_output("systemctl daemon-reload && systemctl stop vllm@%s", NAME)
        # it is what an instance does not start without
        host.check_output("mv /usr/bin/nvidia-modprobe /usr/bin/away")
        assert host.run("systemctl start vllm@%s", NAME).rc != 0
        host.check_output("systemctl stop vllm@%s; mv /usr/bin/away /usr/bin/nvidia-modprobe", NAME)
        before = boot_id(host)
        reboot(host)
        assert boot_id(host) != before
        assert wait_for_answer(host, NAME, 8000)["model"] == NAME
        assert unit(host, NAME, "NRestarts") == ["0"]
        assert host.check_output("cat /dev/nvidia-modprobe-calls").splitlines()[0] == "-c0 -u"
    finally:
        host.check_output("rm -f %s /usr/bin/nvidia-modprobe && systemctl daemon-reload", drop_in)


def test_it_still_answers(host: Host) -> None:
    assert ask(host, NAME, 8000)["model"] == NAME
