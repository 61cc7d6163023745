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
  - Tries every size that vLLM accepts for the model, draws up the memory account of each as vLLM will when it starts,
    and takes the fewest GPUs that hold the asked length (C(objective=throughput)) or the widest group that still gains
    (C(objective=latency)), inside one link domain where there is one. docs/planning.md says how.
  - A size or option that a person wrote is checked against the same rules.
  - MIG devices, lost GPUs and GPUs that other programs use are left out, with the reason.
  - Decides for one host. An instance over several (C(nodes)) is decided from the facts of all of them (O(hosts)), on
    each to the same result, but for what is the host's own; or refused where they do not agree.
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
  host:
    description: Name of the host, as RV(_value[].nodes) shall say it.
    type: str
    default: localhost
  engine_version:
    description: Release of vLLM whose rules and defaults count, for instances that name none. V(0.33.0) when left out.
    type: str
  hosts:
    description:
      - What other hosts are decided from, by inventory name. Of each, C(layout_input), a mapping with C(models),
        C(gpu_facts), C(model_facts), C(model_root), C(interfaces), C(engine_version), C(release) and C(calibration), as
        the role P(gpufleet.vllm.layout#role) sets it; C(hostvars) will do. Only those that C(nodes) leads to are read.
    type: dict
  calibration:
    description: >-
      Corrections of measured numbers, as the playbook C(gpufleet.vllm.calibrate) makes them of the fleet's receipts.
    type: list
    elements: dict
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
    ports:
      description: >-
        The ports that it listens on, on this host; none where another host of the engine answers for it.
      type: list
      elements: int
    accelerator:
      description: Kind of accelerator, V(cuda), V(rocm) or V(cpu).
      type: str
    tensor_parallel_size:
      description: Ranks that share each layer.
      type: int
    pipeline_parallel_size:
      description: Stages that the layers are cut into.
      type: int
    data_parallel_size:
      description: Replicas behind the one port; of a mixture of experts they share the experts.
      type: int
    enable_expert_parallel:
      description: Whether ranks hold whole experts instead of slices of all.
      type: bool
    nodes:
      description: >-
        The hosts of the engine, the head first, and its devices on each; of several also the address on the network
        between them.
      type: list
      elements: dict
      sample: [{"host": "gpu01", "devices": [0, 1]}]
    node_rank:
      description: Place of this host among the nodes.
      type: int
    together:
      description: >-
        Of an engine over several hosts the port on the head where they watch one another, and a digest of what they
        agree on; null otherwise.
      type: dict
      sample: {"port": 29502, "agreement": "9f2c4a5d1e0b7c38"}
    start_after:
      description: Names of instances that share GPUs with this one and start before it.
      type: list
      elements: str
    dtype:
      description: Type of weights and activations.
      type: str
      sample: bfloat16
    max_model_len:
      description: Longest sequence in tokens.
      type: int
    memory:
      description:
        - Predicted account in GiB of one GPU, of the rank with the least room; null without GPUs.
        - Has C(total_gib) (what CUDA sees), C(budget_gib), C(weights_gib), C(activation_gib), C(cuda_graphs_gib),
          C(non_torch_gib) and C(kv_cache_gib).
      type: dict
    assumed:
      description: >-
        The measured numbers that the account stands on and receipts may correct, in GiB, and what they were looked up
        by; null without GPUs.
      type: dict
    kv_cache_tokens:
      description: Predicted size of the KV cache of one replica, as vLLM logs it.
      type: int
    max_concurrency:
      description: Predicted number of requests of the longest length that fit at once, as vLLM logs it.
      type: float
    estimate:
      description:
        - Estimated speed, in milliseconds and tokens per second; null for a GPU that is not in the table.
        - C(source) says what it rests on (C(measured here), C(measured by others) or C(datasheet)), C(factor) within
          which factor, up and down, four of five measurements lie, C(measured) the correction that receipts made.
      type: dict
    alternatives:
      description: What else was tried, with the account of each and why it was not taken.
      type: list
      elements: dict
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
      description:
        - Why the instance cannot run here, or null.
        - Has C(reason), C(rule) (a short id), C(remedies), best first, and C(sentence), all of it in a line.
      type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import calibration as calibrations
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances, layout, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.layout_inputs import layout_inputs
from ansible_collections.gpufleet.vllm.plugins.plugin_utils.plain import plain


def parallel_layout(
    models: Any,
    gpu_facts: Any,
    model_facts: Any,
    model_root: str = "/var/lib/vllm/models",
    host: str = "localhost",
    engine_version: Any = None,
    calibration: Any = None,
    hosts: Any = None,
) -> list[dict[str, Any]]:
    """Decide a layout for every instance."""
    if hosts is not None and any("nodes" in one for one in models):
        return _with_others(str(host), hosts)
    try:
        corrections = calibrations.rows(plain(calibration))
    except InputError as error:
        raise AnsibleFilterError(str(error)) from error
    version = str(engine_version) if engine_version else None
    wanted = instances.wanted(plain(models), str(model_root), version, corrections)
    return layout.layouts(wanted, plain(gpu_facts), plain(model_facts), str(host))


def _with_others(host: str, hosts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Decide for a host together with those that it runs engines with."""
    try:
        decided = plan.plan_hosts(layout_inputs(host, hosts))
    except InputError as error:
        raise AnsibleFilterError(str(error)) from error
    found: list[dict[str, Any]] = decided[host]["instances"]
    return found


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"parallel_layout": parallel_layout}
