# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say why a download from the hub ended, by what the tool wrote. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What huggingface_hub 2.4 prints (huggingface_hub/errors.py, utils/_http.py), the most telling first.
CAUSES: Sequence[tuple[str, str, str]] = (
    (
        r"No space left on device|Not enough free disk space",
        "the disk is full",
        "free some, or name a folder on a larger disk in model_hub_cache",
    ),
    (
        r"GatedRepo|Access to model .* is restricted|awaiting a review",
        "the hub does not give this model to the host's token",
        "accept its licence with the account of vllm_hf_token",
    ),
    (r"\b401\b|Invalid user token|Invalid credentials", "the hub refuses the token", "renew vllm_hf_token"),
    (r"\b403\b|Forbidden", "the hub, or a proxy before it, refuses the host", "see what the proxy allows"),
    (r"\b429\b|Too Many Requests", "the hub asks for patience", "set vllm_hf_token, and run it again later"),
    (
        r"Name or service not known|Temporary failure in name resolution|Network is unreachable|No route to host|"
        r"Connection refused|ConnectError|LocalEntryNotFound|offline mode",
        "the host does not reach the hub",
        "see its route and its proxy (https_proxy), or name a mirror in layout_hub_endpoint",
    ),
    (r"Read-only file system|Permission denied", "the cache cannot be written", "correct model_hub_cache"),
    (r"[Tt]imed? ?out", "the hub answers too slowly", "run it again; what was fetched whole is kept"),
)


def cause(lines: Sequence[str], result: str) -> tuple[str, str]:
    """Return the cause and the remedy; ``result`` is systemd's word for how the unit ended."""
    if result == "timeout":
        return "it took longer than model_download_timeout", "raise it; what was fetched whole is kept"
    text = "\n".join(lines)
    for pattern, said, remedy in CAUSES:
        if re.search(pattern, text):
            return said, remedy
    return "the tool says no more than the lines above", "run it again; what was fetched whole is kept"
