# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks whether a host is fit for multi-GPU work; each finding says what to do. Pure."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    checks_gpu,
    checks_host,
    sources,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import (
    FAIL,
    OK,
    Finding,
    Host,
    finding,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.state import READY, Judgement


def check_all(host: Host, judgement: Judgement) -> list[Finding]:
    """All findings, in a fixed order; the first says whether the GPUs can be used at all."""
    checks = (
        _driver(judgement),
        checks_gpu.fabric(host),
        checks_gpu.fabric_health(host),
        checks_gpu.memory_errors(host),
        checks_gpu.recovery(host),
        checks_gpu.slowdown(host),
        checks_gpu.vgpu_license(host),
        checks_gpu.persistence(host),
        checks_gpu.compute_mode(host),
        checks_gpu.memory_in_use(host),
        checks_gpu.pcie_width(host),
        checks_gpu.pcie_generation(host),
        checks_gpu.peer_to_peer(host),
        checks_host.iommu(host),
        checks_host.acs(host),
        checks_host.numa(host),
        checks_host.nouveau(host),
        checks_host.secure_boot(host),
        checks_host.shared_memory(host),
        checks_host.memlock(host),
        checks_host.open_files(host),
    )
    return [found for found in checks if found is not None]


def _driver(judgement: Judgement) -> Finding | None:
    if judgement.accelerator == "cpu":
        return None
    if judgement.state == READY:
        return finding("driver", OK, judgement.message)
    return finding("driver", FAIL, judgement.message, "See the message; then run gpu_info again.")


def parse_services(text: str) -> dict[str, dict[str, str]]:
    """Read ``systemctl show`` of several units: properties by unit. Units that do not exist are left out."""
    units: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if pairs.get("Id") and pairs.get("LoadState") != "not-found":
            units[pairs["Id"]] = pairs
        elif pairs.get("Id") and pairs["Id"].startswith("nvidia-fabricmanager"):
            units[pairs["Id"]] = {**pairs, "ActiveState": "not installed"}
    return units


def hanging_tools(outputs: sources.Outputs) -> list[str]:
    """One sentence about the tools that were stopped because their time was up; none where all answered."""
    stopped = [
        " ".join(sources.COMMANDS.get(name, (name,)))
        for name, output in outputs.items()
        if output.status == sources.TIMEOUT
    ]
    if not stopped:
        return []
    return [f"No answer in time, therefore stopped: {'; '.join(stopped)}. What they tell is not known."]
