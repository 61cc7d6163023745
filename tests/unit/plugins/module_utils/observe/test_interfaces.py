# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What ip(8) says of the network interfaces."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import interfaces
from hypothesis import given
from hypothesis import strategies as st

# As iproute2 6.1 prints it, shortened.
PRINTED: list[dict[str, Any]] = [
    {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1"}, {"family": "inet6", "local": "::1"}]},
    {
        "ifname": "eth1",
        "addr_info": [
            {"family": "inet6", "local": "fe80::1"},
            {"family": "inet", "local": "169.254.9.9"},
            {"family": "inet", "local": "10.0.0.5"},
            {"family": "inet", "local": "10.0.0.6"},
        ],
    },
    {"ifname": "ib0", "addr_info": []},
    {},
]


def test_the_first_address_that_leads_somewhere(tmp_path: Path) -> None:
    for name, text in (("lo", ""), ("eth1", "25000\n"), ("ib0", "-1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "speed").write_text(text)
    assert interfaces.interfaces(json.dumps(PRINTED), tmp_path) == {
        "lo": {"address": "127.0.0.1", "speed_mbit": None},
        "eth1": {"address": "10.0.0.5", "speed_mbit": 25000},
        "ib0": {"address": None, "speed_mbit": None},
    }


@pytest.mark.parametrize("text", ["", "{}", "null", "Cannot open netlink socket"])
def test_nothing_is_nothing(text: str) -> None:
    assert interfaces.interfaces(text) == {}


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert isinstance(interfaces.interfaces(text), dict)


def test_this_machine_has_a_loopback() -> None:
    try:
        printed = subprocess.run(interfaces.COMMAND, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("ip is not here")
    assert interfaces.interfaces(printed)["lo"]["address"] == "127.0.0.1"
