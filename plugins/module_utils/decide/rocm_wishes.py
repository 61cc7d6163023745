# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person asks for in the role rocm, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.wishes import check_choices, fingerprints
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

_CHOICES = {
    "driver": ("keep", "amd"),
    "reboot": ("auto", "never", "always"),
    "secure_boot": ("refuse", "accept"),
}
# As in the paths of the repositories: 7.2.3, 7.2, 30.30.3, 30.30.
_VERSION = r"\d{1,2}(\.\d{1,2}){1,2}"


@dataclass(frozen=True)
class RocmWishes:
    """The role's variables. ``version`` is ROCm's, ``driver_version`` that of the driver amdgpu."""

    driver: str
    version: str
    driver_version: str
    packages: tuple[str, ...]
    hold: bool
    reboot: str
    secure_boot: str
    repository_url: str
    repository_key_url: str
    repository_fingerprints: tuple[str, ...]

    @staticmethod
    def read(given: Mapping[str, Any]) -> RocmWishes:
        """Read the role's variables, without ``rocm_`` before their names. Raises InputError."""
        check_choices("rocm", given, _CHOICES)
        for name, example in (("version", "7.2.3"), ("driver_version", "30.30.3")):
            if not re.fullmatch(_VERSION, str(given[name])):
                raise InputError(
                    f"rocm_{name} is {str(given[name])!r}: write it as AMD's repository does, for example {example}, "
                    "in quotes."
                )
        return RocmWishes(
            driver=str(given["driver"]),
            version=str(given["version"]),
            driver_version=str(given["driver_version"]),
            packages=tuple(map(str, given["packages"] or ())),
            hold=bool(given["hold"]),
            reboot=str(given["reboot"]),
            secure_boot=str(given["secure_boot"]),
            repository_url=str(given["repository_url"] or "").rstrip("/"),
            repository_key_url=str(given["repository_key_url"] or ""),
            repository_fingerprints=fingerprints("rocm", given),
        )
