# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter bundled_model_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bundled_model_problems
short_description: Says why models of the hub cannot be taken from a bundle
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - A host that is deployed from a bundle does not ask the hub.
options:
  _input:
    description: The variable C(vllm_models).
    type: list
    elements: dict
    required: true
  found:
    description: What M(gpufleet.vllm.bundle_info) returned of the bundle.
    type: dict
    required: true
  bundle:
    description: Folder of the bundle on the control node.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Check the models
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\\n') }}"
  vars:
    problems: "{{ vllm_models | gpufleet.vllm.bundled_model_problems(found=found, bundle='/srv/bundle') }}"
"""

RETURN = r"""
_value:
  description: One sentence for each fault; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import bundles
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def bundled_model_problems(entries: Any, found: Any, bundle: str) -> list[str]:
    """Say what is missing."""
    return bundles.model_problems(plain(entries), plain(found), str(bundle))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"bundled_model_problems": bundled_model_problems}
