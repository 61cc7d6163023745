"""Filling a node's root file system, from outside and before it boots."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from tools.nodes import registries
from tools.nodes.image import remove_tree
from tools.nodes.shell import run

_NETWORK = """\
[Match]
Name=host0

[Link]
MTUBytes={mtu}

[Network]
Address={address}/24
Gateway={gateway}
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


@dataclass(frozen=True)
class Identity:
    """What makes a node this node: its name, and the public key that may log in as root."""

    name: str
    authorized_key: str


def write(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    """Write a file of the node, replacing a link instead of following it out of the root."""
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def read_pip_settings() -> registries.PipSettings:
    """The control machine's pip configuration."""
    files = [path.read_text() for path in registries.pip_files(os.environ, Path.home()) if path.is_file()]
    return registries.pip_settings(files, os.environ)


def deployment_variables() -> dict[str, object]:
    """Ansible variables of a deployment to these nodes that follow from this machine's own package folders.

    A machine that offers torch for CPUs itself is not expected to reach PyTorch's index as well. The installer's cache
    is the one that the nodes share.
    """
    folders = registries.local_folders(read_pip_settings())
    names = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
    own: dict[str, object] = {"engine_extra_index_urls": []} if registries.offers_cpu_torch(names) else {}
    return {"engine_cache": registries.UV_CACHE, **own}


def make(image: Path, root: Path, identity: Identity) -> None:
    """Make a node's root from the image; `root` appears only when it is whole."""
    part = root.with_name(f"{root.name}.part")
    remove_tree(part)
    part.mkdir(mode=0o755)
    run(["cp", "--archive", "--reflink=auto", f"{image}/.", str(part)])
    _write_identity(part, identity)
    _write_registries(part)
    part.rename(root)


def configure_network(root: Path, address: str, gateway: str, mtu: int) -> None:
    """Give the node its address, MTU (bytes) and name servers.

    10-host0 sorts before systemd's own 80-container-host0.network; the first match wins.
    """
    text = _NETWORK.format(address=address, gateway=gateway, mtu=mtu)
    write(root, "/etc/systemd/network/10-host0.network", text)
    paths = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
    texts = [path.read_text() for path in paths if path.exists()]
    write(root, "/etc/resolv.conf", registries.node_resolv_conf(texts))


def configure_hosts(root: Path, name: str, addresses: dict[str, str]) -> None:
    """Write the node's /etc/hosts: every node of the fleet by name."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    lines += [f"{address} {other}" for other, address in sorted(addresses.items(), key=lambda item: item[0] != name)]
    write(root, "/etc/hosts", "\n".join(lines) + "\n")


def host_key(root: Path) -> str:
    """The node's public SSH host key, as `type base64`."""
    return " ".join((root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])


def _write_identity(root: Path, identity: Identity) -> None:
    """Host name, machine-id, host key and the fleet's key."""
    write(root, "/etc/hostname", f"{identity.name}\n")
    write(root, "/etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    write(root, "/root/.ssh/authorized_keys", identity.authorized_key, 0o600)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", identity.name, "-f", str(key)])


def _write_registries(root: Path) -> None:
    """The control machine's way to PyPI and to Debian's archive."""
    settings = read_pip_settings()
    write(root, "/etc/pip.conf", registries.pip_conf(settings))
    write(root, "/etc/uv/uv.toml", registries.uv_toml(settings))
    write(root, "/etc/environment", registries.environment_file(settings, os.environ))
    (root / registries.UV_CACHE.lstrip("/")).mkdir(parents=True, exist_ok=True)
    _trust(root, Path(settings.cert or registries.NODE_BUNDLE))


def _trust(root: Path, bundle: Path) -> None:
    """Add the certificates of `bundle` that the node lacks to its trust store, as Debian does it.

    Through update-ca-certificates: a bundle that is only copied over is rewritten by the next upgrade.
    """
    if not bundle.is_file():
        return
    node_bundle = (root / registries.NODE_BUNDLE.lstrip("/")).read_text()
    missing = registries.missing_certificates(bundle.read_text(), node_bundle)
    for number, text in enumerate(missing):
        write(root, f"/usr/local/share/ca-certificates/control-machine-{number}.crt", text)
    if missing:
        run(["chroot", str(root), "update-ca-certificates"])
