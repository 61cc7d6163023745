# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release and its host have to get GPU kernels from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import wheel_records

TOOLKIT = Path("/usr/local/cuda")
# Where the driver's packages put the library: Debian and Ubuntu, RHEL, both for ARM.
DRIVER_LIBRARIES = (
    Path("/usr/lib/x86_64-linux-gnu/libcuda.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/libcuda.so.1"),
    Path("/usr/lib64/libcuda.so.1"),
)
# In the folder of the wheels' CUDA: names under which compiled code is linked (flashinfer/jit/cpp_ext.py:275, 0.7.2),
# which NVIDIA's wheels do not have.
LINKS = {"lib64": "lib", "lib/libcudart.so": "libcudart.so.13"}
DRIVER_LINK = "lib/libcuda.so"
_PROVIDER = re.compile(r"flashinfer-jit-cache-(sm\d{2,3}[af]?)")


def read(release: Path, toolkit: Path = TOOLKIT) -> dict[str, Any]:
    """Look at a release; versions are None where a package is not there."""
    folder = wheel_records.site_packages(release)
    infos = {wheel_records.name_of(one): one for one in folder.glob("*.dist-info")} if folder else {}
    versions = {name: wheel_records.version_of(info) for name, info in infos.items()}
    runtime = versions.get("nvidia-cuda-runtime")
    return {
        "flashinfer": versions.get("flashinfer-python"),
        "cubin": versions.get("flashinfer-cubin"),
        "jit_cache": versions.get("flashinfer-jit-cache"),
        "providers": sorted(match[1] for name in versions if (match := _PROVIDER.fullmatch(name))),
        "offered": offered(infos.get("flashinfer-jit-cache")),
        "cuda": ".".join(runtime.split(".")[:2]) if runtime else None,
        "toolkit": read_toolkit(toolkit),
        "wheels": read_wheels(folder, versions) if folder else None,
    }


def offered(info: Path | None) -> list[str]:
    """The kinds of GPUs that flashinfer-jit-cache names packages for."""
    try:
        text = (info / "METADATA").read_text(encoding="utf-8") if info else ""
    except OSError:
        return []
    names = re.findall(r"^Requires-Dist: *([\w.-]+)", text, re.MULTILINE)
    return sorted({match[1] for name in names if (match := _PROVIDER.fullmatch(name.lower().replace("_", "-")))})


def read_toolkit(place: Path) -> dict[str, Any] | None:
    """A CUDA toolkit of the host, by its compiler; None where there is none."""
    if not (place / "bin/nvcc").exists():
        return None
    try:
        version = json.loads((place / "version.json").read_text(encoding="utf-8"))["cuda"]["version"]
    except (OSError, ValueError, KeyError, TypeError):
        named = re.fullmatch(r"cuda-(\d+(?:\.\d+)*)", place.resolve().name)
        version = named[1] if named else None
    return {"path": str(place), "version": version}


def read_wheels(folder: Path, versions: dict[str, str]) -> dict[str, Any] | None:
    """The compiler that NVIDIA's wheels brought; None where there is none."""
    home = folder / "nvidia/cu13"
    if not (home / "bin/nvcc").exists():
        return None
    links = all((home / name).exists() for name in (*LINKS, DRIVER_LINK))
    return {
        "path": str(home),
        "compiler": versions.get("nvidia-cuda-nvcc", ""),
        "headers": versions.get("nvidia-cuda-runtime", ""),
        "linked": links,
    }


def wanted_links(home: Path) -> dict[Path, str]:
    """The links that are missing so that code can be linked with the wheels' CUDA, each with where it leads.

    None without the driver's library, which every kernel is linked to.
    """
    driver = next((path for path in DRIVER_LIBRARIES if path.exists()), None)
    if driver is None:
        return {}
    links = {home / name: target for name, target in {**LINKS, DRIVER_LINK: str(driver)}.items()}
    return {path: target for path, target in links.items() if not path.exists()}


def written(root: Path) -> dict[str, Any]:
    """By name of each whole release, what its release.json says of kernels; None where it says nothing."""
    found = {}
    for mark in sorted(root.glob("releases/*/release.json")):
        try:
            said = json.loads(mark.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            said = {}
        found[mark.parent.name] = said.get("kernels") if isinstance(said, dict) else None
    return found
