# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter bundle_problems."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bundle_problems
short_description: Says why a host cannot be served from a bundle
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Looks whether it is whole and undamaged, and has the releases that the host needs for its Python.
options:
  _input:
    description: What M(gpufleet.vllm.bundle_info) returned.
    type: dict
    required: true
  bundle:
    description: Folder of the bundle on the control node.
    type: path
    required: true
  releases:
    description: Names of the releases that the host needs.
    type: list
    elements: str
    required: true
  python:
    description: Version of the host's interpreter.
    type: str
"""

EXAMPLES = r"""
- name: Check a bundle
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join('\\n') }}"
  vars:
    problems: >-
      {{ found | gpufleet.vllm.bundle_problems(bundle='/srv/bundle', releases=['0.33.0-cuda'], python='3.11.2') }}
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


def bundle_problems(found: Any, bundle: str, releases: Any, python: str | None = None) -> list[str]:
    """Say what stands in the way."""
    return bundles.bundle_problems(plain(found), str(bundle), plain(list(releases)), str(python) if python else None)


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"bundle_problems": bundle_problems}
