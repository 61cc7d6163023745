"""The facts of this machine and a recording of its tools, as the modules gpu_info and gpu_record give them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, hostfiles, recorded, runner, sources

COLLECTIONS = Path(__file__).resolve().parents[2] / ".collections"
TOOL_SECONDS = 60.0
# Beyond the tools' own limit.
MODULE_SECONDS = 180.0


class LabError(Exception):
    """Something of the lab did not work; a sentence."""


def answer_of(output: str) -> dict[str, Any]:
    """Take the answer out of what `ansible` prints of one host: "localhost | SUCCESS => {...}". Raises LabError."""
    head, arrow, body = output.partition(" => ")
    if not arrow:
        raise LabError(f"ansible said: {' '.join(output.split())[-500:] or 'nothing'}")
    try:
        found, _end = json.JSONDecoder().raw_decode(body.lstrip())
    except ValueError as error:
        raise LabError(f"ansible's answer cannot be read ({error}): {body[:200]}") from error
    if "SUCCESS" not in head and "CHANGED" not in head:
        raise LabError(f"the module failed: {found.get('msg', found) if isinstance(found, dict) else found}")
    if not isinstance(found, dict):
        raise LabError(f"ansible's answer is no mapping: {body[:200]}")
    return found


def ask_module(name: str) -> dict[str, Any]:
    """Run a module of this collection on this machine through Ansible, without a configuration. Raises LabError."""
    with tempfile.TemporaryDirectory() as home:
        settings = Path(home) / "ansible.cfg"
        settings.touch()
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CONFIG": str(settings),
            "ANSIBLE_HOME": home,
            "ANSIBLE_LOCAL_TEMP": home,
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-i", "localhost,", "-c", "local"]
        command += ["-e", f"ansible_python_interpreter={sys.executable}", "-e", f"ansible_remote_tmp={home}"]
        command += ["-m", f"gpufleet.vllm.{name}", "-a", f"timeout={TOOL_SECONDS:g}"]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MODULE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{name} did not end within {MODULE_SECONDS:g} s") from error
    try:
        return answer_of(done.stdout)
    except LabError as error:
        raise LabError(f"{error} {' '.join(done.stderr.split())[-500:]}".strip()) from error


def observe() -> dict[str, Any]:
    """Return ``gpu_facts``, ``recording`` (texts by file name), ``through`` (how), and ``differences``.

    Without ansible-core the modules' own functions are called. ``differences`` are the facts that a recording, read
    again, tells otherwise than the machine: what was removed from it, and what is wrong.
    """
    problem = None
    if importlib.util.find_spec("ansible"):
        try:
            found = ask_module("gpu_info")["gpu_facts"]
            files = ask_module("gpu_record")["files"]
            return _observed(found, files, "ansible", None)
        except (LabError, KeyError) as error:
            problem = f"through Ansible it did not work: {error}"
    outputs = runner.run_all(sources.COMMANDS, TOOL_SECONDS, os.environ)
    host = json.dumps(hostfiles.read_host(), indent=1, sort_keys=True) + "\n"
    outputs[sources.HOST] = sources.ToolOutput(sources.OK, host)
    return _observed(facts.build_facts(outputs), recorded.recording_files(outputs, False), "functions", problem)


def _observed(found: Mapping[str, Any], files: Mapping[str, str], through: str, problem: str | None) -> dict[str, Any]:
    return {
        "gpu_facts": dict(found),
        "recording": dict(files),
        "through": through,
        "problem": problem,
        "differences": sorted(differences(found, replayed(files))),
    }


def replayed(files: Mapping[str, str]) -> dict[str, Any]:
    """Build the facts from a recording, through files, as `gpu_info` with `recorded` does."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return facts.build_facts(recorded.read_recording(folder), "recorded")


# Between two runs of the tools these change by themselves.
MOVING = ("source", "tools")


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """List the places in which two trees of facts differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = []
        for name in {*one, *other}:
            if place or name not in MOVING:
                found += differences(one.get(name), other.get(name), f"{place}.{name}" if place else str(name))
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [said for at, pair in enumerate(zip(one, other)) for said in differences(*pair, f"{place}[{at}]")]
    return [] if one == other else [f"{place}: {json.dumps(one)[:80]} against {json.dumps(other)[:80]}"]
