# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads packages, kernel and boot settings of this host. I/O only; meaning is given in host_software."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import host_software, hostfiles


def text_of(path: str) -> str:
    """The text of a file, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def packages(
    find: Callable[[str], str | None], run: Callable[[list[str]], str], wanted: host_software.Wanted
) -> dict[str, dict[str, Any]]:
    """Ask the package manager of the host. ``find`` looks for a program, ``run`` returns what one prints."""
    if find("dpkg-query"):
        argv = ["dpkg-query", "--show", "--showformat", host_software.DPKG_FORMAT]
        return host_software.parse_dpkg(run(argv), wanted)
    if find("rpm"):
        return host_software.parse_rpm(
            run(["rpm", "--query", "--all", "--queryformat", host_software.RPM_FORMAT]), wanted
        )
    return {}


def system() -> tuple[dict[str, Any], dict[str, str]]:
    """What every GPU driver's installation depends on, and the files of /proc and /sys that it was read from."""
    files: dict[str, str] = hostfiles.read_host()["files"]
    library, version = platform.libc_ver()
    found = {
        "distribution": host_software.os_release(text_of("/etc/os-release")),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "glibc": version if library == "glibc" else None,
        "started_at": host_software.started_at(
            text_of("/proc/stat"), text_of("/proc/1/stat"), os.sysconf("SC_CLK_TCK")
        ),
        "secure_boot": host_software.secure_boot(
            next((text for path, text in files.items() if "/efivars/SecureBoot-" in path), None)
        ),
        "free_mib": min(shutil.disk_usage(path).free for path in ("/usr", "/var")) // 1024**2,
    }
    return found, files
