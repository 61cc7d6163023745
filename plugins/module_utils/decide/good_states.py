# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The states of an instance that a roll-out can come back to: what it was started from when it was seen to serve. Pure.

Of each instance there are up to two, ``good`` and the one before it, ``previous``. Each holds the text of the files
that the instance is started from, so that it can be put back without knowing how they were made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

SCHEMA_VERSION = 1
GOOD, PREVIOUS = "good", "previous"
# The first line of every file that this collection writes. What an administrator added is neither kept nor removed.
OURS = "# Written by Ansible (gpufleet.vllm."
DIGEST = re.compile(r"^GPUFLEET_DIGEST=(\S+)$", re.MULTILINE)
# A setting that is one word or number; the role serve writes plain YAML, an option of vllm serve on a line of its own.
SETTING = re.compile(r"^([a-z0-9-]+): *['\"]?([^'\"\n ](?:[^'\"\n]*[^'\"\n ])?)['\"]? *$", re.MULTILINE)
DEFAULT_PORT = 8000
# The files whose texts the digest is of: settings and environment.
STARTED_FROM = (".yaml", ".env")
# With these lines of a unit, which earlier versions wrote, systemd gives all of /var/lib/vllm to the service's user.
WHOLE_FOLDER = re.compile(r"^(StateDirectory=|WorkingDirectory=%S/)vllm$", re.MULTILINE)

# What each value of a state is, as `capture` writes it.
_TEXT_OR_NONE = (str, type(None))
SHAPE: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("release", "time"), str),
    **dict.fromkeys(("digest", "model", "revision", "model_digest"), _TEXT_OR_NONE),
    **dict.fromkeys(("files", "layout"), dict),
    "receipt": (dict, type(None)),
}


def read_mark(text: str | None) -> dict[str, Any] | None:
    """Read the mark of a change; None where it cannot be read or is of another version."""
    found = _parsed(text)
    return found if found and "baseline" in found else None


def read(text: str | None) -> dict[str, Any] | None:
    """Read a state; None for one that is not there, is damaged or is of another version."""
    found = _parsed(text)
    if not found or not all(key in found and isinstance(found[key], kinds) for key, kinds in SHAPE.items()):
        return None
    nodes = found["layout"].get("nodes") or []
    if not isinstance(nodes, list) or not all(isinstance(node, dict) and "host" in node for node in nodes):
        return None
    if not all(isinstance(text, str) for text in found["files"].values()):
        return None
    found["files"].update({path: with_own_folder(text) for path, text in found["files"].items()})
    return found


def _parsed(text: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("schema_version") == SCHEMA_VERSION else None


def with_own_folder(unit: str) -> str:
    """Return the text of a unit with which the service has a folder of its own in /var/lib/vllm."""
    return WHOLE_FOLDER.sub(r"\1vllm/work", unit)


def text(state: Mapping[str, Any]) -> str:
    """Write a state: the same content gives the same bytes."""
    return json.dumps(state, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def digest_of(environment: str | None) -> str | None:
    """Return the digest in the text of an instance's environment file: what it is to be started from."""
    found = DIGEST.search(environment or "")
    return found[1] if found else None


def without_digest(environment: str) -> str:
    """Return the text of an environment file of an instance whose files are being written."""
    return DIGEST.sub("GPUFLEET_DIGEST=", environment)


def settings_of(written: str | None) -> dict[str, str]:
    """Read the settings of an instance that are one word or number."""
    return dict(SETTING.findall(written or ""))


def number(text: str | None, otherwise: int) -> int:
    """Read a whole number of the settings; what is none is as if it were not there."""
    return int(text) if text and is_whole(text) else otherwise


def layout_of(name: str, written: str | None) -> dict[str, Any]:
    """Tell of an instance's settings what the warm-up and the receipt ask for, where its layout is not known."""
    found = settings_of(written)
    length = found.get("max-model-len", "")
    return {
        "name": name,
        "unit": f"vllm@{name}.service",
        "model": found.get("model"),
        "revision": found.get("revision"),
        "host": found.get("host", "127.0.0.1"),
        "port": number(found.get("port"), DEFAULT_PORT),
        "node_rank": number(found.get("node-rank"), 0),
        "data_parallel_size": number(found.get("data-parallel-size"), 1),
        "serve_args": {"max-model-len": int(length)} if is_whole(length) else {},
    }


def capture(
    name: str,
    files: Mapping[str, str],
    settings: str,
    environment: str,
    release: str,
    model_digest: str | None,
    layout: Mapping[str, Any] | None,
    receipt: Mapping[str, Any] | None,
    time: str,
) -> dict[str, Any]:
    """Put a state together.

    ``files`` maps paths to texts, those of ``settings`` and ``environment`` among them; ``release`` is the name of the
    release's folder, ``model_digest`` that of the files of a model at a path, ``layout`` an entry of parallel_layout.
    """
    found = settings_of(settings)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "time": time,
        "digest": digest_of(environment),
        "release": release,
        "model": found.get("model"),
        "revision": found.get("revision"),
        "model_digest": model_digest,
        "files": dict(files),
        "layout": dict(layout) if layout else layout_of(name, settings),
        "receipt": dict(receipt) if receipt else None,
    }


def rotated(
    good: Mapping[str, Any] | None, previous: Mapping[str, Any] | None, new: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what is good and what was before it, once ``new`` was seen to serve.

    One that is started from the same takes the place of what it was; a ``new`` that says the same is not written again.
    Its settings and environment are then those that were kept: what is written on the host may be half of a change.
    """
    if good is None or good["digest"] == new["digest"]:
        kept = {**new, "receipt": new["receipt"] or (good or {}).get("receipt")}
        started = {path: text for path, text in (good or {}).get("files", {}).items() if path.endswith(STARTED_FROM)}
        if good and started:
            kept = {**kept, "files": {**new["files"], **started}, "model": good["model"], "revision": good["revision"]}
        same = good is not None and {**good, "time": None} == {**json.loads(text(kept)), "time": None}
        return dict(good) if same and good else kept, dict(previous) if previous else None
    return dict(new), dict(good)


def chosen(kept: Iterable[Mapping[str, Any] | None], digests: Iterable[str]) -> dict[str, Any] | None:
    """Return the first of the wanted digests that is kept; None where none of them is."""
    by_digest = {state["digest"]: dict(state) for state in kept if state}
    return next((by_digest[digest] for digest in digests if digest in by_digest), None)


def problem(state: Mapping[str, Any] | None, release_there: bool, model_there: bool, model_digest: str | None) -> str:
    """Say why an instance cannot be put back to a state; empty when it can.

    ``model_there`` and ``model_digest`` are of the model now, the latter None for a model of the hub.
    """
    if state is None:
        return "there is none; the first is kept when the instance was warmed up"
    if not release_there:
        return f"its release {state['release']} is not there any more; install it again (engine_version)"
    if not model_there:
        return f"its model {_model(state)} is not there any more; bring it back"
    if state["model_digest"] and state["model_digest"] != model_digest:
        return (
            f"the files in {state['model']} are not those that it was seen to serve; bring those back, or give each "
            "version of a model a folder of its own"
        )
    return ""


def summary(state: Mapping[str, Any] | None, why_not: str) -> dict[str, Any] | None:
    """Say of a state what a plan and a record need."""
    if state is None:
        return None
    warmed = (state.get("receipt") or {}).get("warmup") or {}
    return {
        "digest": state["digest"],
        "time": state["time"],
        "release": state["release"],
        "model": state["model"],
        "revision": state["revision"],
        "nodes": [node["host"] for node in state["layout"].get("nodes") or ()],
        "node_rank": state["layout"].get("node_rank") or 0,
        "problem": why_not,
        "measured": {key: warmed.get(key) for key in ("first_token_seconds", "tokens_per_second")},
    }


def releases(states: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the releases that states need."""
    return {str(state["release"]) for state in states if state.get("release")}


def commits(states: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Models of the hub, with their commits, that states need."""
    return {(state["model"], state["revision"]) for state in states if state.get("model") and state.get("revision")}


def _model(state: Mapping[str, Any]) -> str:
    return f"{state['model']} at {state['revision']}" if state.get("revision") else str(state["model"])
