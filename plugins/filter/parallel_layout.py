# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter parallel_layout."""

from __future__ import annotations

DOCUMENTATION = r"""
name: parallel_layout
short_description: Decides how vLLM instances are spread over the GPUs of a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Computes, for every instance, the parallel sizes, the devices, the options of C(vllm serve) and its environment,
    from the facts of the host and of the models. Touches nothing, and gives the same answer for the same input.
  - A tensor parallel size is checked against the rules of vLLM 0.33.0. Left to choose, it takes the fewest identical
    GPUs whose memory holds the weights by an estimate. The links between the GPUs are not considered yet.
  - CPU hosts and NVIDIA hosts are supported; MIG devices are left out.
options:
  _input:
    description: The list of instances, as the role P(gpufleet.vllm.layout#role) documents it, without faults.
    type: list
    elements: dict
    required: true
  gpu_facts:
    description: What M(gpufleet.vllm.gpu_info) returned as C(gpu_facts).
    type: dict
    required: true
  model_facts:
    description:
      - What M(gpufleet.vllm.model_info) returned as C(model_facts), by the name of the instance.
      - An entry with C(problem) in place of facts makes the layout of that instance a refusal with that sentence.
    type: dict
    required: true
  model_root:
    description: Folder on the host below which a model copied from the control node goes.
    type: path
    default: /var/lib/vllm/models
seealso:
  - module: gpufleet.vllm.gpu_info
  - module: gpufleet.vllm.model_info
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    layouts: "{{ vllm_models | gpufleet.vllm.parallel_layout(gpu_facts=gpu.gpu_facts, model_facts=facts_by_name) }}"
"""

RETURN = r"""
_value:
  description: One layout for each instance, in the order of the input.
  type: list
  elements: dict
  contains:
    name:
      description: Name of the instance, which is also its served model name.
      type: str
      sample: llama-70b
    unit:
      description: Its systemd unit.
      type: str
      sample: vllm@llama-70b.service
    model:
      description: Path on the host, or hub id.
      type: str
    model_source:
      description: Folder on the control node that is copied to the path, or null.
      type: str
    origin:
      description: Where the weights come from, V(path), V(copy) or V(hub).
      type: str
    revision:
      description: Revision of a hub model; the commit when the hub said it.
      type: str
    host:
      description: Address that the server listens on.
      type: str
    port:
      description: Port that the server listens on.
      type: int
    accelerator:
      description: Kind of accelerator, V(cuda) or V(cpu).
      type: str
    tensor_parallel_size:
      description: Ranks that share each layer.
      type: int
    pipeline_parallel_size:
      description: Stages that the layers are cut into.
      type: int
    devices:
      description: Indexes of the GPUs, in the order of nvidia-smi; empty on a CPU host.
      type: list
      elements: int
    serve_args:
      description: The content of the configuration file of C(vllm serve).
      type: dict
    environment:
      description: Environment variables of the service.
      type: dict
    reasons:
      description: Why the numbers are what they are.
      type: list
      elements: str
    warnings:
      description: What may go wrong.
      type: list
      elements: str
    rejected:
      description: A sentence that says why the instance cannot run here and what to do, or null.
      type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances, layout
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def parallel_layout(
    models: Any, gpu_facts: Any, model_facts: Any, model_root: str = "/var/lib/vllm/models"
) -> list[dict[str, Any]]:
    """Decide a layout for every instance."""
    wanted = instances.instances(plain(models), str(model_root))
    return layout.layouts(wanted, plain(gpu_facts), plain(model_facts))


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"parallel_layout": parallel_layout}
