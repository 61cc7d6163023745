# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The table of signatures: every fault that is known by what programs print. Data.

The warm-up, the doctor and docs/troubleshooting.md read this one table. A new fault is an entry with the lines that are
printed as its ``sample``; `make troubleshooting` writes the page anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import (
    signatures_compile,
    signatures_driver,
    signatures_host,
    signatures_kernel,
    signatures_layout,
    signatures_links,
    signatures_memory,
    signatures_model,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import Signature

# Which of two counts is a matter of what they say and when it was said (signature.py), not of their place here.
TABLE: tuple[Signature, ...] = (
    *signatures_memory.SIGNATURES,
    *signatures_layout.SIGNATURES,
    *signatures_links.SIGNATURES,
    *signatures_compile.SIGNATURES,
    *signatures_driver.SIGNATURES,
    *signatures_kernel.SIGNATURES,
    *signatures_model.SIGNATURES,
    *signatures_host.SIGNATURES,
)
BY_ID = {one.id: one for one in TABLE}
AREAS: Sequence[str] = tuple(dict.fromkeys(one.area for one in TABLE))
