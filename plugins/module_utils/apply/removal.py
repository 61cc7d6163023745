# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take instances, or all of the collection, from a host. What is not the collection's own is left alone."""

from __future__ import annotations

import contextlib
import pwd
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.claim import Foreign, claim
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.credentials import ENCRYPTED, PLAIN
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import NAME
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd

SETTINGS = Path("/etc/vllm")
UNITS = Path("/etc/systemd/system")
CACHES = Path("/var/cache/vllm")
STATE = Path("/var/lib/vllm")
RUNNING = ("active", "activating", "deactivating", "reloading")
UNIT = re.compile(r"vllm@(.+)\.service(?:\.d)?")
# What the roles put into the folder of the engine.
ENGINE = ("current", "instances", "releases", "installer", "bundle", "cache")
# Units of the role serve that are not an instance's own.
OURS = ("vllm@.service", "vllm-nvidia.service")
# Transient units of the roles engine, model and nccl_check, and where they keep what they need while they run.
TRANSIENT = "gpufleet-*"
SLICE = "system-vllm.slice"
RUNTIME = ("/run/gpufleet-nccl", "/run/gpufleet-download")

# Services of the distribution and of NVIDIA that the roles gateway and monitoring run: the drop-in of their unit, and
# what else is theirs.
PACKAGED = {
    "haproxy.service": (
        "vllm.conf",
        (
            *("/etc/haproxy/haproxy.cfg", "/etc/haproxy/vllm"),
            *("/usr/local/lib/vllm-gateway", "/var/lib/haproxy/vllm-servers"),
            "/var/lib/haproxy/vllm-servers.lock",
        ),
    ),
    "nvidia-dcgm-exporter.service": ("gpufleet.conf", ("/etc/dcgm-exporter/gpufleet.csv",)),
}

# Runs a program; returns its status, output and errors.
Run = Callable[[Sequence[str]], tuple[int, str, str]]


def unit_of(name: str) -> str:
    """Name of the unit of an instance."""
    return f"vllm@{name}.service"


def instance_places(name: str, root: Path) -> list[Path]:
    """Everything that an instance has on a host; ``root`` is the folder of the engine."""
    return [
        *sorted(UNITS.glob(f"*.wants/{unit_of(name)}")),
        UNITS / f"{unit_of(name)}.d",
        SETTINGS / f"{name}.yaml",
        SETTINGS / f"{name}.env",
        root / "instances" / name,
        CACHES / name,
        SETTINGS / "good" / name,
        # through a link, files of others would be shown and removed
        *(folder / f"{name}.json" for folder in records() if not folder.is_symlink()),
    ]


def records() -> list[Path]:
    """Folders in which each instance has a file."""
    return [STATE / "receipts", STATE / "checks"]


class Removal:
    """Stops units and removes files; with a ``writer`` in check mode says what it would. Raises OSError."""

    def __init__(self, writer: Writer, run: Run) -> None:
        self.writer = writer
        self.run = run
        self.stopped: list[str] = []

    def claim(self, folders: Iterable[Path]) -> None:
        """Take folders from the user of the service, so that none becomes a link meanwhile."""
        if not self.writer.check:
            # what is a link is passed over
            with contextlib.suppress(Foreign):
                claim([folder for folder in folders if folder.exists()], self.run)

    def stop(self, unit: str, properties: dict[str, str]) -> None:
        """Stop a unit, which ends when its requests are answered or its time is over. Raises GpufleetError."""
        state = properties.get("ActiveState")
        if state == "failed":
            self._systemctl("reset-failed", unit)
        if state not in RUNNING:
            return
        self.stopped.append(unit)
        self._systemctl("stop", unit)
        if not self.writer.check:
            # one that died on the way down is failed now
            self.run(["systemctl", "reset-failed", unit])

    def instances(self, names: Sequence[str], root: Path) -> None:
        """Remove instances, one after the other."""
        self.claim(records())
        found = systemd.show([unit_of(name) for name in names]) if names else {}
        for name in names:
            self.stop(unit_of(name), found.get(unit_of(name), {}))
            for place in instance_places(name, root):
                self.writer.absent(place)
        self._reload()

    def host(self, root: Path, models: Collection[Path], keep_models: bool) -> None:
        """Remove what is left when the instances are gone; ``models`` are the folders that hold weights."""
        for unit in self._transient():
            self.stop(unit, {"ActiveState": "active"})
        if not self.writer.check:
            # systemd keeps the slice of the instances beyond the last of them
            self.run(["systemctl", "stop", SLICE])
        for name in OURS:
            self.writer.absent(UNITS / name)
        self._reload()
        for path in (ENCRYPTED, PLAIN):
            self.writer.absent(Path(path), shown=False)
        for folder in (SETTINGS, CACHES, *map(Path, RUNTIME)):
            self.writer.absent(folder)
        for name in ENGINE:
            self.writer.absent(root / name)
        self._state(models, keep_models)
        if not self.writer.check and root.is_dir() and not any(root.iterdir()):
            self.writer.absent(root)

    def packaged(self) -> None:
        """Stop the services of others that run from files of this collection, and remove those. Raises GpufleetError.

        A configuration that somebody else has written since stays, and its service runs on from that.
        """
        for unit, (name, places) in PACKAGED.items():
            drop_in = UNITS / f"{unit}.d" / name
            files = [drop_in, *map(Path, places)]
            others = [file for file in files if file.is_file() and not is_ours(file)]
            if drop_in.exists() and not others:
                self._disable(unit)
            for file in files:
                if file not in others:
                    self.writer.absent(file)
            if drop_in.parent.is_dir() and not any(path != drop_in for path in drop_in.parent.iterdir()):
                self.writer.absent(drop_in.parent)
        self._reload()

    def _disable(self, unit: str) -> None:
        state = systemd.show([unit]).get(unit, {})
        self.stop(unit, state)
        if state.get("UnitFileState") == "enabled":
            self._systemctl("disable", unit)

    def user(self, name: str) -> bool:
        """Remove the user of the service, when it is the one that the role serve makes. Raises GpufleetError."""
        if not owned_user(name):
            return False
        if not self.writer.check:
            code, out, err = self.run(["userdel", name])
            if code:
                raise GpufleetError(f"userdel {name} failed: {(err or out).strip()}.")
        return True

    def _state(self, models: Collection[Path], keep_models: bool) -> None:
        kept = [folder for folder in models if folder.is_dir() and any(folder.iterdir())] if keep_models else []
        for folder in () if keep_models else models:
            self.writer.absent(folder)
        if not any(folder.is_relative_to(STATE) for folder in kept):
            self.writer.absent(STATE)
            return
        # its user goes
        self.claim(kept)
        for entry in sorted(STATE.iterdir()):
            if not any(folder.is_relative_to(entry) for folder in kept):
                self.writer.absent(entry)

    def _transient(self) -> list[str]:
        _code, out, _err = self.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", TRANSIENT])
        return sorted(line.split()[0] for line in out.splitlines() if line.strip())

    def _reload(self) -> None:
        if self.writer.touched(UNITS):
            self._systemctl("daemon-reload")

    def _systemctl(self, *arguments: str) -> None:
        if self.writer.check:
            return
        code, out, err = self.run(["systemctl", *arguments])
        if code:
            raise GpufleetError(f"systemctl {' '.join(arguments)} failed: {(err or out).strip()}.")


def instances_of(run: Run, root: Path) -> list[str]:
    """Names of all instances that a host has something of."""
    found = {path.stem for path in (*SETTINGS.glob("*.yaml"), *SETTINGS.glob("*.env"))}
    found |= {path.name for folder in (root / "instances", CACHES) if folder.is_dir() for path in folder.iterdir()}
    found |= {path.stem for folder in ("receipts", "checks") for path in (STATE / folder).glob("*.json")}
    _code, out, _err = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "vllm@*.service"])
    units = [line.split()[0] for line in out.splitlines() if line.strip()]
    units += [path.name for pattern in ("*.wants/vllm@*.service", "vllm@*.service.d") for path in UNITS.glob(pattern)]
    found |= {match[1] for unit in units if (match := UNIT.fullmatch(unit))}
    # a file that anybody made may be called ``...json``, and its stem is then a way out of the folders
    return sorted(name for name in found if NAME.fullmatch(name))


def is_ours(file: Path) -> bool:
    """Tell whether a file that says who wrote it was written by this collection; one of data says nothing."""
    text = text_of(file) or ""
    return text.startswith(good_states.OURS) or file.suffix not in (".cfg", ".conf")


def owned_user(name: str) -> bool:
    """Tell whether a user is the one that the role serve makes: with this home and no shell."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return False
    return entry.pw_dir == str(STATE) and entry.pw_shell == "/usr/sbin/nologin"
