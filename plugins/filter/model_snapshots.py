# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter model_snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
name: model_snapshots
short_description: Lists the snapshots of hub models that the instances of a host need
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Gives each commit of a model once, however many instances share it.
options:
  _input:
    description: The layouts of the instances, from P(gpufleet.vllm.parallel_layout#filter).
    type: list
    elements: dict
    required: true
  files:
    description: By the name of an instance, RV(gpufleet.vllm.model_info#module:model_facts) C(files) of its model.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Download each model once
  gpufleet.vllm.model_snapshot:
    model: "{{ item.model }}"
    revision: "{{ item.revision }}"
    cache: /var/lib/vllm/hub
  loop: "{{ layout_instances | gpufleet.vllm.model_snapshots }}"
"""

RETURN = r"""
_value:
  description: C(model), C(revision), C(files) (null when not known) and C(instances) of each snapshot.
  type: list
  elements: dict
  sample: [{model: Qwen/Qwen3-8B, revision: b968826d9c46dd6066d109eabc6255188de91218, files: null, instances: [chat]}]
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import snapshots
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def model_snapshots(instances: Any, files: Any = None) -> list[dict[str, Any]]:
    """List the snapshots."""
    return snapshots.snapshots(plain(instances), plain(files or {}))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"model_snapshots": model_snapshots}
