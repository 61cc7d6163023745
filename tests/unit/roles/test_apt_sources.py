"""What the role cuda makes of the sources that hosts have, with a real apt on a root of its own.

The steps are the role's: observe, decide, take out of use, write. The scenario `cuda` does the same on nodes.
"""

from __future__ import annotations

import base64
import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import driver
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import driver_surroundings
from ansible_collections.gpufleet.vllm.plugins.modules import cuda_sources

from tests.unit.driver_samples import WISHES, gpus, host
from tests.unit.plugins.modules.running import run
from tests.unit.samples import CHECKOUT

Capture = pytest.CaptureFixture[str]
PROGRAMS = ("apt-get", "dpkg-deb", "gpg")
pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in PROGRAMS), reason=f"needs {', '.join(PROGRAMS)} (Debian, Ubuntu)"
)
OFFICIAL = "http://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
MIRROR = "http://mirror.example.com/nvidia/cuda/repos/debian12/x86_64"
PLACES = ("compute/cuda/repos/debian12/x86_64", "nvidia/cuda/repos/debian12/x86_64")
DISK = "/var/cuda-repo-debian12-13-0-local"


class Handler(SimpleHTTPRequestHandler):
    """A proxy that answers for every server from one folder."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(urlsplit(path).path)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@dataclass
class Server:
    """Where packages come from: a proxy, the folder of the repository, and its key."""

    proxy: str
    folder: Path
    key: bytes
    fingerprint: str


def shared() -> Any:
    """The maker of repositories of the scenarios."""
    path = CHECKOUT / "molecule/shared/debian_repository.py"
    spec = importlib.util.spec_from_file_location("debian_repository", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["debian_repository"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    maker, root = shared(), tmp_path_factory.mktemp("web")
    packages = root / PLACES[0]
    with maker.key() as signing:
        for version in ("580.95.05-1", "590.48.01-1"):
            maker.build(maker.Package("nvidia-driver-cuda", version), packages)
        maker.flat(packages, signing)
        signing.export(packages / "key.pub")
        fingerprint = signing.fingerprint
    (root / PLACES[1]).parent.mkdir(parents=True)
    (root / PLACES[1]).symlink_to(packages)
    body = (packages / "key.pub").read_text().split("\n\n", 1)[1].split("-----END", 1)[0]
    key = base64.b64decode("".join(line for line in body.splitlines() if not line.startswith("=")))
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield Server(f"http://127.0.0.1:{http.server_address[1]}", packages, key, fingerprint)
    http.shutdown()


class Machine:
    """A root with apt's files. Keys lie outside of it, since apt takes their paths as they are written."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        self.parts = root / "etc/apt/sources.list.d"
        for name in ("etc/apt/sources.list.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial", "var/lib/dpkg"):
            (root / name).mkdir(parents=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        self.keyring = root / "keys/cuda-archive-keyring.gpg"
        self.own_key = root / "keys/own.asc"
        for path in (
            self.keyring,
            self.own_key,
            root / str(self.keyring).lstrip("/"),
            root / str(self.own_key).lstrip("/"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            armored = path.name == "own.asc"
            path.write_bytes((server.folder / "key.pub").read_bytes() if armored else server.key)
        (root / DISK.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / DISK.lstrip("/")).symlink_to(server.folder)

    def apt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run apt-get on this root."""
        options = {
            "Dir": str(self.root),
            "Dir::State::status": str(self.root / "var/lib/dpkg/status"),
            "Acquire::http::Proxy": self.server.proxy,
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
            "Dir::Bin::methods": "/usr/lib/apt/methods",
        }
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return subprocess.run(["apt-get", *given, *arguments], capture_output=True, text=True, check=False, timeout=60)

    def plan(self, url: str) -> dict[str, Any]:
        """Observe and decide."""
        facts = host(
            sources=driver_surroundings.sources("x86_64", self.root),
            trusted_keys=driver_surroundings.trusted_keys(self.root),
        )
        wishes = {**WISHES, "repository_url": url, "repository_fingerprints": [self.server.fingerprint]}
        return driver.plan(wishes, facts, gpus())

    def settle(self, url: str, capsys: Capture) -> bool:
        """What the role does to the sources; whether it changed something."""
        found = self.plan(url)
        assert found["problems"] == []
        disable = [{**one, "path": f"{self.root}{one['path']}"} for one in found["sources"]["disable"]]
        remove = [f"{self.root}{path}" for path in found["sources"]["remove"]]
        changed = run(cuda_sources, capsys, disable=disable, remove=remove)["changed"]
        if found["repository"]:
            text = self.own_text(found["repository"]["url"])
            path = self.parts / "gpufleet-nvidia.sources"
            changed |= not path.exists() or path.read_text() != text
            path.write_text(text)
        return bool(changed)

    def own_text(self, url: str) -> str:
        """The source as the role writes it."""
        tasks = yaml.safe_load((CHECKOUT / "roles/cuda/tasks/repository_apt.yml").read_text(encoding="utf-8"))
        text: str = next(task for task in tasks if "ansible.builtin.copy" in task)["ansible.builtin.copy"]["content"]
        return text.replace("{{ __cuda_plan.repository.url }}", url).replace("{{ __cuda_key }}", str(self.own_key))

    def repositories(self) -> list[str]:
        """Where apt gets packages from."""
        told = self.apt("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
        assert told.returncode == 0, told.stderr
        return sorted({line.rstrip("/") for line in told.stdout.splitlines()})


@pytest.fixture
def machine(tmp_path: Path, server: Server) -> Machine:
    return Machine(tmp_path, server)


LIST = "deb [signed-by=KEYRING] {}/ /\n"
PARAGRAPH = "Types: deb\nURIs: {}/\nSuites: /\nSigned-By: KEYRING\n"
OURS = "Types: deb\nURIs: {}/\nSuites: /\nSigned-By: OWN\n"
ROWS = {
    "none": ({}, OFFICIAL, OFFICIAL),
    "ours": ({"gpufleet-nvidia.sources": OURS.format(OFFICIAL)}, OFFICIAL, OFFICIAL),
    "keyring-list": ({"cuda.list": LIST.format(OFFICIAL)}, "", OFFICIAL),
    "keyring-sources": ({"cuda.sources": PARAGRAPH.format(OFFICIAL)}, OFFICIAL, OFFICIAL),
    "ours-and-keyring": (
        {"cuda.list": LIST.format(OFFICIAL), "gpufleet-nvidia.sources": OURS.format(OFFICIAL)},
        "",
        OFFICIAL,
    ),
    "twice-with-other-keys": (
        {"cuda.list": LIST.format(OFFICIAL), "mine.sources": OURS.format(OFFICIAL)},
        "",
        OFFICIAL,
    ),
    "twice-with-one-key": ({"cuda.list": LIST.format(OFFICIAL), "d.sources": PARAGRAPH.format(OFFICIAL)}, "", OFFICIAL),
    "mirror": ({"cuda.list": LIST.format(MIRROR)}, "", MIRROR),
    "keyring-and-a-mirror-that-is-named": ({"cuda.list": LIST.format(OFFICIAL)}, MIRROR, MIRROR),
    "disk": ({"cuda.list": LIST.format(f"file:ROOT{DISK}")}, "", f"file:ROOT{DISK}"),
    "disk-that-is-gone-and-keyring": (
        {"a.list": LIST.format("file:/var/cuda-repo-gone-local"), "cuda.sources": PARAGRAPH.format(OFFICIAL)},
        "",
        OFFICIAL,
    ),
    "switched-off": ({"cuda.sources": PARAGRAPH.format(OFFICIAL) + "Enabled: no\n"}, OFFICIAL, OFFICIAL),
    "key-that-is-gone": ({"cuda.list": LIST.format(OFFICIAL).replace("KEYRING", "/gone.gpg")}, OFFICIAL, OFFICIAL),
    "no-key": ({"cuda.list": f"deb {OFFICIAL} /\n"}, OFFICIAL, OFFICIAL),
    "in-sources-list": ({"../sources.list": LIST.format(OFFICIAL)}, "", OFFICIAL),
}


@pytest.mark.parametrize("name", list(ROWS))
def test_one_source_is_left_and_works(machine: Machine, capsys: Capture, name: str) -> None:
    files, url, source = ROWS[name]
    names = {"KEYRING": str(machine.keyring), "OWN": str(machine.own_key), "ROOT": str(machine.root)}
    for file, text in files.items():
        for old, new in names.items():
            text = text.replace(old, new)
        (machine.parts / file).write_text(text)
    # apt sees the disk at its real place, and what was observed at its own
    disk = machine.root / f"{machine.root}{DISK}".lstrip("/")
    disk.parent.mkdir(parents=True, exist_ok=True)
    disk.symlink_to(machine.server.folder)
    machine.settle(url, capsys)
    updated = machine.apt("update")
    said = updated.stdout + updated.stderr
    assert (updated.returncode, [line for line in said.splitlines() if line.startswith(("W:", "E:"))]) == (0, []), said
    assert machine.repositories() == [source.replace("ROOT", str(machine.root))]
    simulated = machine.apt("install", "--simulate", "nvidia-driver-cuda=580.95.05-1")
    assert "Inst nvidia-driver-cuda (580.95.05-1" in simulated.stdout, simulated.stderr
    assert machine.settle(url, capsys) is False


def test_apt_refuses_everything_where_a_source_is_doubled(machine: Machine) -> None:
    """What the rows with another key are about."""
    (machine.parts / "cuda.list").write_text(LIST.format(OFFICIAL).replace("KEYRING", str(machine.keyring)))
    (machine.parts / "gpufleet-nvidia.sources").write_text(machine.own_text(OFFICIAL))
    refused = machine.apt("update")
    assert refused.returncode != 0
    assert "Conflicting values set for option Signed-By" in refused.stderr


@pytest.mark.parametrize(
    ("file", "text"),
    [("a.list", "deb http://x\n"), ("a.list", "deb [a http://x /\n"), ("a.sources", "Types: deb\nURIs: http://x\n")],
)
def test_what_apt_cannot_read_is_found_before(machine: Machine, file: str, text: str) -> None:
    (machine.parts / file).write_text(text)
    assert machine.apt("update").returncode != 0
    (sentence,) = machine.plan("")["problems"]
    assert f"/etc/apt/sources.list.d/{file}, line 1, cannot be read by apt" in sentence
