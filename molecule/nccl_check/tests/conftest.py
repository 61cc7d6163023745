"""What the tests of this scenario share: the role over both nodes, and faults of the network between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import testinfra
from testinfra.host import Host

from tests.deployments import FLEET, Run, run_playbook

PLAY = "molecule/nccl_check/play.yml"
# Of a healthy pair, the exchange takes 4 s.
SECONDS = 40

Check = Callable[..., Run]


@pytest.fixture(scope="session")
def check() -> Check:
    """Run the role, whatever was measured before."""

    def run(*arguments: str, **extra: object) -> Run:
        variables = {"nccl_check_when": "always", "nccl_check_seconds": SECONDS, **extra}
        return run_playbook(PLAY, *arguments, extra=variables)

    return run


def node(name: str) -> Host:
    """A node over SSH."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FLEET / "ssh_config"))


@pytest.fixture(scope="session")
def node1() -> Host:
    """The node of rank 0."""
    return node("node1")


@pytest.fixture(scope="session")
def node2() -> Host:
    """The node of rank 1."""
    return node("node2")


@pytest.fixture
def blocked_port(node1: Host) -> Iterator[int]:
    """A firewall on the first node drops what comes for the port where the ranks meet."""
    node1.check_output("nft add table inet fault")
    node1.check_output("nft add chain inet fault input '{ type filter hook input priority 0; }'")
    node1.check_output("nft add rule inet fault input tcp dport 29400 drop")
    yield 29400
    node1.check_output("nft delete table inet fault")


@pytest.fixture
def throttled(node2: Host) -> Iterator[str]:
    """The second node sends no more than 100 Mbit/s."""
    node2.check_output("tc qdisc add dev host0 root tbf rate 100mbit burst 256kb latency 400ms")
    yield "host0"
    node2.check_output("tc qdisc del dev host0 root")


@pytest.fixture
def nameless(node2: Host) -> Iterator[str]:
    """The second node's own name is in no file."""
    before = node2.check_output("cat /etc/hosts")
    node2.check_output("sed -i '/node2/d' /etc/hosts")
    yield "node2"
    node2.check_output("printf '%%s\\n' %s > /etc/hosts", before)


@pytest.fixture
def apart(node1: Host, node2: Host) -> Iterator[str]:
    """An interface on each node that does not lead to the other one."""
    for place, one in enumerate((node1, node2)):
        one.check_output("ip link add apart0 type veth peer name apart1")
        one.check_output("ip addr add %s dev apart0", f"10.99.{place}.1/24")
        one.check_output("ip link set apart0 up && ip link set apart1 up")
    yield "apart0"
    for one in (node1, node2):
        one.check_output("ip link del apart0")
