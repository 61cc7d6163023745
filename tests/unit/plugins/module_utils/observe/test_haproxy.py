"""What HAProxy says, read; the texts are those of HAProxy 2.6.12, shortened."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import haproxy
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import CHECKOUT

PROCESSES = """#<PID>          <type>          <reloads>       <uptime>        <version>
4493            master          1 [failed: 0]   0d00h00m25s     2.6.12-1+deb12u4
# workers
5407            worker          0               0d00h00m01s     2.6.12-1+deb12u4
# old workers
4552            worker          1               0d00h00m24s     2.6.12-1+deb12u4
# programs

"""
HEADER = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)
STATE = f"""1
{HEADER}
3 alpha 1 node1 127.0.0.1 2 8 1 1 4 15 3 4 6 0 0 0 - 18001 - 0 0 - - 0
3 alpha 2 node2 127.0.0.1 2 0 1 1 4 15 3 4 6 0 0 0 - 18002 - 0 0 - - 0
4 beta 1 none 127.0.0.1 0 0 1 1 4 8 2 0 6 0 0 0 - 18009 - 0 0 - - 0
"""
STATS = """# pxname,svname,qcur,qmax,scur,smax,status,last_chk,check_desc,
alpha,node1,1,1,3,4,DRAIN,,Layer7 check passed,
alpha,node2,0,0,0,1,DOWN,Connection refused,Layer4 connection problem,
alpha,BACKEND,0,0,7,9,UP,,,

"""


def test_workers() -> None:
    assert haproxy.workers(PROCESSES) == [5407, 4552]
    with pytest.raises(ParseError, match="names no worker"):
        haproxy.workers("Unknown command")


def test_servers() -> None:
    found = haproxy.servers(STATE)
    assert [(one.backend, one.name, one.draining, one.up) for one in found] == [
        ("alpha", "node1", True, False),
        ("alpha", "node2", False, True),
        ("beta", "none", False, False),
    ]
    assert haproxy.servers("") == []
    with pytest.raises(ParseError, match="cannot be read"):
        haproxy.servers(STATE.replace(" 2 8 ", " 2 ? "))


def test_busy_and_last_check() -> None:
    assert haproxy.busy(STATS, "alpha", "node1") == 4
    assert haproxy.busy(STATS, "alpha", "node2") == 0
    assert haproxy.busy("Can't find the target PID matching the prefix '@!99'\n", "alpha", "node1") == 0
    said = "DOWN, Layer4 connection problem: Connection refused"
    assert haproxy.last_check(STATS, "alpha", "node2") == said
    assert haproxy.last_check(STATS, "alpha", "node3") == "unknown"


@given(st.text())
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    for read in (haproxy.workers, haproxy.servers):
        try:
            read(text)
        except ParseError as error:
            assert str(error).endswith(".")


def script() -> ModuleType:
    """The program that the role puts on a gateway."""
    spec = importlib.util.spec_from_file_location("server_state", CHECKOUT / "roles/gateway/files/server_state.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIG = """defaults
    server ignored 10.0.0.1:1
backend alpha
    balance leastconn
    server node1 10.0.0.7:9000 maxconn 4
    server node3 [fd00::1]:8000
backend beta
    server gpu.example.com gpu.example.com:8001
frontend x
    server ignored 10.0.0.1:1
"""


def test_the_state_is_made_to_fit_the_configuration() -> None:
    lines = script().fitted(STATE, CONFIG).splitlines()
    assert lines[:2] == ["1", HEADER]
    assert lines[2:] == [
        # drained as before, at its new address; node2 is gone; what is new is down until it was checked
        "3 alpha 1 node1 10.0.0.7 2 8 1 1 4 15 3 4 6 0 0 0 - 9000 - 0 0 - - 0",
        "0 alpha 0 node3 - 0 0 1 1 0 1 0 0 6 0 0 0 - 8000 - 0 0 - - 0",
        "0 beta 0 gpu.example.com - 0 0 1 1 0 1 0 0 6 0 0 0 - 8001 - 0 0 - - 0",
    ]


def test_without_a_state_all_is_down() -> None:
    found = haproxy.servers(script().fitted("", CONFIG))
    assert [(one.name, one.up) for one in found] == [("node1", False), ("node3", False), ("gpu.example.com", False)]


def test_what_fits_is_left_as_it_is() -> None:
    alpha = "backend alpha\n server node1 127.0.0.1:18001\n server node2 127.0.0.1:18002\n"
    config = f"{alpha}backend beta\n server none 127.0.0.1:18009\n"
    assert script().fitted(STATE, config) == STATE
