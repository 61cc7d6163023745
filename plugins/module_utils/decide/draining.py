# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide whether a server may be taken out of a backend. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.haproxy import Server


def refusal(servers: Sequence[Server], name: str, allow_last: bool) -> str | None:
    """Say why a server must not be drained; None where it may be.

    One that gets no requests now may be drained always: nothing changes for clients.
    """
    one = next((server for server in servers if server.name == name), None)
    if allow_last or one is None or not one.up or any(server.up for server in servers if server.name != name):
        return None
    others = ", ".join(server.name for server in servers if server.name != name)
    state = f"none of the others ({others}) is up" if others else "there is no other"
    return (
        f"{name} is the last server of {one.backend} that gets requests: {state}. Bring another one up first. Or set "
        "gateway_drain_last: requests then wait in HAProxy until a server is up, for gateway_wait_seconds at most, and "
        "fail after that."
    )
