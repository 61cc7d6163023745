# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a bundle serves a host, and how instances are served from it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

# glibc of the oldest manylinux tags: PEP 513 for x86-64, PEP 599 for the others.
_OLDEST = {"x86_64": 5}
_OLDEST_OF_OTHERS = 17
_ALIASES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


def wheel_platforms(platform: str) -> list[str]:
    """The tags of wheels that run on a platform in uv's words, such as ``x86_64-manylinux_2_34``, the newest first.

    pip takes only the tags that it is told (pip's documentation, ``--platform``). Raises InputError.
    """
    match = re.fullmatch(r"(\w+?)-manylinux_2_(\d+)", platform)
    if not match:
        raise InputError(
            f"The platform {platform!r} is not known; write one such as x86_64-manylinux_2_34 in "
            "engine_bundle_platform."
        )
    machine, newest = match[1], int(match[2])
    oldest = _OLDEST.get(machine, _OLDEST_OF_OTHERS)
    found = []
    for glibc in range(newest, oldest - 1, -1):
        found.append(f"manylinux_2_{glibc}_{machine}")
        if glibc in _ALIASES:
            found.append(f"{_ALIASES[glibc]}_{machine}")
    return [*found, f"linux_{machine}"]


def unusable(found: Mapping[str, Any], bundle: str) -> list[str]:
    """Return the sentence why nothing can be taken from a bundle, or an empty list."""
    if not found["whole"]:
        return [f"{bundle} holds no whole bundle. Make one with the playbook bundle: -e bundle={bundle}."]
    if found["damaged"]:
        shown = ", ".join(found["damaged"][:5])
        return [f"The bundle {bundle} is damaged: {shown} is missing or differs from its checksum. Copy it anew."]
    return []


def bundle_problems(found: Mapping[str, Any], bundle: str, releases: Sequence[str], python: str | None) -> list[str]:
    """Return a sentence for each reason why a host cannot be served from a bundle.

    ``found`` is what bundle_info returned of the folder ``bundle``, ``releases`` are the names of those that the host
    needs, ``python`` the version of its interpreter.
    """
    problems = unusable(found, bundle)
    if problems:
        return problems
    for release in releases:
        made = found["releases"].get(release)
        if made is None:
            there = ", ".join(found["releases"]) or "none"
            problems.append(
                f"The bundle {bundle} has no release {release} (it has: {there}). Add it with the playbook bundle, or "
                "choose another engine_version."
            )
        elif python and python.split(".")[:2] != made["python"].split(".")[:2]:
            problems.append(
                f"The bundle {bundle} has release {release} for Python {made['python']}, and the host's is {python}. "
                "Make it with engine_bundle_python, or name another interpreter in engine_python."
            )
    return problems


def bundled_models(
    entries: Sequence[Mapping[str, Any]], models: Mapping[str, Any], bundle: str, root: str
) -> list[dict[str, Any]]:
    """Return ``vllm_models`` with the models of the hub taken from a bundle; ``root`` is where copies go on the host.

    A model that the bundle does not have keeps its entry; the sentence that it is not there is
    :func:`model_problems`'.
    """
    found = []
    for entry in entries:
        known = models.get(str(entry.get("model")))
        if known is None or entry.get("model_source"):
            found.append(dict(entry))
            continue
        kept = {key: value for key, value in entry.items() if key not in ("revision", "model")}
        copy = f"{root}/{str(entry['model']).replace('/', '--')}/{known['commit']}"
        found.append({**kept, "model": copy, "model_source": f"{bundle}/{known['folder']}"})
    return found


def model_problems(entries: Sequence[Mapping[str, Any]], found: Mapping[str, Any], bundle: str) -> list[str]:
    """Return a sentence for each model of the hub that is not in a bundle.

    ``found`` is what bundle_info returned of the folder ``bundle``.
    """
    models = found["models"]
    there = ", ".join(sorted(models)) or "none"
    return unusable(found, bundle) or [
        f"{entry.get('name')}: the model {entry['model']} is not in the bundle {bundle} (it has: {there}). Add it with "
        "the playbook bundle and -e bundle_models=true, or name a path."
        for entry in entries
        if isinstance(entry.get("model"), str)
        and not entry["model"].startswith("/")
        and not entry.get("model_source")
        and entry["model"] not in models
    ]
