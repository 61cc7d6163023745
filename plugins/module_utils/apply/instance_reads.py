# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an instance reads when it starts, and the mounts that it may lie on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

OFF = frozenset(("", "0", "false", "no", "off"))
# Folders of the system, which no service has to wait for.
ALWAYS = frozenset(("/", "/dev", "/proc", "/run", "/sys", "/etc"))
# systemd.unit(5), "String escaping for inclusion in unit names".
_PLAIN = re.compile(rb"[A-Za-z0-9:_.]")


def reads(layout: Mapping[str, Any], root: str, cache: str) -> dict[str, list[str]]:
    """Return the ``files`` that have to be there before an instance starts, and the ``mounts`` that may bring them.

    ``root`` is the folder of the engine, ``cache`` that of the hub's models. What an option or a variable of the
    environment names (a tokenizer, a chat template, a cache) may be mounted too, and need not be there.
    """
    release = f"{root.rstrip('/')}/instances/{layout['name']}/bin/vllm"
    model, config = str(layout["model"]), _config(layout, cache)
    values = [*layout["serve_args"].values(), *layout["environment"].values()]
    named = [value for value in map(str, values) if value.startswith("/")]
    return {
        "files": [release, config] if config else [release],
        "mounts": mount_units([root, model if model.startswith("/") else cache, *named]),
    }


def _config(layout: Mapping[str, Any], cache: str) -> str | None:
    """The configuration of a model, which every model has; None for one that the engine downloads by itself."""
    model = str(layout["model"])
    if model.startswith("/"):
        return f"{model.rstrip('/')}/config.json"
    if str(layout["environment"].get("HF_HUB_OFFLINE", "1")).lower() in OFF or not layout.get("revision"):
        return None
    folder = f"models--{model.replace('/', '--')}/snapshots/{layout['revision']}"
    return f"{cache.rstrip('/')}/{folder}/config.json"


def mount_units(paths: Iterable[str]) -> list[str]:
    """Return the names of the units of all mounts that may be on the way to paths, each once, the outer ones first.

    A name of which there is no mount does no harm: systemd passes over it.
    """
    found: dict[str, None] = {}
    for path in paths:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        # what a path with .. means depends on the links on the host
        if ".." in parts:
            continue
        for count in range(1, len(parts) + 1):
            place = "/" + "/".join(parts[:count])
            if place not in ALWAYS:
                found[f"{escaped(place)}.mount"] = None
    return list(found)


def escaped(path: str) -> str:
    r"""Write an absolute path as ``systemd-escape --path`` does: ``/srv/a b`` is ``srv-a\x20b``."""
    text = "/".join(part for part in path.split("/") if part)
    if not text:
        return "-"
    written = []
    for place, byte in enumerate(text.encode(errors="surrogateescape")):
        one = bytes([byte])
        if one == b"/":
            written.append("-")
        elif _PLAIN.fullmatch(one) and not (one == b"." and place == 0):
            written.append(one.decode())
        else:
            written.append(f"\\x{byte:02x}")
    return "".join(written)
