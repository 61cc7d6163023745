# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Recognize an instance that an earlier version of this collection started, from what it would be started from now.

Digests of that version were of the unit's text too, so that they say nothing of a process any more. What the process
was started from is in the files of the instance, as long as its digest is in them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import credentials, instance_files, systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states, kernels
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.systemd import DIGEST

# A digest of the form before "2.<sha256>".
FORM = re.compile(r"[0-9a-f]{64}")
# What of a unit a process is started from, as long as it lives.
STARTED = re.compile(
    r"^(?:(User|Group|ExecStart)=((?:.*\\\n)*.*)|Environment=.*\b(HF_HUB_CACHE)=(\S+).*)$", re.MULTILINE
)
TOKEN_FILES = (credentials.ENCRYPTED, credentials.PLAIN)


def is_earlier(digest: str | None) -> bool:
    """Tell whether a digest has the form of that version."""
    return bool(FORM.fullmatch(digest or ""))


def same_texts(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Tell whether a process is started from the same by old texts and by new ones.

    Both have ``settings``, ``environment`` and ``units``, the unit template with its drop-ins. What is a comment, or of
    the unit and no matter of the process, may differ. Pure.
    """
    return (
        _lines(old["settings"]) == _lines(new["settings"])
        and _same_variables(_variables(old["environment"]), _variables(new["environment"]))
        and _started(old["units"]) == _started(new["units"])
    )


def touched(process: Mapping[str, Any], model: str | None, good: Mapping[str, Any] | None, token: bool) -> list[str]:
    """Say what of ``model`` and ``token`` was changed since a process was started.

    ``model`` is the model that its settings name; one of the hub is named by its commit, and does not change. ``good``
    is the last state that was seen to serve, ``token`` whether the unit is handed one.
    """
    since = time.time() - (time.monotonic() - float(process["started"]))
    found = []
    if model and model.startswith("/"):
        known = good["model_digest"] if good and good.get("digest") == process["digest"] else None
        changed = instance_files.folder_digest(Path(model)) != known if known else _newer(_inside(model), since)
        found += ["model"] if changed else []
    if token and _newer(map(Path, TOKEN_FILES), since):
        found.append("token")
    return found


def kept(
    process: Mapping[str, Any] | None, old: Mapping[str, str], new: Mapping[str, str], name: str, same_release: bool
) -> str | None:
    """Return the digest that an instance keeps; None where it has another form, or was started from something else."""
    if (
        not process
        or not is_earlier(process["digest"])
        or good_states.digest_of(old["environment"]) != process["digest"]
    ):
        return None
    model = good_states.settings_of(old["settings"]).get("model")
    good = instance_files.read_state(name, good_states.GOOD)
    token = "LoadCredential" in new["units"]
    if not same_release or not same_texts(old, new) or touched(process, model, good, token):
        return None
    return str(process["digest"])


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _variables(text: str) -> dict[str, str]:
    return {name: value for name, value in systemd.read_environment(text).items() if name != DIGEST}


def _same_variables(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Tell whether a user asked for the same: what a release needs for its kernels came after that version."""
    return old == {name: value for name, value in new.items() if name in old or name not in kernels.VARIABLES}


def _started(texts: str) -> dict[str, str]:
    """The last of each setting counts, as systemd takes it of a unit and then its drop-ins."""
    found = {}
    for setting, value, variable, content in STARTED.findall(texts):
        found[setting or variable] = " ".join((value or content).replace("\\\n", " ").split())
    return found


def _inside(folder: str) -> Sequence[Path]:
    try:
        return [Path(folder), *Path(folder).iterdir()]
    except OSError:
        return []


def _newer(files: Iterable[Path], since: float) -> bool:
    """Tell whether a file was made, written or replaced after a time."""
    return any(file.stat().st_ctime > since for file in files if file.exists())
