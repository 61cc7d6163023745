# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the short answers of nvidia-smi: ``nvlink -s``, ``-L``, ``--query-gpu=... --format=csv``."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import ParseError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import clean_lines

_GPU = re.compile(r"^\s*GPU (\d{1,4}):\s{0,9}(.{0,200}?)\s{0,9}(?:\(UUID: (GPU-[^)]{0,100})\))?$")
_LINK = re.compile(r"^\s*Link (\d{1,4}):\s*(.*)$")
_SPEED = re.compile(r"^([\d.]+) GB/s$")
_MIG = re.compile(r"^\s*MIG (\S+)\s+Device\s+(\d{1,4}):\s*(?:\(UUID: (MIG-[^)]*)\))?$")
_UNITS = re.compile(r"\[[^\[\]]*\]$")
# The tool's own words for a driver that does not answer. Source: nvidia-smi 367 to 610.
_COMPLAINT = re.compile(
    r"nvidia-smi has failed|failed to initialize nvml|no devices were found|command not found|"
    r"unable to determine the device handle|gpu access blocked|insufficient permissions|not a valid field",
    re.IGNORECASE,
)
MOST_LINKS = 64


def complains(text: str) -> bool:
    """Whether a text is a complaint of nvidia-smi instead of an answer; then it is no damaged answer."""
    return not text.strip() or bool(_COMPLAINT.search(text[:4000]))


@dataclass
class GpuLinks:
    """NVLinks of one GPU: speed of each active link in GB/s per direction, and what was said instead."""

    index: int
    name: str | None
    speeds: list[float] = field(default_factory=list)
    inactive: int = 0
    message: str | None = None


def parse_nvlink(text: str) -> list[GpuLinks]:
    """Read ``nvidia-smi nvlink -s``. A GPU without active links has no speeds and mostly a message.

    An empty text (GPUs without NVLink on older drivers) gives an empty list. Raises ParseError where a text
    that is not empty names no GPU.
    """
    found: list[GpuLinks] = []
    stray: tuple[int, str] | None = None
    for number, line in enumerate(clean_lines(text), 1):
        gpu = _GPU.match(line)
        link = _LINK.match(line)
        if gpu:
            if int(gpu[1]) in [entry.index for entry in found]:
                break
            found.append(GpuLinks(int(gpu[1]), gpu[2] or None))
        elif link and found:
            _add_link(found[-1], link[2].strip())
        elif line.strip() and found and found[-1].message is None and not found[-1].speeds:
            found[-1].message = line.strip()
        elif line.strip() and stray is None:
            stray = number, line.strip()
    if not found and stray and not _says_no_links(text):
        raise ParseError(
            f"This is no output of nvidia-smi nvlink -s: line {stray[0]} says {stray[1][:60]!r} where "
            "'GPU 0: name' was expected.",
            stray[0],
            1,
        )
    return found


def _says_no_links(text: str) -> bool:
    return bool(re.search(r"nvlink|no devices were found|nvml|nvidia", text, re.IGNORECASE))


def _add_link(gpu: GpuLinks, said: str) -> None:
    speed = _SPEED.match(said)
    if len(gpu.speeds) + gpu.inactive >= MOST_LINKS:
        return
    try:
        value = float(speed[1]) if speed else None
    except ValueError:
        value = None
    if value is None:
        gpu.inactive += 1
    else:
        gpu.speeds.append(value)


def parse_list(text: str) -> list[dict[str, Any]]:
    """Read ``nvidia-smi -L``: ``index``, ``name``, ``uuid``, ``mig_devices`` (index, profile, uuid) per GPU.

    Raises ParseError where a text that is not empty names no GPU.
    """
    found: list[dict[str, Any]] = []
    for line in clean_lines(text):
        gpu, mig = _GPU.match(line), _MIG.match(line)
        if gpu:
            found.append({"index": int(gpu[1]), "name": gpu[2] or None, "uuid": gpu[3], "mig_devices": []})
        elif mig and found:
            found[-1]["mig_devices"].append({"index": int(mig[2]), "profile": mig[1], "uuid": mig[3]})
    if not found and text.strip():
        raise ParseError("This is no output of nvidia-smi -L: it has no line 'GPU 0: name (UUID: ...)'.", 1, 1)
    return found


def parse_query(text: str) -> list[dict[str, str | None]]:
    """Read ``nvidia-smi --query-gpu=... --format=csv``: one dictionary per GPU, keys without their units.

    Lines that complain about a lost GPU stand before, between or after the table and are skipped. Values keep
    their units; N/A and the like are None. Raises ParseError where the text has no header.
    """
    lines = clean_lines(text)
    start = next((n for n, line in enumerate(lines) if _is_query_header(line)), None)
    if start is None:
        raise ParseError(
            "This is no output of nvidia-smi --query-gpu=... --format=csv: it has no header such as "
            "'index, pci.bus_id, compute_cap'.",
            1,
            1,
        )
    rows = _csv_rows(lines[start:])
    keys = [_UNITS.sub("", key.strip()).rstrip() for key in rows[0]]
    return [{key: _query_value(value) for key, value in zip(keys, row)} for row in rows[1:] if len(row) == len(keys)]


def _is_query_header(line: str) -> bool:
    first = _UNITS.sub("", line.split(",", 1)[0].strip()).rstrip()
    return "," in line and bool(re.match(r"^[a-z_]+(\.[a-zA-Z_.]+)?$", first)) and not first.isdigit()


def _csv_rows(lines: list[str]) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in lines:
        try:
            rows.extend(csv.reader(io.StringIO(line), skipinitialspace=True))
        except csv.Error:
            continue
    return rows


def _query_value(value: str) -> str | None:
    value = value.strip()
    unknown = re.match(r"^\[?(n/a|not supported|unknown error|not found|gpu requires reset|)\]?$", value, re.I)
    return None if unknown else value
