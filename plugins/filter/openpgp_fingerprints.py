# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter openpgp_fingerprints."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openpgp_fingerprints
short_description: Says which keys are in an armored OpenPGP file
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Returns the fingerprint of every key in a text, so that a downloaded key can be compared with a pinned one before it
    is trusted. Needs no gpg.
options:
  _input:
    description: The armored file.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Check a key
  ansible.builtin.assert:
    that: key.content | gpufleet.vllm.openpgp_fingerprints == ['EB693B3035CD5710E231E123A4B469963BF863CC']
"""

RETURN = r"""
_value:
  description: Fingerprints in upper-case hexadecimal digits. Subkeys are not listed.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import openpgp


def openpgp_fingerprints(text: Any) -> list[str]:
    """List the fingerprints."""
    return openpgp.fingerprints(str(text))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"openpgp_fingerprints": openpgp_fingerprints}
