#!/usr/bin/env python3
"""Make a systemd node of this machine's own root, with its GPUs: `make gpu-node`.

The machine itself is not changed: what is written in the node goes to an overlay, and is gone with the node. The node
shares the machine's network, and starts none of the services that the machine has enabled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if sys.version_info < (3, 11):
    sys.exit(f"gpu_node.py: needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable}).")

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tools.nodes import host, own_root  # noqa: E402
from tools.nodes.errors import NodeError  # noqa: E402
from tools.nodes.machine import parse_bind  # noqa: E402
from tools.nodes.names import checked  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = CHECKOUT / ".nodes" / "gpu"
NAME = "gpu1"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/gpu_node.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make and boot the node; one that runs is reused")
    up.add_argument("--packages", type=Path, help="folder of Debian's packages, where this machine has no systemd")
    up.add_argument("--bind", action="append", default=[], metavar="SRC:DST[:ro]", help="a folder of this machine")
    up.add_argument("--without-gpu", action="store_true", help="a node for trying this where there is no GPU")
    inside = commands.add_parser("run", help="run a command in the node, as root")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("down", help="stop the node and remove its files")
    commands.add_parser("status", help="say whether it runs")
    packages = commands.add_parser("packages", help="fetch Debian's packages of systemd, on a machine with Debian 12")
    packages.add_argument("into", type=Path, metavar="DIR")
    for command in (up, inside, commands.choices["down"], commands.choices["status"]):
        command.add_argument("--name", default=NAME, help="its host name (default: %(default)s)")
        command.add_argument("--folder", type=Path, default=FOLDER, help="where its files are (default: %(default)s)")
    return parser


def _node(options: argparse.Namespace) -> own_root.OwnRoot:
    checked("node", options.name)
    return own_root.OwnRoot(
        name=options.name,
        folder=options.folder.resolve(),
        packages=options.packages.resolve() if getattr(options, "packages", None) else None,
        binds=tuple(parse_bind(text) for text in getattr(options, "bind", ())),
        without_gpu=getattr(options, "without_gpu", False),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status, or 1 for a fault told in a sentence."""
    options = _parser().parse_args(arguments)
    host.extend_path()
    try:
        if options.command == "packages":
            own_root.fetch_packages(options.into)
            return 0
        node = _node(options)
        if options.command == "status":
            pid = node.pid()
            print(f"{node.name}: {f'runs, process {pid}' if pid is not None else 'does not run'}")
            return 0
        host.require_root(f"tools/gpu_node.py {options.command}")
        if options.command == "up":
            node.up()
        elif options.command == "down":
            node.down()
            print(f"{node.name}: removed")
        else:
            words = options.words[1:] if options.words[:1] == ["--"] else options.words
            return subprocess.run(node.command(words or ["bash", "-l"]), check=False).returncode
    except (NodeError, OSError) as error:
        print(f"gpu_node.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
