"""/var/lib/vllm, which is root's, and a host of an earlier version, where it was the service's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Deploy
from testinfra.host import Host

from tests.deployments import unit, wait_for_answer

NAMES = ("alpha", "beta")
# The owner of a link has no rights by it; the folder's owner has.
NOT_ROOTS = (
    "find /var/lib/vllm -path /var/lib/vllm/work -prune -o -not -type l ( -not -user root -o -not -group root ) -print"
)
OLD_LINES = "s#^StateDirectory=.*#StateDirectory=vllm#; s#^WorkingDirectory=.*#WorkingDirectory=%S/vllm#"


def of_others(host: Host) -> str:
    """What of the folder, but for the service's own, belongs to somebody else than root."""
    return str(host.check_output(NOT_ROOTS.replace("(", r"\(").replace(")", r"\)")))


def as_service(host: Host, command: str) -> int:
    """Run a command as the user of the service; return its status."""
    return int(host.run("setpriv --reuid=vllm --regid=vllm --clear-groups sh -c %s", command).rc)


def test_the_service_writes_into_its_own_folder_and_nowhere_else(host: Host) -> None:
    assert of_others(host) == ""
    assert as_service(host, "touch /var/lib/vllm/work/x && rm /var/lib/vllm/work/x") == 0
    for path in ("", "receipts/", "models/", "checks/", "hub/"):
        assert as_service(host, f"touch /var/lib/vllm/{path}x") != 0
    assert as_service(host, "mv /var/lib/vllm/receipts /var/lib/vllm/mine") != 0


@pytest.fixture
def earlier(host: Host) -> Iterator[None]:
    """What an earlier version left: a unit with which systemd has given all of the folder to the service."""
    host.check_output("sed -i %s /etc/systemd/system/vllm@.service", OLD_LINES)
    host.check_output("systemctl daemon-reload && chown -R vllm:vllm /var/lib/vllm")
    yield
    host.check_output("chown root:root /var/lib/vllm")


def test_a_host_of_an_earlier_version_is_taken_over_and_serves_on(host: Host, deploy: Deploy, earlier: None) -> None:
    before = [unit(host, name, "InvocationID") for name in NAMES]
    done = deploy()
    assert done.code == 0, done.output
    assert done.count("changed") > 0
    assert [unit(host, name, "InvocationID") for name in NAMES] == before
    assert of_others(host) == ""
    assert deploy().count("changed") == 0

    host.check_output("systemctl restart vllm@beta")
    wait_for_answer(host, "beta", 8001)
    assert of_others(host) == ""
    assert deploy().code == 0


def test_a_link_of_the_service_is_refused(host: Host, deploy: Deploy, earlier: None) -> None:
    host.check_output("mkdir -m 0700 /root/private")
    folder = "/var/lib/vllm/receipts"
    assert as_service(host, f"mv {folder} {folder}.kept && ln -s /root/private {folder}") == 0
    before = [unit(host, name, "InvocationID") for name in NAMES]
    try:
        refused = deploy()
        assert refused.code != 0
        assert f"'{folder}' is a link." in refused.text
        assert host.check_output("stat -c %a /root/private; ls -A /root/private") == "700"
        assert [unit(host, name, "InvocationID") for name in NAMES] == before
    finally:
        host.check_output(f"rm {folder} && mv {folder}.kept {folder} && rmdir /root/private")
    assert deploy().code == 0
    assert of_others(host) == ""
