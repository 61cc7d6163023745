"""The command line of tools/node.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.nodes import host, image, machine
from tools.nodes.errors import NodeError
from tools.nodes.fleet import Fleet
from tools.nodes.names import fleet_names

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/node.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make and boot nodes; those that run are reused")
    up.add_argument("names", nargs="+", metavar="NAME")
    up.add_argument("--suite", default="bookworm", choices=image.SUITES, help="Debian release (default: %(default)s)")
    up.add_argument("--bind", action="append", default=[], metavar="SRC:DST[:ro]", help="a folder of this machine")
    up.add_argument("--install-packages", action="store_true", help="install missing tools with apt-get")
    up.add_argument(
        "--gib-per-node",
        type=int,
        default=host.GIB_PER_NODE,
        help="free disk to ask for per new node, in GiB (default: %(default)s)",
    )
    down = commands.add_parser("down", help="stop and remove nodes; the fleet goes with its last node")
    down.add_argument("names", nargs="*", metavar="NAME")
    down.add_argument("--all", action="store_true", help="the whole fleet: nodes, network, files")
    status = commands.add_parser("status", help="say what there is")
    for command in (up, down, status):
        command.add_argument("--fleet", required=True, help="which group of nodes")
    return parser


def _up(fleet: Fleet, options: argparse.Namespace) -> None:
    host.require_root("tools/node.py up")
    host.require_packages(host.missing_packages(host.TOOLS), options.install_packages)
    binds = [machine.parse_bind(text) for text in options.bind]
    counts = fleet.up(options.names, options.suite, binds, options.gib_per_node)
    print(f"up: {counts.made} made, {counts.booted} booted, {counts.reused} reused")


def _down(fleet: Fleet, options: argparse.Namespace) -> None:
    if options.all == bool(options.names):
        raise NodeError("Say either which nodes to remove or --all.")
    host.require_root("tools/node.py down")
    removed = fleet.down(options.names)
    print(f"down: {len(removed)} removed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a fault told in a sentence, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    host.extend_path()
    try:
        fleet = Fleet(fleet_names(options.fleet, CHECKOUT))
        if options.command == "up":
            _up(fleet, options)
        elif options.command == "down":
            _down(fleet, options)
        else:
            print("\n".join(fleet.status()))
    except (NodeError, OSError) as error:
        print(f"node.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        remedy = f"tools/node.py down --fleet {options.fleet} --all"
        print(f"\nnode.py: interrupted. What was begun is removed by: {remedy}", file=sys.stderr)
        return 130
    return 0
