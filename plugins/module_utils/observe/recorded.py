# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads and writes a folder of recorded outputs. The only place that touches such a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import instance_sources, redact, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import (
    COMMANDS,
    FAILED,
    HOST,
    MISSING,
    OK,
    RECORDED_ONLY,
    TIMEOUT,
    Outputs,
    ToolOutput,
)

# How each tool ended, by name: status, returncode, seconds, error. Folders made by hand have no such file.
INDEX = "record.json"
FILE_LIMIT_BYTES = 64 * 1024 * 1024
RECORDING_LIMIT_BYTES = 4 * FILE_LIMIT_BYTES
RECORDING_LIMIT_FILES = 500
_OF_INSTANCES = frozenset((*instance_sources.commands(()), instance_sources.UNITS, instance_sources.INSTANCES))
_WANTED = frozenset((*COMMANDS, *RECORDED_ONLY, HOST, *_OF_INSTANCES))
_AMD_NAME = re.compile(r"(?:amd|rocm)-smi-[\w.-]{1,100}\.(?:json|txt)", re.ASCII)
_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_SECRETS = (
    # nvidia-smi -q -x
    (re.compile(r"(<(serial|chassis_serial_number|pdi|board_id|gpu_fabric_guid)>)[^<]*(</)"), r"\1N/A\3"),
    (re.compile(r"(<clusterUuid>)[^<]*(</)"), r"\1N/A\2"),
    # amd-smi, rocm-smi
    (
        re.compile(r'("(?:asic_serial|product_serial|serial_number|uuid|Unique ID|Serial Number)":\s{0,40})"[^"]*"'),
        r'\1"N/A"',
    ),
    (re.compile(r"((?:Unique ID|Serial Number)[ \t]{0,40}:[ \t]{0,40})\S+"), r"\1N/A"),
    (re.compile(r"(^[ \t]*(?:UUID|ASIC_SERIAL|PRODUCT_SERIAL):[ \t]*)\S+", re.MULTILINE), r"\1N/A"),
    # lspci -vv
    (re.compile(r"(Device Serial Number )\S+"), r"\1removed"),
    (re.compile(r"(\[SN\] Serial number: ).*"), r"\1removed"),
)


def read_recording(folder: str) -> Outputs:
    """Read the outputs of a folder. Files of other names are left alone.

    Raises InputError where the folder cannot be read or holds no file of a known name.
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"recorded is {folder!r}, which is no folder on this host. Write its full path.")
    try:
        names = sorted(path.name for path in base.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"The folder {folder!r} cannot be read: {error.strerror}.") from error
    index = _index(base / INDEX)
    outputs = {name: _output(base / name, index.get(name, {})) for name in names if _is_wanted(name)}
    for name, entry in index.items():
        if name not in outputs and name in COMMANDS and entry.get("status") in (MISSING, TIMEOUT, FAILED):
            outputs[name] = ToolOutput(entry["status"], error=str(entry.get("error") or ""))
    if not outputs:
        raise InputError(
            f"The folder {folder!r} holds no recording: no file has a name such as {sources.NVIDIA_XML}, "
            f"{sources.NVIDIA_TOPOLOGY} or {sources.LSPCI}."
        )
    return outputs


def checked(files: Any) -> dict[str, str]:
    """Return what a host answered as its recording, if it is one; the host is a stranger to who writes its files.

    Raises InputError for a name that is not one of a recording, and for what is too long or no text.
    """
    if not isinstance(files, Mapping):
        raise InputError("The host's answer is no recording: its files are no mapping. Nothing was written.")
    for name, text in files.items():
        if not isinstance(name, str) or not (name == INDEX or _is_wanted(name)):
            raise InputError(
                f"The host's answer has a file {str(name)[:100]!r}, which no recording has. Nothing was written. "
                "Find out who answers for Python on that host."
            )
        if not isinstance(text, str) or len(text) > FILE_LIMIT_BYTES:
            raise InputError(f"The host's answer for {name} is no text of at most 64 MiB. Nothing was written.")
    if len(files) > RECORDING_LIMIT_FILES or sum(map(len, files.values())) > RECORDING_LIMIT_BYTES:
        raise InputError(
            f"The host's answer has {len(files)} files; a recording has {RECORDING_LIMIT_FILES} at most, of 256 MiB "
            "together. Nothing was written."
        )
    return dict(files)


def _is_wanted(name: str) -> bool:
    return name in _WANTED or bool(_AMD_NAME.fullmatch(name)) or _is_of_instances(name)


def _is_of_instances(name: str) -> bool:
    return name in _OF_INSTANCES or bool(instance_sources.JOURNAL.fullmatch(name))


def _index(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): entry for name, entry in found.items() if isinstance(entry, dict)}


def _output(path: Path, entry: Mapping[str, Any]) -> ToolOutput:
    try:
        with path.open("rb") as stream:
            text = stream.read(FILE_LIMIT_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        return ToolOutput(FAILED, error=f"{path.name} cannot be read: {error.strerror}.")
    status = entry.get("status") if entry.get("status") in (OK, FAILED, TIMEOUT) else OK
    seconds, code = entry.get("seconds"), entry.get("returncode")
    return ToolOutput(
        str(status),
        text,
        str(entry.get("error") or ""),
        code if isinstance(code, int) else None,
        float(seconds) if isinstance(seconds, (int, float)) else None,
    )


def recording_files(outputs: Outputs, keep_identity: bool) -> dict[str, str]:
    """The files of a recording, by name: one per tool that is there, and the index.

    Without ``keep_identity`` serial numbers are removed and every UUID becomes the number of its first
    appearance, the same in all files, so that the files still fit together.
    """
    numbers: dict[str, str] = {}
    files: dict[str, str] = {}
    index: dict[str, dict[str, Any]] = {}
    for name, output in outputs.items():
        error = output.error if keep_identity else _without_identity(output.error, numbers)
        index[name] = {
            "status": output.status,
            "returncode": output.returncode,
            "seconds": output.seconds,
            "error": error[:4000],
        }
        if output.status != MISSING:
            # what the engines and the kernel say may hold secrets, which nobody asked to keep
            text = redact.redacted(output.text) if _is_of_instances(name) else output.text
            files[name] = text if keep_identity else _without_identity(text, numbers)
    files[INDEX] = json.dumps(index, indent=1, sort_keys=True) + "\n"
    return files


def _without_identity(text: str, numbers: dict[str, str]) -> str:
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)

    def numbered(match: re.Match[str]) -> str:
        number = numbers.setdefault(match[0].lower(), f"{len(numbers):012d}")
        return f"{match[1]}-00000000-0000-0000-0000-{number}"

    return _UUID.sub(numbered, text)
