"""A systemd node made of this machine's own root: the machine's programs and GPUs, changes kept in an overlay.

For a machine with GPUs on which engines are to run as on a host, without changing the machine: systemd-nspawn boots an
overlay of "/" with the GPUs' device files and the driver's mounts bound in. Where the machine has no systemd, as in a
container or a small virtual machine, Debian's packages of it are laid over the root.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.nodes import machine
from tools.nodes.errors import NodeError
from tools.nodes.image import remove_tree
from tools.nodes.machine import Bind, Machine
from tools.nodes.root import write
from tools.nodes.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Of Debian 12: systemd and ip, which the roles ask for addresses, and each library that these need and a small machine
# may lack. Together 14 MB.
PACKAGES = (
    *("systemd", "systemd-sysv", "systemd-container", "libsystemd0", "libsystemd-shared", "libnss-systemd"),
    *("dbus", "dbus-daemon", "dbus-bin", "dbus-session-bus-common", "dbus-system-bus-common", "libdbus-1-3"),
    *("libacl1", "libapparmor1", "libargon2-1", "libaudit1", "libblkid1", "libbz2-1.0", "libcap2", "libcap-ng0"),
    *("libcrypt1", "libcryptsetup12", "libdevmapper1.02.1", "libexpat1", "libfdisk1", "libgcrypt20"),
    *("libgpg-error0", "libip4tc2", "libjson-c5", "libkmod2", "liblz4-1", "liblzma5", "libmount1", "libpam0g"),
    *("iproute2", "libbpf1", "libbsd0", "libdb5.3", "libelf1", "libmd0", "libmnl0", "libtirpc3"),
    *("libpcre2-8-0", "libseccomp2", "libselinux1", "libssl3", "libudev1", "libuuid1", "libxtables12", "libzstd1"),
)
PACKAGES_SUITE = "bookworm"
# Device files of a GPU and of the driver; folders are bound whole.
_DEVICES = re.compile(r"nvidia\d+|nvidiactl|nvidia-(modeset|uvm|uvm-tools|caps|caps-imex-channels)|nvidia-nvswitch.*")
# Mounts that bring the driver's files to a machine: whole folders, or file by file as container tools do it.
_DRIVER_MOUNT = re.compile(r"nvidia|libcuda|libnv", re.IGNORECASE)
_VIRTUAL_PLACES = ("/proc", "/sys", "/dev", "/run")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# Folders that a merged root has below /usr.
_MERGED = ("bin", "sbin", "lib", "lib64")
# Of the overlaid packages; the machine's own settings of the loader and of PAM hold.
_LEFT_OUT = ("etc/ld.so.conf", "etc/ld.so.conf.d", f"{_LIBRARIES}/security")
# They would answer in the machine's name: the node shares its network.
_MASKED = ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "ssh", "sshd")
_BOOT_S = 60
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def device_files(names: Iterable[str]) -> list[str]:
    """The device files of GPUs among the names in /dev, as paths."""
    return [f"/dev/{name}" for name in sorted(names) if _DEVICES.fullmatch(name)]


def driver_mounts(mountinfo: str) -> list[str]:
    """Where files of the driver are mounted, from /proc/self/mountinfo; the overlay does not see other mounts."""
    places = []
    for line in mountinfo.splitlines():
        place = line.split()[4].replace("\\040", " ")
        virtual = any(place == top or place.startswith(f"{top}/") for top in _VIRTUAL_PLACES)
        if _DRIVER_MOUNT.search(place) and not virtual:
            places.append(place)
    return sorted(set(places))


def is_overlay(mountinfo: str) -> bool:
    """Whether "/" itself is an overlay, below which the kernel makes no second one with an upper folder there."""
    kinds = [line.partition(" - ")[2].split()[0] for line in mountinfo.splitlines() if line.split()[4] == "/"]
    return bool(kinds) and kinds[-1] == "overlay"


def missing_packages(names: Iterable[str]) -> list[str]:
    """Packages of which a folder has no file, by the names of its files."""
    have = {name.partition("_")[0] for name in names if name.endswith(".deb")}
    return [package for package in PACKAGES if package not in have]


def entered(
    pid: int, command: Sequence[str], environment: Mapping[str, str], folder: str, seconds: float | None = None
) -> list[str]:
    """The command line by which a command runs in the node, with only this environment, in a folder of the node.

    As a unit of the node: a process that only entered its namespaces stays in a control group of the machine, out of
    which the node's systemd cannot move it (`systemd-run --scope` ends without a word; Linux 6.18, 2026-12-01).
    """
    variables = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **environment}
    return [
        *("nsenter", f"--target={pid}", "--all", "systemd-run", "--quiet", "--collect", "--pipe", "--wait"),
        *("--service-type=exec", f"--working-directory={folder}"),
        *([f"--property=RuntimeMaxSec={seconds:.0f}"] if seconds is not None else []),
        *(f"--setenv={name}={value}" for name, value in variables.items()),
        # finds the command by that PATH
        *("--", "env", *command),
    ]


def init_of(members: Mapping[int, str]) -> int | None:
    """Which of the node's processes is its first, by the NSpid lines of their /proc/PID/status."""
    for pid, status in sorted(members.items()):
        numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        if len(numbers) > 1 and numbers[-1] == "1":
            return pid
    return None


@dataclass(frozen=True)
class OwnRoot:
    """The node: its name, the folder of its files, and Debian's packages of systemd where the machine has none."""

    name: str
    folder: Path
    packages: Path | None = None
    binds: tuple[Bind, ...] = ()
    without_gpu: bool = False

    @property
    def root(self) -> Path:
        """Where the overlay is mounted."""
        return self.folder / "root"

    @property
    def _systemd(self) -> Path:
        return self.folder / "systemd"

    def up(self) -> None:
        """Make and boot it; one that runs is left alone. Raises NodeError."""
        if self.pid() is not None:
            print(f"{self.name}: running already, reused", flush=True)
            return
        mountinfo = Path("/proc/self/mountinfo").read_text()
        devices = device_files(path.name for path in Path("/dev").iterdir())
        self._check(mountinfo, devices)
        self._make(mountinfo)
        mounts = [] if self.without_gpu else driver_mounts(mountinfo)
        shared = [
            Bind(path, path, read_only) for paths, read_only in ((devices, False), (mounts, True)) for path in paths
        ]
        process = machine.boot(self._machine([*shared, *self.binds]))
        self._wait(process)
        self._settle(mounts)
        print(f"{self.name}: booted, {len(devices)} device files, {len(mounts)} mounts of the driver", flush=True)

    def down(self) -> None:
        """Stop it and remove its files."""
        machine.stop(self._machine([]))
        if self.root.is_mount():
            run(["umount", str(self.root)])
        remove_tree(self.folder)

    def pid(self) -> int | None:
        """The node's first process, as the machine numbers it; None where the node does not run."""
        statuses = {}
        for pid in machine.members(self._label):
            with contextlib.suppress(OSError):
                statuses[pid] = Path(f"/proc/{pid}/status").read_text()
        return init_of(statuses)

    def command(
        self,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
        seconds: float | None = None,
    ) -> list[str]:
        """How a command is run in the node, as words; systemd ends it after so many seconds.

        Raises NodeError where the node does not run.
        """
        pid = self.pid()
        if pid is None:
            raise NodeError(f"Node {self.name} does not run. Boot it: tools/gpu_node.py up")
        return entered(pid, words, environment or {}, folder, seconds)

    @property
    def _label(self) -> str:
        return f"gpufleet-own-{self.name}"

    def _machine(self, binds: Sequence[Bind]) -> Machine:
        own = self._systemd / "usr"
        libraries = [own / "lib/x86_64-linux-gnu/systemd", own / "lib/systemd", own / "lib/x86_64-linux-gnu"]
        return Machine(
            machine=self._label,
            hostname=self.name,
            root=self.root,
            log=self.folder / "console.log",
            bridge="",
            suite="own",
            binds=tuple(binds),
            identity=self.folder / "machine-id",
            program=str(own / "bin/systemd-nspawn") if own.exists() else "systemd-nspawn",
            libraries=tuple(map(str, libraries)) if own.exists() else (),
        )

    def _check(self, mountinfo: str, devices: Sequence[str]) -> None:
        """Raise NodeError for what the machine lacks."""
        if not devices and not self.without_gpu:
            raise NodeError(
                "This machine has no device files of NVIDIA GPUs in /dev: load the driver (nvidia-smi does), or make a "
                "node without GPUs with --without-gpu."
            )
        if is_overlay(mountinfo) and str(self.folder).startswith("/") and not self._on_another_mount(mountinfo):
            raise NodeError(
                f"The root of this machine is an overlay, and {self.folder} lies on it, where the kernel makes no "
                "other one: name a folder on a disk or in memory with --folder."
            )
        if self.packages is None:
            for tool, path in (("systemd-nspawn", None), ("systemd", Path("/usr/lib/systemd/systemd"))):
                if not (path.exists() if path else shutil.which(tool)):
                    raise NodeError(
                        f"This machine has no {tool}. Install systemd, systemd-sysv, systemd-container and dbus, or "
                        "bring Debian's packages (tools/gpu_node.py packages DIR, on a machine with Debian 12) and "
                        "name them with --packages DIR."
                    )
            return
        if not shutil.which("dpkg-deb"):
            raise NodeError("This machine has no dpkg-deb, which unpacks Debian's packages: install dpkg.")
        missing = missing_packages(path.name for path in self.packages.glob("*.deb"))
        if missing:
            raise NodeError(
                f"{self.packages} lacks {', '.join(missing)}: fetch them with tools/gpu_node.py packages DIR."
            )

    def _on_another_mount(self, mountinfo: str) -> bool:
        """Whether the folder's file system is another than that of "/"."""
        top = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return top.stat().st_dev != Path("/").stat().st_dev

    def _make(self, mountinfo: str) -> None:
        """Lay the overlay, and make it a root that boots."""
        if str(self.root) in [line.split()[4] for line in mountinfo.splitlines()]:
            run(["umount", str(self.root)])
        remove_tree(self.folder)
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        if self.packages is not None:
            self._unpack(self.packages)
            run(["cp", "--archive", f"{self._systemd}/.", str(self.folder / "upper")])
        options = f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work"
        run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)])
        self._identify()

    def _unpack(self, packages: Path) -> None:
        """Unpack Debian's packages as a merged root, without what the machine has."""
        top = self._systemd
        top.mkdir()
        for package in sorted(packages.glob("*.deb")):
            run(["dpkg-deb", "--extract", str(package), str(top)])
        for name in _MERGED:
            folder = top / name
            if folder.is_dir() and not folder.is_symlink():
                (top / "usr" / name).mkdir(parents=True, exist_ok=True)
                run(["cp", "--archive", f"{folder}/.", str(top / "usr" / name)])
                shutil.rmtree(folder)
        for path in _LEFT_OUT:
            remove_tree(top / path) if (top / path).is_dir() else (top / path).unlink(missing_ok=True)
        own = Path("/") / _LIBRARIES
        for library in (top / _LIBRARIES).glob("*.so*"):
            if (own / library.name).exists():
                library.unlink()

    def _identify(self) -> None:
        """A name and an identity of its own, and none of the services that this machine runs."""
        root = self.root
        write(root, "/etc/hostname", f"{self.name}\n")
        write(root, "/etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
        write(root, "/etc/fstab", "")
        run(["find", str(root / "etc/systemd/system"), "-mindepth", "1", "-delete"], check=False)
        run(["find", str(root / "etc"), "-maxdepth", "2", "-path", "*/rc?.d/*", "-delete"])
        (root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        for unit in _MASKED:
            (root / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")
        self._add_user("messagebus")

    def _add_user(self, name: str) -> None:
        """The user of the message bus, where the packages were only unpacked."""
        users, groups = (self.root / "etc" / name for name in ("passwd", "group"))
        taken = [line.split(":") for line in users.read_text().splitlines() + groups.read_text().splitlines()]
        if any(fields[0] == name for fields in taken):
            return
        number = next(
            n for n in range(998, 100, -1) if str(n) not in {fields[2] for fields in taken if len(fields) > 2}
        )
        for path, line in (
            (users, f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"),
            (groups, f"{name}:x:{number}:\n"),
        ):
            text = path.read_text()
            write(self.root, f"/etc/{path.name}", text + line)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until systemd says that it has started. Raises NodeError with the console's last lines."""
        deadline = time.monotonic() + _BOOT_S
        while time.monotonic() < deadline and process.poll() is None:
            pid = self.pid()
            if pid is not None:
                done = subprocess.run(
                    ["nsenter", f"--target={pid}", "--all", "systemctl", "is-system-running"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.5)
        ended = f"ended with exit status {process.returncode}" if process.returncode is not None else "did not start"
        raise NodeError(f"Node {self.name} {ended} within {_BOOT_S} s.\n{machine.last_words(self._machine([]))}")

    def _settle(self, mounts: Sequence[str]) -> None:
        """Make the root writable, and let the loader and the shell find the driver where it lies apart."""
        self._do(["mount", "-o", "remount,rw", "/"])
        folders = {str(path.parent) for place in mounts for path in Path(place).rglob("libcuda.so.1") if path.exists()}
        if folders:
            text = "".join(f"{folder}\n" for folder in sorted(folders))
            self._do(["sh", "-c", 'printf %s "$0" > /etc/ld.so.conf.d/gpu-node.conf && ldconfig', text])
        for program in (path for place in mounts for path in Path(place).rglob("nvidia-smi") if path.is_file()):
            self._do(["sh", "-c", 'command -v nvidia-smi >/dev/null || ln -s "$0" /usr/bin/nvidia-smi', str(program)])

    def _do(self, words: Sequence[str]) -> str:
        return run(self.command(words))


def fetch_packages(folder: Path) -> None:
    """Fetch Debian's packages with apt-get. Raises NodeError where this is not the Debian that has them."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if f"VERSION_CODENAME={PACKAGES_SUITE}" not in release.splitlines():
        raise NodeError(f"The packages are those of Debian 12 ({PACKAGES_SUITE}): fetch them on a machine with it.")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["apt-get", "download", "--quiet", *PACKAGES], cwd=folder, check=False)
    if done.returncode != 0:
        raise NodeError("`apt-get download` failed; its own words are above. Run `apt-get update` first.")
    print(f"{folder}: {len(PACKAGES)} packages", flush=True)
