# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""CPU, memory and NUMA nodes from lscpu, numactl -H, /proc and /sys. Pure: text in, facts out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

_NODE_FILE = re.compile(r"^/sys/devices/system/node/node(\d+)/(cpulist|meminfo)$")
_LSCPU_NODE = re.compile(r"^NUMA node(\d+) CPU\(s\)$")
_RANGE = re.compile(r"^(\d+)(?:-(\d+))?$")
# No kernel numbers CPUs beyond this (CONFIG_NR_CPUS is at most 8192); a larger range is a damaged line.
MAX_CPU = 65536


def expand_ranges(text: str) -> list[int] | None:
    """Expand ``0-3,8`` to [0, 1, 2, 3, 8]; None where the text is anything else, [] where it is blank."""
    numbers: list[int] = []
    for part in text.replace(" ", "").split(","):
        if not part:
            continue
        match = _RANGE.match(part)
        if not match:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > MAX_CPU:
            return None
        numbers.extend(range(first, last + 1))
    return sorted(set(numbers))


def parse_lscpu(text: str) -> dict[str, str]:
    """The ``key: value`` lines of lscpu; the first of two equal keys counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def cpu_facts(lscpu: Mapping[str, str], files: Mapping[str, str]) -> dict[str, Any]:
    """Sockets, cores of all sockets, hardware threads on line, model, architecture, hypervisor."""
    sockets = _number(lscpu.get("Socket(s)"))
    per_socket = _number(lscpu.get("Core(s) per socket"))
    online = expand_ranges(lscpu.get("On-line CPU(s) list", "")) or None
    threads = len(online) if online else _number(lscpu.get("CPU(s)"))
    return {
        "sockets": sockets,
        "cores": sockets * per_socket if sockets and per_socket else None,
        "threads": threads,
        "model": lscpu.get("Model name") or _cpuinfo_model(files.get("/proc/cpuinfo", "")),
        "architecture": lscpu.get("Architecture"),
        "hypervisor": lscpu.get("Hypervisor vendor"),
    }


def numa_nodes(lscpu: Mapping[str, str], files: Mapping[str, str], numactl: str = "") -> list[dict[str, Any]]:
    """The NUMA nodes, by id: ``id``, ``cpus`` (numbers, [] for memory-only nodes), ``memory_total_mib``.

    /sys is the best witness, then numactl, then lscpu (which does not tell memory).
    """
    return _nodes_from_sys(files) or _nodes_from_numactl(numactl) or _nodes_from_lscpu(lscpu)


def meminfo_mib(text: str, key: str = "MemTotal") -> int | None:
    """A value of /proc/meminfo or of a node's meminfo, in MiB."""
    match = re.search(rf"\b{re.escape(key)}:\s+(\d+) kB", text)
    return int(match[1]) // 1024 if match else None


def _node(number: int, cpus: list[int] | None, memory: int | None) -> dict[str, Any]:
    return {"id": number, "cpus": cpus, "memory_total_mib": memory}


def _nodes_from_sys(files: Mapping[str, str]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, str]] = {}
    for path, text in files.items():
        match = _NODE_FILE.match(path)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = text
    return [
        _node(number, expand_ranges(texts.get("cpulist", "?").strip()), meminfo_mib(texts.get("meminfo", "")))
        for number, texts in sorted(found.items())
    ]


def _nodes_from_numactl(text: str) -> list[dict[str, Any]]:
    sizes = dict(re.findall(r"^node (\d{1,6}) size: (\d{1,12}) MB$", text, re.MULTILINE))
    return [
        _node(int(number), expand_ranges(",".join(cpus.split())), int(sizes[number]) if number in sizes else None)
        for number, cpus in re.findall(r"^node (\d{1,6}) cpus:([\d ]*)$", text, re.MULTILINE)
    ]


def _nodes_from_lscpu(lscpu: Mapping[str, str]) -> list[dict[str, Any]]:
    found = ((_LSCPU_NODE.match(key), value) for key, value in lscpu.items())
    return [_node(int(match[1]), expand_ranges(value), None) for match, value in found if match]


def _cpuinfo_model(text: str) -> str | None:
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def _number(text: str | None) -> int | None:
    return int(text) if text and is_whole(text) else None
