# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a person asks for in a role, checked. ``prefix`` is the role's name, which begins its variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError


def check_choices(prefix: str, given: Mapping[str, Any], choices: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError for a variable that is none of its choices."""
    for name, allowed in choices.items():
        if given[name] not in allowed:
            raise InputError(f"{prefix}_{name} is {given[name]!r}: write one of {', '.join(allowed)}.")


def fingerprints(prefix: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Read ``repository_fingerprints``, in upper case and without spaces. Raises InputError."""
    found = tuple(str(text).replace(" ", "").upper() for text in given["repository_fingerprints"] or ())
    for text in found:
        if not re.fullmatch(r"[0-9A-F]{40}", text):
            raise InputError(
                f"{prefix}_repository_fingerprints holds {text!r}: write the 40 hexadecimal digits of a key's "
                "fingerprint."
            )
    return found
