# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a host which NVIDIA software is installed on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    driver_surroundings,
    host_software,
    installed,
)


def cuda_facts(find: Callable[[str], str | None], run: Callable[[list[str]], str]) -> dict[str, Any]:
    """Everything, as the documentation of the module cuda_info says it.

    ``find`` looks for a program, ``run`` returns what one prints.
    """
    ask = run if find("systemctl") else _silence
    packages = installed.packages(find, run, host_software.is_nvidia)
    driver = host_software.driver_package(packages)
    fabric_manager = host_software.fabric_manager_package(packages)
    found, files = installed.system()
    return {
        **found,
        "packages": packages,
        "installed_driver": host_software.upstream(packages[driver]["version"]) if driver else None,
        "driver_installed_at": packages[driver]["installed_at"] if driver else None,
        "fabric_manager": host_software.upstream(packages[fabric_manager]["version"]) if fabric_manager else None,
        "nouveau": any(line.startswith("nouveau ") for line in files.get("/proc/modules", "").splitlines()),
        "sources": driver_surroundings.sources(
            found["machine"], release=str(found["distribution"]["version"]).split(".")[0]
        ),
        "trusted_keys": driver_surroundings.trusted_keys(),
        "serving": driver_surroundings.serving(ask),
        "out_of_service": driver_surroundings.work(),
        "fabric": driver_surroundings.fabric(ask),
        "nvlink_modules": driver_surroundings.modules(found["kernel"]),
        "imex_nodes": driver_surroundings.imex_nodes(),
    }


def _silence(_argv: list[str]) -> str:
    """What a program says that is not there."""
    return ""
