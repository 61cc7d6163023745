# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person asks for in the role cuda, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.wishes import check_choices, fingerprints
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

_CHOICES = {
    "driver": ("keep", "nvidia", "distribution"),
    "driver_modules": ("auto", "open", "proprietary"),
    "fabric_manager": ("auto", "manage", "check", "ignore"),
    "reboot": ("auto", "never", "always"),
    "secure_boot": ("refuse", "accept"),
}


@dataclass(frozen=True)
class Wishes:
    """The role's variables. ``version`` is an exact version of the driver, or empty for any of the branch."""

    driver: str
    branch: int
    version: str
    modules: str
    fabric_manager: str
    reboot: str
    secure_boot: str
    persistenced: bool
    hold: bool
    dcgm: bool
    toolkit: str
    imex_nodes: tuple[str, ...]
    repository_url: str
    repository_key_url: str
    repository_fingerprints: tuple[str, ...]

    @property
    def pin(self) -> str:
        """Versions of packages that are wanted, as a pattern of apt."""
        return f"{self.version}-*" if self.version else f"{self.branch}.*"

    def accepts(self, version: str) -> bool:
        """Whether an installed driver is what is wanted."""
        return version == self.version if self.version else numbers(version)[:1] == (self.branch,)

    @staticmethod
    def read(given: Mapping[str, Any]) -> Wishes:
        """Read the role's variables, without ``cuda_`` before their names. Raises InputError."""
        check_choices("cuda", given, _CHOICES)
        version = str(given["driver_version"] or "")
        if version and not re.fullmatch(r"\d{3,}(\.\d+){1,2}", version):
            raise InputError(
                f"cuda_driver_version is {version!r}: write a version as nvidia-smi prints it, for example 580.105.08, "
                "or leave it empty for the newest of the branch."
            )
        branch = str(given["driver_branch"])
        if not re.fullmatch(r"\d{3,}", branch):
            raise InputError(f"cuda_driver_branch is {branch!r}: write the first number of a version, for example 580.")
        if version and numbers(version)[0] != int(branch):
            raise InputError(
                f"cuda_driver_version is {version}, which is not of cuda_driver_branch {branch}. Change one of them."
            )
        toolkit = str(given["toolkit"] or "")
        if toolkit and not re.fullmatch(r"\d+\.\d+", toolkit):
            raise InputError(f"cuda_toolkit is {toolkit!r}: write a version of CUDA as '13.0', or leave it empty.")
        return Wishes(
            driver=str(given["driver"]),
            branch=int(branch),
            version=version,
            modules=str(given["driver_modules"]),
            fabric_manager=str(given["fabric_manager"]),
            reboot=str(given["reboot"]),
            secure_boot=str(given["secure_boot"]),
            persistenced=bool(given["persistenced"]),
            hold=bool(given["hold"]),
            dcgm=bool(given["dcgm"]),
            toolkit=toolkit,
            imex_nodes=tuple(map(str, given["imex_nodes"] or ())),
            repository_url=str(given["repository_url"] or ""),
            repository_key_url=str(given["repository_key_url"] or ""),
            repository_fingerprints=fingerprints("cuda", given),
        )
