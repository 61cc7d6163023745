#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of decide_layouts, which is an action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: decide_layouts
short_description: Decides how each vLLM instance of a host is run, and shows it
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - What P(gpufleet.vllm.parallel_layout#filter) decides, shown as P(gpufleet.vllm.plan_table#filter)
    does, in one task on the control node. Fails with a sentence for each instance that cannot run.
  - Where an entry has C(nodes), the host is decided from C(layout_input) of itself and of the other hosts of its
    engines, a fact that the role P(gpufleet.vllm.layout#role) sets on each.
options:
  models:
    description: The entries of C(vllm_models).
    type: list
    elements: dict
    required: true
  gpu_facts:
    description: What M(gpufleet.vllm.gpu_info) returned for the host.
    type: dict
    required: true
  model_facts:
    description: By the name of the instance, what M(gpufleet.vllm.model_info) returned for its model.
    type: dict
    required: true
  model_root:
    description: Folder on the host below which copied models go.
    type: path
    required: true
  engine_version:
    description: Release of vLLM that instances without their own are planned for.
    type: str
  calibration:
    description: Corrections as the playbook C(calibrate) makes them.
    type: raw
attributes:
  check_mode:
    description: Decides the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
  action:
    description: All of it runs on the control node.
    support: full
seealso:
  - plugin: gpufleet.vllm.parallel_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Decide
  gpufleet.vllm.decide_layouts:
    models: "{{ vllm_models }}"
    gpu_facts: "{{ host.gpu_facts }}"
    model_facts:
      llama-70b: "{{ host.models['/srv/models/llama-70b'] }}"
    model_root: /var/lib/vllm/models
"""

RETURN = r"""
layouts:
  description: The layouts, in the order of O(models).
  returned: always
  type: list
  elements: dict
model_files:
  description: By the name of the instance, the files of its hub model.
  returned: always
  type: dict
"""
