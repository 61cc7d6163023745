# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter bundled_models."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bundled_models
short_description: Takes the hub models of instances from a bundle
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Turns each entry of vllm_models whose model is in the bundle into one that is copied from there.
options:
  _input:
    description: The variable C(vllm_models).
    type: list
    elements: dict
    required: true
  models:
    description: RV(gpufleet.vllm.bundle_info#module:models) of M(gpufleet.vllm.bundle_info).
    type: dict
    required: true
  bundle:
    description: Folder of the bundle on the control node.
    type: path
    required: true
  root:
    description: Folder on the host that copied models go into.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show where the models come from
  ansible.builtin.debug:
    msg: >-
      {{ vllm_models | gpufleet.vllm.bundled_models(
           models=found.models, bundle='/srv/bundle', root='/var/lib/vllm/models') }}
"""

RETURN = r"""
_value:
  description: The entries.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import bundles
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def bundled_models(entries: Any, models: Any, bundle: str, root: str) -> list[dict[str, Any]]:
    """Take the models from a bundle."""
    return bundles.bundled_models(plain(entries), plain(models), str(bundle), str(root))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"bundled_models": bundled_models}
