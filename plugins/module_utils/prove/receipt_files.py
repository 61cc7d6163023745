# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the receipts of this host, and what they are made of. I/O only; docs/receipt.md says what they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import instance_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import text_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import good_states
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import receipt


def path(name: str) -> Path:
    """Return where the receipt of an instance lies."""
    return Path(receipt.FOLDER / f"{name}.json")


def found(name: str) -> dict[str, Any] | None:
    """Return the receipt of an instance; None where there is none that can be read."""
    return receipt.read(text_of(path(name)))


def checks(name: str) -> dict[str, Any]:
    """Return what other roles measured of an instance."""
    try:
        measured = json.loads(text_of(Path(receipt.CHECKS / f"{name}.json")) or "null")
    except (ValueError, RecursionError):
        measured = None
    return {"nccl": measured} if measured is not None else {}


def kept(name: str, written: Mapping[str, Any] | None) -> bool:
    """Tell whether the last good state of an instance has this receipt."""
    good = instance_files.read_state(name, good_states.GOOD) or {}
    return written is not None and good.get("receipt") == written


def stands(layout: Mapping[str, Any], process: Mapping[str, Any] | None, tolerance: float) -> bool:
    """Tell whether nothing is left to write or to say, as the receipt of this process has all that is known of it."""
    name = str(layout["name"])
    old = found(name)
    if old is None or not receipt.is_of(old, process):
        return False
    new = receipt.build(layout, receipt.measured_of(old), checks(name), tolerance, "")
    return receipt.same(old, new) and not receipt.warnings(new) and kept(name, old)
