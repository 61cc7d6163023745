"""Every name a fleet uses on this machine, derived from its own name and the checkout's path.

Nothing has to be remembered to find a fleet's bridge, firewall table or processes again, so a run
that was interrupted anywhere can be cleaned up.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.nodes.errors import NodeError

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


def _digest(*parts: str) -> str:
    """Ten hexadecimal digits that stand for `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def checked(kind: str, name: str) -> str:
    """Return `name` when it can be a host name label, else raise NodeError. `kind` is for the sentence."""
    if not _NAME.fullmatch(name):
        raise NodeError(
            f"{name!r} cannot be the name of a {kind}: write 1 to 32 lower-case letters, digits and hyphens, "
            "beginning with a letter and not ending with a hyphen."
        )
    return name


@dataclass(frozen=True)
class FleetNames:
    """Names of one fleet of one checkout."""

    fleet: str
    checkout: Path

    @property
    def folder(self) -> Path:
        """Where the fleet's files are."""
        return self.checkout / ".nodes" / self.fleet

    @property
    def bridge(self) -> str:
        """The network bridge: 13 characters, where Linux allows 15 (IFNAMSIZ less the final zero)."""
        return f"gf-{_digest(self.fleet, str(self.checkout))}"

    @property
    def table(self) -> str:
        """The nftables table."""
        return f"gpufleet_{self.bridge[3:]}"

    def machine(self, node: str) -> str:
        """The nspawn machine name of a node.

        12 characters, so that nspawn need not shorten the interface name vb-<machine> it makes of it.
        """
        return f"gf{_digest(self.fleet, str(self.checkout), node)}"


def fleet_names(fleet: str, checkout: Path) -> FleetNames:
    """Names of `fleet` in `checkout`. Raises NodeError for a name that cannot be used."""
    return FleetNames(checked("fleet", fleet), checkout.resolve())
