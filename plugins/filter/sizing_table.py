# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter sizing_table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sizing_table
short_description: Says how many GPUs of a kind a model needs
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Finds, for every model on every kind of GPU, the fewest GPUs of one host that hold it, with the same planner that
    P(gpufleet.vllm.parallel_layout#filter) uses. Asks no host. C(docs/sizing.md) is made with it.
options:
  _input:
    description: Facts of models, as M(gpufleet.vllm.model_info) returns C(model_facts), by any name.
    type: dict
    required: true
  gpus:
    description: Kinds of GPUs, as a person or nvidia-smi writes them.
    type: list
    elements: str
    required: true
  max_model_len:
    description: Longest sequence in tokens that has to fit, prompt and answer together.
    type: int
    default: 4096
  wishes:
    description: Further fields of an entry of C(vllm_models) that shall hold for all, such as C(max_num_seqs).
    type: dict
    default: {}
seealso:
  - plugin: gpufleet.vllm.parallel_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: How many GPUs for this model?
  ansible.builtin.debug:
    msg: "{{ {'qwen': qwen.model_facts} | gpufleet.vllm.sizing_table(gpus=['L40S', 'H100'], max_model_len=32768) }}"
"""

RETURN = r"""
_value:
  description:
    - A line for each model and kind of GPU, with C(model), C(gpu), C(gpus) (null where the largest host does not do),
      the sizes, C(memory) of one GPU in GiB, C(kv_cache_tokens), C(max_concurrency) and C(rejected).
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import sizing
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def sizing_table(models: Any, gpus: Any, max_model_len: int = 4096, wishes: Any = None) -> list[dict[str, Any]]:
    """Find the fewest GPUs for every model on every kind of GPU."""
    try:
        return sizing.sizing_table(plain(models), plain(gpus), int(max_model_len), plain(wishes or {}))
    except InputError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"sizing_table": sizing_table}
