# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the network interfaces of this machine."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

COMMAND = ("ip", "-json", "address", "show")
SPEEDS = Path("/sys/class/net")


def interfaces(text: str, speeds: Path = SPEEDS) -> dict[str, dict[str, Any]]:
    """Read what :data:`COMMAND` prints: by name, the first IPv4 ``address`` and the ``speed_mbit``, None where unknown.

    Addresses that every link has of itself (169.254.0.0/16) lead nowhere and are left out.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = {}
    for entry in entries if isinstance(entries, list) else ():
        # older releases of iproute2 print an empty mapping for what a filter left out
        if not isinstance(entry, dict) or not entry.get("ifname"):
            continue
        told = entry.get("addr_info")
        addresses = [one["local"] for one in (told if isinstance(told, list) else ()) if _leads_somewhere(one)]
        name = str(entry["ifname"])
        found[name] = {"address": addresses[0] if addresses else None, "speed_mbit": _speed(speeds / name / "speed")}
    return found


def _leads_somewhere(one: Any) -> bool:
    """Whether an entry is an IPv4 address that others can reach."""
    try:
        return isinstance(one, dict) and not ipaddress.IPv4Address(str(one.get("local"))).is_link_local
    except ValueError:
        return False


def _speed(path: Path) -> int | None:
    try:
        speed = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # -1: the driver does not know
    return speed if speed > 0 else None
