"""The files through which Ansible, ssh and a person reach the nodes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Access:
    """A node's address and public host key (`type base64`)."""

    address: str
    host_key: str


def known_hosts(nodes: Mapping[str, Access]) -> str:
    """The known_hosts file: each node under its name and its address."""
    return "".join(f"{name},{node.address} {node.host_key}\n" for name, node in nodes.items())


def hosts_yml(folder: Path, nodes: Mapping[str, Access], extra: Mapping[str, object]) -> str:
    """The Ansible inventory, with `extra` variables. JSON values are YAML values, whatever is in the path."""
    known = str(folder / "known_hosts").replace('"', '\\"')
    arguments = (
        f"-o 'UserKnownHostsFile=\"{known}\"' -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes "
        # A shared connection to a node that was removed must not outlive it.
        "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    )
    lines = ["# Written by tools/node.py.", "all:"]
    lines += ["  hosts:"] if nodes else ["  hosts: {}"]
    for name, node in nodes.items():
        lines += [f"    {name}:", f"      ansible_host: {node.address}"]
    lines += [
        "  vars:",
        "    ansible_user: root",
        f"    ansible_ssh_private_key_file: {json.dumps(str(folder / 'key'))}",
        f"    ansible_ssh_common_args: {json.dumps(arguments)}",
        "    ansible_python_interpreter: /usr/bin/python3",
        *(f"    {name}: {json.dumps(value)}" for name, value in extra.items()),
    ]
    return "\n".join(lines) + "\n"


def ssh_config(folder: Path, nodes: Mapping[str, Access]) -> str:
    """A file for `ssh -F`, so that a person writes only the node's name."""
    lines = []
    for name, node in nodes.items():
        lines += [f"Host {name}", f"  HostName {node.address}"]
    lines += [
        "Host *",
        "  User root",
        f'  IdentityFile "{folder / "key"}"',
        f'  UserKnownHostsFile "{folder / "known_hosts"}"',
        "  IdentitiesOnly yes",
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
        "  ConnectTimeout 10",
        "  ServerAliveInterval 5",
    ]
    return "\n".join(lines) + "\n"


def write(folder: Path, nodes: Mapping[str, Access], extra: Mapping[str, object]) -> None:
    """Write the files into the fleet's folder, each whole or not at all.

    `extra` variables go into hosts.yml, and into vars.yml for inventories that have hosts of their own.
    """
    texts = {
        "known_hosts": known_hosts(nodes),
        "hosts.yml": hosts_yml(folder, nodes, extra),
        "vars.yml": json.dumps(extra) + "\n",
        "ssh_config": ssh_config(folder, nodes),
    }
    for name, text in texts.items():
        part = folder / f"{name}.part"
        part.write_text(text)
        part.rename(folder / name)
