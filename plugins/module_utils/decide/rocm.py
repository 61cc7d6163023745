# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decides what has to be done to a host's AMD software: driver, ROCm, repositories, groups, reboot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver_sources, rocm_sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_checks import serving_problems
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rocm_checks import (
    fault_after,
    install_problems,
    reboot,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rocm_sources import Distribution
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rocm_wishes import RocmWishes
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.rocm_software import code_of

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class _Host:
    """What the decision is made from."""

    wishes: RocmWishes
    host: Facts
    distribution: Distribution | None

    @property
    def packages(self) -> Mapping[str, Facts]:
        return self.host.get("packages") or {}

    @property
    def wanted(self) -> list[str]:
        """Names of the packages: the driver, and those of ROCm."""
        rows = self.distribution.packages if self.distribution else ()
        return [rocm_sources.DRIVER, *(self.wishes.packages or rows)]

    @property
    def as_wished(self) -> bool:
        """Whether driver and ROCm are of the versions that are wanted, and every package is there."""
        return (
            _same(self.host.get("installed_driver"), self.wishes.driver_version)
            and _same(self.host.get("rocm"), self.wishes.version)
            and set(self.wanted) <= set(self.packages)
        )

    def to_install(self) -> list[str]:
        """Packages to install or to change, with those that a module is built with."""
        distribution = self.distribution
        if distribution is None or self.as_wished:
            return []
        kernel = str(self.host.get("kernel"))
        return [*driver_sources.headers(distribution.headers, distribution.name, kernel), *self.wanted]

    def held(self, state: bool) -> list[str]:
        """Packages of the installed driver and of the installed ROCm that are held, or that are not."""
        return sorted(
            name
            for name, package in self.packages.items()
            if package.get("held") is state and self._is_amds(str(package["version"]))
        )

    def _is_amds(self, version: str) -> bool:
        code = code_of(version)
        driver, rocm = self.host.get("installed_driver"), self.host.get("rocm")
        return (code.driver is not None and code.driver == driver) or (code.rocm is not None and code.rocm == rocm)


def _same(has: Any, wanted: str) -> bool:
    """7.2 in a path is 7.2.0 in a package."""
    return bool(has) and [*str(has).split("."), "0"][:3] == [*wanted.split("."), "0"][:3]


def plan(wishes: Mapping[str, Any], rocm_facts: Facts, gpu_facts: Facts) -> dict[str, Any]:
    """Decide. ``wishes`` are the role's variables without their prefix, the others what rocm_info and gpu_info said.

    Returns what is documented of the filter rocm_plan. Raises InputError for a wish that cannot be understood.
    """
    wanted = RocmWishes.read(wishes)
    distribution = rocm_sources.distribution_of(rocm_facts.get("distribution") or {})
    host = _Host(wanted, rocm_facts, distribution)
    pci = any(gpu.get("vendor") == "amd" for gpu in gpu_facts.get("pci_gpus") or ())
    accelerator = gpu_facts.get("accelerator")
    # The graphics of a processor are also on the PCI bus, and count only where a person asks for the driver.
    applies = accelerator == "rocm" or (pci and accelerator == "cpu" and wanted.driver == "amd")
    managed = applies and wanted.driver == "amd"
    fault = fault_after(managed, rocm_facts, gpu_facts) if applies else None
    if managed:
        problems = install_problems(wanted, rocm_facts, gpu_facts, distribution, host.as_wished)
    else:
        problems = [fault] if fault else []
    repositories = _repositories(host) if managed and not problems else []
    packages = host.to_install() if managed else []
    rebooting = reboot(managed, wanted.reboot, rocm_facts, gpu_facts)
    changes = [f"these packages would be installed: {', '.join(packages)},"] if packages else []
    changes += ["the host would be rebooted"] if rebooting["needed"] and rebooting["allowed"] else []
    return {
        "applies": applies,
        "managed": managed,
        "problems": problems,
        "notices": _notices(host, applies, managed, bool(packages)),
        "manager": distribution.manager if distribution else None,
        "version": wanted.version if managed else None,
        "repositories": repositories,
        "key": _key(wanted) if repositories else None,
        "preferences": [_preference(repositories)] if repositories else [],
        "packages": packages,
        "hold": host.held(False) if managed and wanted.hold else [],
        "release": host.held(True) if managed and (not wanted.hold or packages) else [],
        "groups": list(rocm_sources.GROUPS) if managed else [],
        "reboot": rebooting,
        "disturbed": serving_problems(rocm_facts.get("serving") or (), changes, playbook=False),
        "fault": fault,
    }


def _notices(host: _Host, applies: bool, managed: bool, changes: bool) -> list[str]:
    wishes = host.wishes
    if not applies:
        wanted = wishes.driver != "keep"
        return ["No AMD GPU is on this host: nothing is done to its drivers."] if wanted else []
    if not managed or not changes:
        return []
    driver, rocm = host.host.get("installed_driver"), host.host.get("rocm")
    now = " and ".join(
        [
            f"the driver amdgpu {driver}" if driver else "no driver of AMD's packages",
            f"ROCm {rocm}" if rocm else "no ROCm",
        ]
    )
    return [f"The host has {now}; amdgpu {wishes.driver_version} and ROCm {wishes.version} will be installed."]


def _server(wishes: RocmWishes) -> str:
    return wishes.repository_url or rocm_sources.SERVER


def _repositories(host: _Host) -> list[dict[str, Any]]:
    if host.distribution is None:
        return []
    wishes, release = host.wishes, str((host.host.get("distribution") or {}).get("version"))
    return rocm_sources.repositories(host.distribution, _server(wishes), wishes.driver_version, wishes.version, release)


def _key(wishes: RocmWishes) -> dict[str, Any]:
    return {
        "url": wishes.repository_key_url or f"{_server(wishes)}/{rocm_sources.KEY}",
        "fingerprints": list(wishes.repository_fingerprints) or [rocm_sources.FINGERPRINT],
    }


def _preference(repositories: list[dict[str, Any]]) -> dict[str, Any]:
    """AMD's packages before the distribution's of the same names (rocminfo), and 1001 also allows a downgrade."""
    return {"packages": "*", "pin": f'origin "{urlsplit(repositories[0]["url"]).hostname or ""}"', "priority": 1001}
