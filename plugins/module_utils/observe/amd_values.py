# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of AMD GPUs while texts are being read, and how their values are written. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole

MIB = 1024 * 1024
_NAME_KEYS = ("Device Name", "Card Series", "Card series", "Card model", "Card Model")


class AmdValues:
    """What was read so far: values per GPU, and link type and hops per pair."""

    def __init__(self) -> None:
        self.gpus: dict[int, dict[str, Any]] = {}
        self.types: dict[tuple[int, int], str] = {}
        self.hops: dict[tuple[int, int], int] = {}
        self.driver: str | None = None
        self.warnings: list[str] = []

    def add(self, index: int, key: str, value: Any) -> None:
        """Note a value of a GPU unless it says nothing or one was noted before."""
        if value not in (None, "N/A", ""):
            self.gpus.setdefault(index, {}).setdefault(key, value)


def add_link(state: AmdValues, index: int, other: int, kind: Any, hops: Any) -> None:
    """Note what is said of one direction of a link: XGMI or PCIE, and its hops."""
    state.gpus.setdefault(index, {})
    if isinstance(kind, str):
        state.types[index, other] = kind.upper()
    if gpu_number(hops) is not None:
        state.hops[index, other] = hops


def gpu_number(value: Any) -> int | None:
    """A GPU's number; None for anything else, so that a damaged file cannot make a huge or odd one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1024 else None


def known_text(value: Any) -> str | None:
    """A text that says something; None for anything else."""
    return value if isinstance(value, str) and value not in ("N/A", "", "<redacted>") else None


def size_mib(value: Any) -> int | None:
    """A size in MiB: amd-smi writes MB and counts in 1024 * 1024 (24560 MB for a 24 GiB RX 7900 XTX)."""
    number = value.get("value") if isinstance(value, dict) else value
    unit = value.get("unit", "MB") if isinstance(value, dict) else "MB"
    if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 12:
        number = int(number)
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 <= number < 1e12:
        return None
    factor = {"MB": 1, "MIB": 1, "GB": 1024, "GIB": 1024}.get(str(unit).upper())
    return int(number * factor) if factor else None


def bytes_mib(value: str) -> int | None:
    """A decimal number of bytes in whole MiB."""
    return int(value) // MIB if value.isascii() and is_whole(value) and len(value) < 18 else None


def add_rocm_value(index: int, key: str, value: Any, state: AmdValues) -> None:
    """Take over one value under the name that rocm-smi gives it, in JSON and in text alike."""
    if not isinstance(value, str):
        return
    if key in _NAME_KEYS and not value.startswith("0x"):
        state.add(index, "name", value)
    elif key == "GFX Version":
        state.add(index, "gfx", value)
    elif key == "PCI Bus":
        state.add(index, "pci_bus_id", value)
    elif key == "Unique ID":
        state.add(index, "uuid", value)
    elif key == "VRAM Total Memory (B)":
        state.add(index, "memory_total_mib", bytes_mib(value))
    elif key == "VRAM Total Used Memory (B)":
        state.add(index, "memory_used_mib", bytes_mib(value))
    elif key == "Numa Node" and is_whole(value) and len(value) < 4:
        state.add(index, "numa_node", int(value))
