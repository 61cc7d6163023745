# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what a host holds of its instances, and asks their servers. I/O only; meaning is given elsewhere.

Each step has a time limit: a path on a dead network disk, or a server that hangs, is a finding and not a hang.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import credentials
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import NAME
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.listeners import listeners
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    client,
    metrics,
    receipt,
    receipt_files,
    requests,
    status,
)

SETTINGS = Path("/etc/vllm")
# What the unit starts and where it looks for models, where no unit says it.
PROGRAM = "/opt/vllm/instances/%i/bin/vllm"
TEMPLATE = "/etc/systemd/system/vllm@.service"
MIB = 1024 * 1024
# File systems that a full disk of stops an engine.
DISKS = ("/", "/tmp", "/var/lib/vllm", "/var/cache/vllm", "/var/log")  # noqa: S108 - only looked at
STARTS = re.compile(r"^ExecStart=[-@:+!]*(\S+)", re.MULTILINE)
CACHED = re.compile(r"\bHF_HUB_CACHE=([^\s\"']+)")
COMPILERS = ("gcc", "cc", "clang")
SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HUB_CACHE = "/var/lib/vllm/hub"
ONLINE = ("0", "false", "False", "no", "off", "")
KEY = "VLLM_API_KEY"
# Of the settings of an instance, what is looked at.
SETTING_NAMES = (
    *("model", "host", "port", "revision", "headless", "served-model-name", "max-model-len", "enforce-eager"),
    *("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "tokenizer", "chat-template"),
)


class Late(Exception):
    """A step took longer than it may."""


def within(seconds: float, step: Callable[[], Any]) -> Any:
    """Return what a step returns; raises :class:`Late` when it does not end in time, and what it raises."""
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = step()
        except Exception as error:
            box["error"] = error

    # A call that is stuck in the kernel cannot be stopped; a daemon thread does not keep the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Late
    if "error" in box:
        raise box["error"]
    return box["value"]


def names() -> list[str]:
    """Name the instances that have settings or a receipt; a file with another name than theirs is none."""
    files = [*SETTINGS.glob("*.yaml"), *Path(receipt.FOLDER).glob("*.json")]
    return sorted({path.stem for path in files if NAME.fullmatch(path.stem)})


def settings(text: str) -> dict[str, str]:
    """Read the scalars of an instance's settings; lists and mappings are passed over."""
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name in SETTING_NAMES and value.strip():
            found[name] = value.strip().strip("'\"")
    return found


def environment(text: str) -> dict[str, str]:
    """Read an environment file, as far as names and plain values go."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip().strip('"') for pair in pairs}


def describe(units: Mapping[str, Mapping[str, str]], seconds: float, ask: bool) -> dict[str, Any]:
    """Describe the host's instances as one JSON-able object.

    ``units`` are their properties by unit, ``seconds`` the time limit of each step, ``ask`` whether to send a short
    request to each server that is well. ``late`` names the steps that took too long.
    """
    late: list[str] = []

    def step(words: str, work: Callable[[], Any], default: Any = None, limit: float = seconds) -> Any:
        try:
            return within(limit, work)
        except Late:
            late.append(f"{words}: no answer within {limit:g} s")
        except OSError as error:
            late.append(f"{words}: {error.strerror or error}")
        return default

    wanted = step("the folder /etc/vllm", names, [])
    places = {name: step(f"the unit of {name}", partial(_places, name, units), Places()) for name in wanted}
    disks = dict.fromkeys((*DISKS, *(path for one in places.values() for path in one.disks())))
    return {
        "now": time.time(),
        "monotonic": time.clock_gettime(time.CLOCK_MONOTONIC),
        "disks": [found for path in disks if (found := step(f"the disk of {path}", partial(_disk, path)))],
        "compiler": next((found for one in COMPILERS if (found := shutil.which(one, path=SERVICE_PATH))), None),
        "tokens": [path for path in (credentials.ENCRYPTED, credentials.PLAIN) if Path(path).exists()],
        "instances": {
            name: _instance(name, units.get(f"vllm@{name}.service", {}), places[name], seconds, ask, step)
            for name in wanted
        },
        "late": late,
    }


@dataclass(frozen=True)
class Places:
    """Where an instance lies, as its unit says it: the program, the hub's cache, the model."""

    program: str = ""
    hub_cache: str = HUB_CACHE
    model: str = ""

    def disks(self) -> list[str]:
        """Folders whose file systems it needs: the engine root, the cache, a model by path."""
        root = str(Path(self.program).parents[3]) if self.program.count("/") > 3 else ""
        return [path for path in (root, self.hub_cache, self.model) if path.startswith("/") and Path(path).exists()]


def _places(name: str, units: Mapping[str, Mapping[str, str]]) -> Places:
    """Read the unit of an instance; what its drop-ins set counts more, and its own environment most."""
    unit = units.get(f"vllm@{name}.service", {})
    text = text_of(Path(unit.get("FragmentPath") or TEMPLATE)) or ""
    drop_ins = [text_of(Path(path)) or "" for path in (unit.get("DropInPaths") or "").split()]
    own = text_of(SETTINGS / f"{name}.env") or ""
    program = next((found for found in STARTS.findall(text) if found.endswith("/vllm")), PROGRAM)
    caches = [found for one in (text, *drop_ins, own) for found in CACHED.findall(one)]
    model = settings(text_of(SETTINGS / f"{name}.yaml") or "").get("model") or ""
    return Places(
        program.replace("%i", name),
        (caches or [HUB_CACHE])[-1].replace("%S", "/var/lib").replace("%i", name),
        model if model.startswith("/") else "",
    )


def _disk(path: str) -> dict[str, Any] | None:
    if not Path(path).exists():
        return None
    stat = os.statvfs(path)
    return {
        "path": path,
        "device": Path(path).stat().st_dev,
        "total_mib": stat.f_blocks * stat.f_frsize // MIB,
        "free_mib": stat.f_bavail * stat.f_frsize // MIB,
        "free_inodes": stat.f_favail if stat.f_files else None,
    }


def _instance(
    name: str, unit: Mapping[str, str], places: Places, seconds: float, ask: bool, step: Callable[..., Any]
) -> dict[str, Any]:
    text = text_of(SETTINGS / f"{name}.yaml")
    written = settings(text or "")
    env = environment(text_of(SETTINGS / f"{name}.env") or "")
    process = systemd.process_of(unit)
    receipt_text = text_of(receipt_files.path(name))
    program = Path(places.program)
    port = good_states.number(written.get("port"), status.DEFAULT_PORT)
    return {
        "settings": written,
        "has_settings": text is not None,
        "environment": sorted(env),
        "online": env.get("HF_HUB_OFFLINE", "1") in ONLINE,
        "process": process,
        "pids": step(f"the processes of {name}", lambda: systemd.pids_of(unit), []),
        "release": _release(process, program.parents[1]) if places.program else None,
        "program": places.program or None,
        "release_there": not places.program or step(f"the release of {name}", program.exists, True),
        "receipt": receipt.read(receipt_text),
        "receipt_damaged": receipt_text is not None and receipt.read(receipt_text) is None,
        "check": _check(name),
        "model": step(
            f"the model of {name}", lambda: _model(written, places.hub_cache), {"state": "unknown", "missing": []}
        ),
        "listener": next(iter(step(f"port {port}", lambda: listeners([port]), [])), None),
        "server": step(
            f"the server of {name}", lambda: _server(name, written, process, seconds, ask), None, 3 * seconds
        ),
    }


def _release(process: Mapping[str, Any] | None, link: Path) -> str | None:
    if process:
        folder = receipt.release_of(text_of(Path(f"/proc/{process['pid']}/maps")) or "")
        if folder:
            return Path(folder).name
    try:
        return link.resolve(strict=True).name
    except OSError:
        return None


def _check(name: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text_of(Path(receipt.CHECKS / f"{name}.json")) or "null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _model(written: Mapping[str, str], hub_cache: str) -> dict[str, Any]:
    """Look whether the files of a model are there: by its index, where it has one."""
    model = written.get("model") or ""
    folder = Path(model)
    if not model.startswith("/"):
        found = _snapshot(Path(hub_cache) / f"models--{model.replace('/', '--')}", written.get("revision"))
        if not model or found is None:
            # the cache may lie elsewhere
            return {"state": "unknown", "path": hub_cache, "missing": []}
        folder = found
    if not folder.is_dir():
        return {"state": "missing", "path": str(folder), "missing": []}
    missing = [] if (folder / "config.json").exists() or (folder / "params.json").exists() else ["config.json"]
    try:
        index = json.loads(text_of(folder / "model.safetensors.index.json") or "{}")
        wanted = sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        wanted = []
    missing += [name for name in wanted if not (folder / str(name)).exists()]
    weights = [path for kind in ("*.safetensors", "*.bin", "*.pt", "*.gguf") for path in folder.glob(kind)]
    if not wanted and not weights:
        missing.append("weights (*.safetensors)")
    missing += [f"{path.name} (empty)" for path in weights if path.exists() and not path.stat().st_size]
    return {"state": "incomplete" if missing else "ok", "path": str(folder), "missing": missing[:20]}


def _snapshot(repository: Path, revision: str | None) -> Path | None:
    """The folder of a revision of a model in the hub's cache: a commit, or what a branch led to when it was fetched."""
    wanted = revision or "main"
    if "/" in wanted and ".." in wanted:
        return None
    commit = (text_of(repository / "refs" / wanted) or wanted).strip()
    folder = repository / "snapshots" / commit
    if folder.is_dir():
        return folder
    if revision:
        return None
    found = sorted(repository.glob("snapshots/*/config.json"))
    return found[-1].parent if found else None


def _server(
    name: str, written: Mapping[str, str], process: Mapping[str, Any] | None, seconds: float, ask: bool
) -> dict[str, Any] | None:
    """Ask the server of an instance: /health, /v1/models, /metrics, and a short request where ``ask`` says so."""
    if process is None or written.get("headless") == "true":
        return None
    key = systemd.environment_of(int(process["pid"])).get(KEY)
    server = client.Server(
        client.probe_address(written.get("host", "127.0.0.1")),
        good_states.number(written.get("port"), status.DEFAULT_PORT),
        seconds,
        key,
    )
    found: dict[str, Any] = {"health": None, "problem": None, "models": None, "load": None, "request": None}
    try:
        found["health"] = server.request("/health")[0]
        if found["health"] != 200:
            return found
        code, answer = server.request("/v1/models")
        found["models"] = {
            "status": code,
            "offered": {str(one.get("id")): one.get("max_model_len") for one in client.data(answer)},
        }
        code, text = server.request("/metrics")
        if code == 200 and isinstance(text, str):
            found["load"] = metrics.load(metrics.parse(text))
        if ask:
            served = name if name in found["models"]["offered"] else next(iter(found["models"]["offered"]), name)
            found["request"] = _request(server, served)
    except client.NoAnswer as error:
        found["problem"] = str(error)
    return found


def _request(server: client.Server, name: str) -> dict[str, Any]:
    begin = time.monotonic()
    try:
        answer = requests.first_request(server, name, client.offered_paths(server))
    except (client.NoAnswer, client.WrongAnswer) as error:
        return {"kind": None, "seconds": round(time.monotonic() - begin, 3), "problem": str(error)}
    return {"kind": answer.kind, "seconds": round(answer.seconds, 3), "problem": None}
