# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs that run on beside Ansible, as transient units of systemd. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def systemd_run(unit: str, properties: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """Return the arguments that start ``command`` as the transient service ``unit`` and do not wait for it."""
    settings = [f"--property={name}={value}" for name, value in properties.items()]
    return ["systemd-run", "--quiet", "--no-ask-password", f"--unit={unit}", *settings, "--", *command]
