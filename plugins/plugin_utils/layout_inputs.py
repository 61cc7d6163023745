# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gathers what a host and those that it runs engines with are decided from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain

# The fact that the role layout sets on each host of a play.
FACT = "layout_input"


def layout_inputs(host: str, hosts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of ``host`` and of all that its engines, and theirs in turn, run on, by name and sorted.

    ``hosts`` are the variables of hosts by inventory name, such as hostvars. A host without :data:`FACT` is not part of
    the play, or has failed in it, and is left out.
    """
    found: dict[str, Any] = {}
    ask = [host]
    while ask:
        name = ask.pop()
        given = hosts[name].get(FACT) if name in hosts and name not in found else None
        if given is not None:
            found[name] = plain(given)
            ask.extend(node for one in found[name]["models"] for node in one.get("nodes", ()))
    return {name: found[name] for name in sorted(found)}
