# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How numbers and choices of a plan are said, in the terminal and on the page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import names

UNKNOWN = "?"
# The classes of links that gpu_info tells.
LINKS: Mapping[Any, str] = {
    "nvswitch": "NVSwitch",
    "nvlink_full": "NVLink, each to each",
    "nvlink_pairs": "NVLink in pairs",
    "nvlink_partial": "NVLink, partly",
    "xgmi": "XGMI",
    "pcie_switch": "PCIe, one switch",
    "pcie_host": "PCIe",
    "pcie_cross_numa": "PCIe across NUMA nodes",
    "none": "no links",
    None: "links unknown",
}
SOURCES: Mapping[Any, str] = {"live": "read from the host", "recorded": "from a recording", "profile": "as described"}


def gpus(gpu_facts: Mapping[str, Any]) -> str:
    """The GPUs of a host in a few words: ``8 x NVIDIA H100 80GB HBM3``."""
    kinds: dict[str, int] = {}
    for device in gpu_facts.get("devices") or ():
        kind = str(device.get("name") or "GPU")
        kinds[kind] = kinds.get(kind, 0) + 1
    if kinds:
        return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    if gpu_facts.get("accelerator") == "cpu" and gpu_facts.get("state") == "ready":
        return "CPU only"
    return "no usable GPU"


def hardware(gpu_facts: Mapping[str, Any]) -> list[str]:
    """A host in a few words each: GPUs, links, how the facts were had."""
    several = len(gpu_facts.get("devices") or ()) > 1
    found = [gpus(gpu_facts)]
    if several:
        found.append(LINKS.get(gpu_facts.get("interconnect"), str(gpu_facts.get("interconnect"))))
    return [*found, SOURCES.get(gpu_facts.get("source"), "source unknown")]


def sizes(layout: Mapping[str, Any]) -> str:
    """The parallel sizes, those of 1 left out but for TP: ``TP4 PP2 EP``."""
    found = [f"TP{layout.get('tensor_parallel_size', 1)}"]
    for short, field in (("PP", "pipeline_parallel_size"), ("DP", "data_parallel_size")):
        if (layout.get(field) or 1) > 1:
            found.append(f"{short}{layout[field]}")
    return " ".join([*found, "EP"] if layout.get("enable_expert_parallel") else found)


def devices(layout: Mapping[str, Any]) -> str:
    """The GPUs of an instance on its first host, and how many hosts more."""
    nodes: Sequence[Mapping[str, Any]] = layout.get("nodes") or ()
    if not nodes or not nodes[0]["devices"]:
        return "CPU" if layout.get("accelerator") == "cpu" else "-"
    own = names.numbers(nodes[0]["devices"])
    return own if len(nodes) == 1 else f"{own} +{len(nodes) - 1} host" + ("s" if len(nodes) > 2 else "")


def count(number: float | None) -> str:
    """A whole number with its thousands set apart, or UNKNOWN."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def times(number: float | None) -> str:
    """How many requests at once: two digits behind the point below 1, one below 100."""
    if number is None:
        return UNKNOWN
    return f"{number:,.{0 if number >= 100 else 1 if number >= 1 else 2}f}"


def gib(number: float | None) -> str:
    """GiB with one digit behind the point, or UNKNOWN."""
    return UNKNOWN if number is None else f"{number:.1f}"


def refusal(rejected: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Reason and remedies of a refusal as sentences, best remedy first."""
    return sentence(str(rejected["reason"])), [sentence(str(remedy)) for remedy in rejected.get("remedies") or ()]


def sentence(text: str) -> str:
    """A text with a capital first letter, where it begins with a word, and an end."""
    text = text.strip()
    first = text.split(" ", 1)[0]
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."


def letter(number: int) -> str:
    """The label of an instance by its place in a section: A to Z, then A1, B1 and so on."""
    rounds, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(rounds) if rounds else "")


def hue(number: int) -> str:
    """The class of an instance's colour; after eight instances the colours begin again, the letters do not."""
    return f"hue{number % 8}"
