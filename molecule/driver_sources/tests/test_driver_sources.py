"""What hosts have of sources of NVIDIA's packages, with the distribution's own apt: one that works is left of each."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from conftest import role
from testinfra.host import Host

from tests.driver_nodes import counts

OURS = "/etc/apt/sources.list.d/gpufleet-nvidia.sources"
LIST = "/etc/apt/sources.list.d/cuda-debian-x86_64.list"
SOURCES = "/etc/apt/sources.list.d/nvidia.sources"
KEYRING = "/usr/share/keyrings/cuda-archive-keyring.gpg"
DISK = "/var/cuda-repo-debian-13-0-local"
# The name of NVIDIA's server leads to the stand-in, without TLS.
SERVER = "http://developer.download.nvidia.com/compute/cuda/repos/{release}/x86_64"
MIRROR = "http://127.0.0.1:8080/cuda/repos/{release}/x86_64"
RELEASE = "{{ {'bookworm': 'debian12', 'trixie': 'debian13'}[inventory_hostname] }}"


def line(url: str, signed_by: str = f"[signed-by={KEYRING}] ") -> str:
    return f"deb {signed_by}{url}/ /\n"


def paragraph(url: str, more: str = "") -> str:
    return f"Types: deb\nURIs: {url}/\nSuites: /\nSigned-By: {KEYRING}\n{more}"


def ours(url: str = SERVER) -> str:
    """The source as this role writes it."""
    return f"Types: deb\nURIs: {url}/\nSuites: /\nSigned-By: /etc/apt/keyrings/gpufleet-nvidia.asc\n"


def release(node: Host) -> str:
    return {"12": "debian12", "13": "debian13"}[node.check_output(". /etc/os-release; echo $VERSION_ID")]


def write(node: Host, path: str, data: bytes) -> None:
    node.check_output("echo %s | base64 -d > %s", base64.b64encode(data).decode(), path)


@pytest.fixture(scope="module", autouse=True)
def server(nodes: list[Host]) -> Iterator[None]:
    """NVIDIA's server, a mirror of it and its repository on a disk, of the stand-in's packages and key."""
    for node in nodes:
        node.check_output("grep -q nvidia /etc/hosts || echo 127.0.0.1 developer.download.nvidia.com >> /etc/hosts")
        for folder in ("/srv/web/compute/cuda/repos", "/srv/mirror/cuda/repos"):
            node.check_output(
                f"mkdir -p {folder}/{release(node)} && ln -sfn /srv/mirror {folder}/{release(node)}/x86_64"
            )
        node.check_output(f"ln -sfn /srv/mirror {DISK}")
        node.check_output(
            "systemd-run --unit=nvidia-server python3 -m http.server --bind 127.0.0.1 --directory /srv/web 80"
        )
        armored = node.file("/srv/mirror/key.pub").content_string
        body = armored.split("\n\n", 1)[1].split("-----END", 1)[0]
        data = "".join(one for one in body.splitlines() if not one.startswith("="))
        write(node, KEYRING, base64.b64decode(data))
    yield
    for node in nodes:
        node.check_output("systemctl stop nvidia-server; rm -f %s %s; sed -i /nvidia/d /etc/hosts", LIST, SOURCES)
    # as it was
    back = role()
    assert back.code == 0, back.output


def repositories(node: Host) -> list[str]:
    """Where apt would get NVIDIA's packages from."""
    told = node.check_output("apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages'")
    return sorted({one.rstrip("/") for one in told.splitlines() if "debian.org" not in one})


@pytest.mark.parametrize(
    ("files", "url", "used", "source"),
    [
        pytest.param({}, SERVER, OURS, SERVER, id="none"),
        pytest.param({OURS: ours()}, SERVER, OURS, SERVER, id="ours"),
        pytest.param({LIST: line(SERVER)}, "", LIST, SERVER, id="keyring-list"),
        pytest.param({SOURCES: paragraph(SERVER)}, SERVER, SOURCES, SERVER, id="keyring-sources"),
        pytest.param({LIST: line(SERVER), OURS: ours()}, "", LIST, SERVER, id="ours-and-keyring"),
        pytest.param({LIST: line(SERVER), SOURCES: paragraph(SERVER.replace("/cuda", "//cuda"))}, "", LIST, SERVER,
                     id="keyring-twice"),
        pytest.param({LIST: line(MIRROR)}, "", LIST, MIRROR, id="mirror"),
        pytest.param({LIST: line(SERVER)}, MIRROR, OURS, MIRROR, id="keyring-and-a-mirror-that-is-named"),
        pytest.param({LIST: line(f"file:{DISK}")}, "", LIST, f"file:{DISK}", id="disk"),
        pytest.param({LIST: line("file:/var/cuda-repo-gone"), SOURCES: paragraph(SERVER)}, "", SOURCES, SERVER,
                     id="disk-that-is-gone-and-keyring"),
        pytest.param({SOURCES: paragraph(SERVER, "Enabled: no\n")}, SERVER, OURS, SERVER, id="switched-off"),
        pytest.param({LIST: line(SERVER, "[signed-by=/usr/share/keyrings/gone.gpg] ")}, SERVER, OURS, SERVER,
                     id="key-that-is-gone"),
    ],
)  # fmt: skip
def test_one_source_is_left_and_works(
    nodes: list[Host], files: dict[str, str], url: str, used: str, source: str
) -> None:
    for node in nodes:
        node.check_output("rm -f %s %s %s", OURS, LIST, SOURCES)
        for path, text in files.items():
            write(node, path, text.replace("{release}", release(node)).encode())
    wanted = {"cuda_repository_url": url.replace("{release}", RELEASE)}
    done = role(**wanted)
    assert done.code == 0, done.output
    for node in nodes:
        told = node.run("apt-get update")
        said = told.stdout + told.stderr
        assert (told.rc, [one for one in said.splitlines() if one.startswith(("W:", "E:"))]) == (0, []), said
        assert repositories(node) == [source.replace("{release}", release(node))]
        assert node.file(OURS).exists is (used == OURS)
        node.check_output("apt-get install --assume-yes --reinstall --download-only libcuda1=580.95.05-1")
    again = role(**wanted)
    assert (again.code, counts(again, "changed")) == (0, [0, 0]), again.output


def test_apt_refuses_everything_where_a_source_is_doubled(nodes: list[Host]) -> None:
    """What the rows above with two sources of one place are about."""
    for node in nodes:
        write(node, LIST, line(SERVER).replace("{release}", release(node)).encode())
        write(node, OURS, ours().replace("{release}", release(node)).encode())
        refused = node.run("apt-get update")
        node.check_output("rm %s %s", LIST, OURS)
        assert refused.rc != 0
        assert "Conflicting values set for option Signed-By" in refused.stderr


def test_a_source_that_apt_cannot_read_is_a_sentence(nodes: list[Host]) -> None:
    for node in nodes:
        write(node, LIST, b"deb http://mirror\n")
    refused = role(cuda_repository_url=SERVER.replace("{release}", RELEASE))
    for node in nodes:
        node.check_output("rm %s", LIST)
    assert (counts(refused, "failed"), counts(refused, "changed")) == ([1, 1], [0, 0]), refused.output
    assert f"{LIST}, line 1, cannot be read by apt: it has no URI or no suite." in refused.text
