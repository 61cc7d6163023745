# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decides what has to be done to a host's NVIDIA software: packages, repository, services, reboot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    driver_repository,
    driver_sources,
    generations,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_checks import (
    distribution_problems,
    driver_problems,
    fault_after,
    module_problems,
    reboot,
    serving_problems,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_sources import Distribution, Source
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.driver_wishes import Wishes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.releases import numbers
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.host_software import upstream

Facts = Mapping[str, Any]
# As patterns of apt.
_DRIVER_PACKAGES = "nvidia-* libnv* libcuda* cuda-drivers* firmware-nvidia-* xserver-xorg-video-nvidia*"
_MATCHED_PACKAGES = "nvidia-fabricmanager* libnvidia-nscq* nvidia-imex*"
# Of packages with these names and the driver's version, all are held.
_UPDATES = ("nvidia", "libnv", "libcuda", "cuda-drivers", "firmware-nvidia")
# What goes with the fabric manager of the fifth NVLink, of versions of its own.
_SUBNET_MANAGER, _SUBNET_TOOLS = "nvlsm", "infiniband-diags"
# dnf leaves them out of what is not this role's.
_RPM_EXCLUDES = ("nvidia-*", "libnvidia-*", "kmod-nvidia-*", "cuda-drivers*", _SUBNET_MANAGER)


@dataclass(frozen=True)
class _Host:
    """What the decision is made from."""

    wishes: Wishes
    cuda: Facts
    gpu: Facts
    distribution: Distribution | None

    @property
    def source(self) -> Source | None:
        """Where the driver comes from; None where it is left alone or its distribution is not known."""
        if self.distribution is None:
            return None
        return self.distribution.own if self.wishes.driver == "distribution" else self.distribution.nvidia

    @property
    def packages(self) -> Mapping[str, Facts]:
        return self.cuda.get("packages") or {}

    @property
    def installed(self) -> str | None:
        return self.cuda.get("installed_driver")

    def fabric(self, name: str) -> bool:
        """What was observed of the fabric manager."""
        return bool((self.cuda.get("fabric") or {}).get(name))

    @property
    def as_wished(self) -> bool:
        """Whether the driver's packages are of the branch, or just the version, that is wanted."""
        return bool(self.installed) and self.wishes.accepts(str(self.installed))


def plan(wishes: Mapping[str, Any], cuda_facts: Facts, gpu_facts: Facts) -> dict[str, Any]:
    """Decide. ``wishes`` are the role's variables without their prefix, the others what cuda_info and gpu_info said.

    Returns what is documented of the filter driver_plan. Raises InputError for a wish that cannot be understood.
    """
    wanted = Wishes.read(wishes)
    host = _Host(wanted, cuda_facts, gpu_facts, driver_sources.distribution_of(cuda_facts.get("distribution") or {}))
    pci = [gpu for gpu in gpu_facts.get("pci_gpus") or () if gpu.get("vendor") == "nvidia"]
    applies = bool(pci) or (gpu_facts.get("accelerator") == "cuda")
    managed = applies and wanted.driver != "keep"
    modules = generations.modules([gpu.get("device_id") for gpu in pci], wanted.modules)
    fabric = applies and _manages_fabric(host)
    imex = applies and bool(wanted.imex_nodes)
    packages = _Packages(host, applies, managed, fabric, imex, modules.kind)
    problems = _problems(host, managed, fabric or imex or packages.wants_others, modules) if applies else []
    nvlink = packages.nvlink_modules()
    if fabric and packages.modules_package() is None:
        problems += module_problems(nvlink, str(cuda_facts.get("kernel")))
    choice = _choice(host, packages) if applies and not problems else driver_repository.Choice()
    problems += choice.problems
    resets = fabric and _resets(host, packages)
    rebooting = reboot(managed, resets or (fabric and host.fabric("reset_due")), wanted.reboot, cuda_facts, gpu_facts)
    changes = _changes(host, packages, rebooting, imex) if applies and not problems else []
    return {
        "applies": applies,
        "managed": managed,
        "problems": problems,
        "notices": [*_notices(host, applies, managed, pci), *_found(packages, choice), *choice.notices],
        "manager": host.distribution.manager if host.distribution else None,
        "modules": modules.kind if managed else None,
        "branch": wanted.branch if managed else None,
        "repository": _repository(host) if packages.needs_nvidia and not problems and not choice.existing else None,
        "sources": _sources(host, packages, choice),
        "stream": packages.stream(),
        "preferences": _preferences(host, managed, choice.existing) if packages.needs_nvidia and not problems else [],
        "driver_packages": packages.driver(),
        "driver_specs": packages.driver_specs(),
        "matched_packages": packages.matched(),
        "other_packages": packages.others(),
        "hold": packages.to_hold() if wanted.hold else [],
        "release": packages.held() if not wanted.hold or packages.driver() else [],
        "fabric_manager": fabric,
        "nvlink_modules": sorted(nvlink),
        "load_modules": sorted(name for name, state in nvlink.items() if state != "loaded"),
        "imex": imex,
        "services": _services(host, applies, managed, fabric, imex),
        "resets": resets,
        "reboot": rebooting,
        "changes": changes,
        "disturbed": serving_problems(cuda_facts.get("serving") or (), changes),
        "fault": fault_after(managed, wanted.fabric_manager != "ignore", cuda_facts, gpu_facts) if applies else None,
    }


def _manages_fabric(host: _Host) -> bool:
    """Whether this role installs the fabric manager: where NVSwitches are in this host, and it installs the driver."""
    if host.wishes.fabric_manager in ("check", "ignore"):
        return False
    if host.wishes.fabric_manager == "auto" and host.wishes.driver == "keep":
        return False
    return generations.has_switches(host.gpu)


def _resets(host: _Host, packages: _Packages) -> bool:
    """Whether the fabric manager is started anew, although the GPUs have joined its fabric since the last boot."""
    exchanged = any(spec.startswith("nvidia-fabricmanager") for spec in packages.matched())
    return host.fabric("ran") and (exchanged or not host.fabric("runs"))


def _changes(host: _Host, packages: _Packages, rebooting: Facts, imex: bool) -> list[str]:
    """What would be done that an engine does not survive, or whose libraries it has open; as parts of a sentence."""
    target = host.wishes.version or host.wishes.branch
    found = []
    if packages.driver():
        from_now = f"changed from {host.installed} to {target}" if host.installed else f"installed ({target})"
        found.append(f"the NVIDIA driver would be {from_now}")
    if packages.matched():
        found.append(f"these packages would be installed: {', '.join(packages.matched())},")
    elif packages.fabric and not host.fabric("runs") and "fabric" in host.cuda:
        found.append("the fabric manager would be started")
    if rebooting["needed"] and rebooting["allowed"]:
        found.append("the host would be rebooted")
    if imex and host.cuda.get("imex_nodes", list(host.wishes.imex_nodes)) != list(host.wishes.imex_nodes):
        found.append("IMEX would be restarted with other hosts")
    return found


def _problems(host: _Host, managed: bool, others: bool, modules: generations.Modules) -> list[str]:
    found = []
    if managed or others:
        found += distribution_problems(host.wishes, host.cuda, host.distribution, host.source)
    if managed and not found:
        found += modules.problems(host.wishes.branch)
        found += driver_problems(host.wishes, host.cuda, host.gpu, host.as_wished)
    return found


def _notices(host: _Host, applies: bool, managed: bool, pci: Sequence[Facts]) -> list[str]:
    found: list[str] = []
    if not applies:
        wanted = host.wishes.driver != "keep"
        return ["No NVIDIA GPU is on this host: nothing is done to its drivers."] if wanted else found
    if managed and not host.as_wished:
        now = f"NVIDIA driver {host.installed}" if host.installed else "no packages of an NVIDIA driver"
        target = host.wishes.version or host.wishes.branch
        found.append(f"The host has {now}; NVIDIA driver {target} will be installed.")
    if any(generations.is_nvl72(gpu.get("device_id")) for gpu in pci) and not host.wishes.imex_nodes:
        found.append(
            "This host belongs to a rack-wide NVLink domain. Engines that span its hosts need IMEX: list the "
            "addresses of the domain's hosts in cuda_imex_nodes."
        )
    return found


def _repository(host: _Host) -> dict[str, Any] | None:
    distribution = host.distribution
    if distribution is None:
        return None
    machine = driver_sources.ARCHITECTURES.get(str(host.cuda.get("machine")), "x86_64")
    url = (host.wishes.repository_url or f"{driver_sources.SERVER}/{distribution.path}/{machine}").rstrip("/")
    return {
        "url": url,
        "key_url": host.wishes.repository_key_url or f"{url}/{distribution.key_file}",
        "fingerprints": list(host.wishes.repository_fingerprints) or [distribution.fingerprint],
    }


def _choice(host: _Host, packages: _Packages) -> driver_repository.Choice:
    """Which of the host's sources is used; also where only an older run of this role left one beside another."""
    distribution, repository = host.distribution, _repository(host)
    sources: Sequence[Facts] = host.cuda.get("sources") or ()
    if distribution is None or repository is None:
        return driver_repository.Choice()
    own = any(entry["path"] == driver_repository.OWN[distribution.manager] for entry in sources)
    if not packages.needs_nvidia and not own:
        return driver_repository.Choice()
    wanted = driver_repository.Wanted(
        manager=distribution.manager,
        path=distribution.path,
        machine=str(host.cuda.get("machine")),
        url=repository["url"],
        explicit=bool(host.wishes.repository_url),
        fingerprints=repository["fingerprints"],
        offers=packages.offered,
        what=f"the driver {packages.wanted_version}",
    )
    return driver_repository.choose(wanted, sources, host.cuda.get("trusted_keys") or ())


def _found(packages: _Packages, choice: driver_repository.Choice) -> list[str]:
    """Where packages come from, where some are to be installed."""
    used = choice.existing
    if used is None or not [*packages.driver(), *packages.matched(), *packages.others()]:
        return []
    return [f"NVIDIA's packages come from {used['uri']}, which {used['path']} has already."]


def _sources(host: _Host, packages: _Packages, choice: driver_repository.Choice) -> dict[str, Any]:
    """What is done to the files of the host's sources, and which repository dnf looks into in spite of excludes."""
    used = choice.existing
    on_dnf = host.distribution is not None and host.distribution.manager == "dnf"
    excludes = None
    if used and on_dnf and (packages.managed or packages.fabric):
        excludes = {"path": used["path"], "place": used["place"], "packages": list(_RPM_EXCLUDES)}
    return {
        "settle": bool(choice.disable or choice.remove or excludes),
        "uri": used["uri"] if used else None,
        "file": used["path"] if used else None,
        "repo": str(used["place"]) if used and on_dnf else driver_repository.OWN_REPO,
        "disable": choice.disable,
        "remove": choice.remove,
        "excludes": excludes,
        "rpm_excludes": list(_RPM_EXCLUDES),
    }


def _preferences(host: _Host, managed: bool, existing: Facts | None) -> list[dict[str, Any]]:
    """Which of the repository's packages apt takes; of records for one package the first counts (apt_preferences(5)).

    The wanted branch above all else, where 1001 also allows a downgrade. Where the driver is left alone, or is the
    distribution's own, none of the repository's drivers, and what goes with the loaded one in just its version.
    """
    if managed and host.wishes.driver == "nvidia":
        return [{"packages": _DRIVER_PACKAGES, "pin": f"version {host.wishes.pin}", "priority": 1001}]
    repository, loaded = _repository(host), host.gpu.get("driver_version")
    uri = existing["uri"] if existing else repository["url"] if repository else None
    origin = f'origin "{urlsplit(uri).hostname or ""}"' if uri else None
    matched = [{"packages": _MATCHED_PACKAGES, "pin": f"version {loaded}-*", "priority": 1001}] if loaded else []
    return [*matched, {"packages": _DRIVER_PACKAGES, "pin": origin, "priority": -1}]


def _services(host: _Host, applies: bool, managed: bool, fabric: bool, imex: bool) -> list[str]:
    if not applies:
        return []
    wanted = host.wishes
    return [
        *(["nvidia-persistenced.service"] if managed and wanted.persistenced else []),
        *(["nvidia-fabricmanager.service"] if fabric else []),
        *(["nvidia-imex.service"] if imex else []),
        *(["nvidia-dcgm.service"] if wanted.dcgm else []),
    ]


@dataclass(frozen=True)
class _Packages:
    """Which packages are missing or of another version."""

    host: _Host
    applies: bool
    managed: bool
    fabric: bool
    imex: bool
    modules: str

    @property
    def wants_others(self) -> bool:
        return self.applies and bool(self.host.wishes.toolkit or self.host.wishes.dcgm)

    @property
    def needs_nvidia(self) -> bool:
        """Whether anything comes from NVIDIA's repository."""
        wishes = self.host.wishes
        own = wishes.driver == "distribution"
        return (self.managed and not own) or self.wants_others or ((self.fabric or self.imex) and not own)

    def _named(self, names: Sequence[str], branch: int | None = None) -> list[str]:
        return [name.format(branch=branch or self.host.wishes.branch) for name in names]

    def stream(self) -> str | None:
        """The module stream of dnf to enable before the driver is installed."""
        source = self.host.source
        if not self.driver() or source is None:
            return None
        stream = source.open_stream if self.modules == "open" else source.proprietary_stream
        return stream.format(branch=self.host.wishes.branch) if stream else None

    def _names(self) -> list[str]:
        """The driver's own packages."""
        source = self.host.source
        if not self.managed or source is None:
            return []
        return self._named(source.open_modules if self.modules == "open" else source.proprietary_modules)

    def driver(self) -> list[str]:
        """Packages to install or to change; empty where the driver is as wished."""
        distribution, names = self.host.distribution, self._names()
        if not names or distribution is None or (self.host.as_wished and set(names) <= set(self.host.packages)):
            return []
        kernel = str(self.host.cuda.get("kernel"))
        # It has to be of the driver's age, and there is no other way to say so.
        subnet = [_SUBNET_MANAGER] if self._hgx() and _SUBNET_MANAGER in self.host.packages else []
        return [*driver_sources.headers(distribution.headers, distribution.name, kernel), *names, *subnet]

    def driver_specs(self) -> list[str]:
        """The same as the package manager is given them, NVIDIA's own in the version that is wanted.

        apt takes a pattern; of dnf's packages those of a branch are chosen by its module stream.
        """
        wishes, distribution = self.host.wishes, self.host.distribution
        if wishes.driver != "nvidia" or distribution is None:
            return self.driver()
        mark = f"={wishes.pin}" if distribution.manager == "apt" else f"-{wishes.version}" if wishes.version else ""
        return [f"{name}{mark}" if name in self._names() else name for name in self.driver()]

    @property
    def wanted_version(self) -> str:
        """Which driver the repository has to have, for a sentence."""
        wishes = self.host.wishes
        return (wishes.version or str(wishes.branch)) if self.managed else str(self.host.gpu.get("driver_version"))

    def offered(self, versions: Sequence[str]) -> bool:
        """Whether a repository with these versions of the driver has what is to be installed."""
        if self.managed and self.host.wishes.driver == "nvidia":
            return any(self.host.wishes.accepts(version) for version in versions)
        return not (self.fabric or self.imex) or self.host.gpu.get("driver_version") in versions

    def _hgx(self) -> bool:
        return self.fabric and generations.on_hgx_blackwell(self.host.gpu)

    def nvlink_modules(self) -> dict[str, str]:
        """Kernel modules that the subnet manager needs, with their states."""
        return dict(self.host.cuda.get("nvlink_modules") or {}) if self._hgx() else {}

    def modules_package(self) -> str | None:
        """The package that brings them; None where nothing is missing or none is known. Ubuntu has them apart."""
        distribution = self.host.distribution
        if "missing" in self.nvlink_modules().values() and distribution and distribution.name.startswith("Ubuntu"):
            return f"linux-modules-extra-{self.host.cuda.get('kernel')}"
        return None

    def matched(self) -> list[str]:
        """Packages that must be of just the driver's version, where they are not; without one when it is not known."""
        source, distribution = self.host.source, self.host.distribution
        if source is None or distribution is None:
            return []
        version = self.host.installed if self.managed else self.host.gpu.get("driver_version")
        if self.managed and not self.host.as_wished:
            version = None
        branch = numbers(version)[0] if version else None
        names = self._named(source.fabric_manager, branch) if self.fabric else []
        names += self._named(source.imex, branch) if self.imex else []
        more = [_SUBNET_MANAGER, _SUBNET_TOOLS] if self._hgx() else []
        more = [name for name in [*more, self.modules_package()] if name and name not in self.host.packages]
        if version is None:
            return [*names, *more]
        return [*(spec for name in names for spec in self._spec(name, version, distribution.manager)), *more]

    def _spec(self, name: str, version: str, manager: str) -> list[str]:
        has = self.host.packages.get(name)
        if has and upstream(str(has["version"])) == version:
            return []
        return [f"{name}={version}-*" if manager == "apt" else f"{name}-{version}"]

    def others(self) -> list[str]:
        """The toolkit and DCGM, where they are missing. DCGM 4 is built for each major version of CUDA."""
        wishes = self.host.wishes
        if not self.wants_others:
            return []
        names = [f"cuda-toolkit-{wishes.toolkit.replace('.', '-')}"] if wishes.toolkit else []
        names += ["datacenter-gpu-manager-4-cuda13"] if wishes.dcgm else []
        return [name for name in names if name not in self.host.packages]

    def _of_the_driver(self) -> list[str]:
        version = self.host.installed
        found = [
            name
            for name, package in self.host.packages.items()
            if version and name.startswith(_UPDATES) and upstream(str(package["version"])) == version
        ]
        return sorted([*found, *([_SUBNET_MANAGER] if self._hgx() and _SUBNET_MANAGER in self.host.packages else [])])

    def to_hold(self) -> list[str]:
        """Packages of the driver's version that are not held yet; none on a host whose driver is left alone."""
        if not self.managed and not self.fabric:
            return []
        return [name for name in self._of_the_driver() if self.host.packages[name].get("held") is False]

    def held(self) -> list[str]:
        """Packages of the driver's version that are held."""
        if not self.managed and not self.fabric:
            return []
        return [name for name in self._of_the_driver() if self.host.packages[name].get("held")]
