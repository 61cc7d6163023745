# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a host which NVIDIA software is installed on it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import host_software, hostfiles

SECONDS = 60


def _text_of(path: str) -> str:
    """The text of a file, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(argv: Sequence[str]) -> str:
    """What a program printed, empty where it does not run."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _installed() -> dict[str, dict[str, Any]]:
    """Ask the package manager of the host."""
    if shutil.which("dpkg-query"):
        argv = ["dpkg-query", "--show", "--showformat", host_software.DPKG_FORMAT]
        return host_software.parse_dpkg(_output(argv))
    if shutil.which("rpm"):
        argv = ["rpm", "--query", "--all", "--queryformat", host_software.RPM_FORMAT]
        return host_software.parse_rpm(_output(argv))
    return {}


def read() -> dict[str, Any]:
    """Everything, as the documentation of the module cuda_info says it."""
    packages = _installed()
    driver = host_software.driver_package(packages)
    fabric_manager = host_software.fabric_manager_package(packages)
    files = hostfiles.read_host()["files"]
    library, version = platform.libc_ver()
    return {
        "distribution": host_software.os_release(_text_of("/etc/os-release")),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "glibc": version if library == "glibc" else None,
        "packages": packages,
        "installed_driver": host_software.upstream(packages[driver]["version"]) if driver else None,
        "driver_installed_at": packages[driver]["installed_at"] if driver else None,
        "fabric_manager": host_software.upstream(packages[fabric_manager]["version"]) if fabric_manager else None,
        "started_at": host_software.started_at(
            _text_of("/proc/stat"), _text_of("/proc/1/stat"), os.sysconf("SC_CLK_TCK")
        ),
        "secure_boot": host_software.secure_boot(
            next((text for path, text in files.items() if "/efivars/SecureBoot-" in path), None)
        ),
        "nouveau": any(line.startswith("nouveau ") for line in files.get("/proc/modules", "").splitlines()),
        "free_mib": min(shutil.disk_usage(path).free for path in ("/usr", "/var")) // 1024**2,
    }
