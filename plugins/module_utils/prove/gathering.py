# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gathers all evidence of a host as named texts. I/O only."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    hostfiles,
    instance_sources,
    runner,
    sources,
    systemd,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import instances


def outputs(seconds: float, environ: Mapping[str, str], ask: bool) -> sources.Outputs:
    """Run all tools at once and read the rest; ``seconds`` is the time limit of each step.

    ``ask`` says whether to send a short request to each server that is well.
    """
    try:
        names = instances.within(seconds, instances.names)
    except (instances.Late, OSError):
        # describe() says so
        names = []
    commands = {**sources.COMMANDS, **instance_sources.commands(names)}
    found = runner.run_all(commands, seconds, environ)
    host = instances.within(seconds, hostfiles.read_host)
    found[sources.HOST] = sources.ToolOutput(sources.OK, json.dumps(host, indent=1, sort_keys=True) + "\n")
    units = systemd.parse_show(found[instance_sources.UNITS].text) if instance_sources.UNITS in found else {}
    described = instances.describe(units, seconds, ask)
    found[instance_sources.INSTANCES] = sources.ToolOutput(
        sources.OK, json.dumps(described, indent=1, sort_keys=True) + "\n"
    )
    return found
