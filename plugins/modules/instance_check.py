#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of instance_check, which is an action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_check
short_description: Refuses a list of vLLM instances that has faults
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Fails with a sentence for each fault that P(gpufleet.vllm.instance_problems#filter) finds, and for a token that
    cannot be one of the hub. Asks no host.
options:
  models:
    description: The list of instances, as the role P(gpufleet.vllm.layout#role) documents it.
    type: raw
    required: true
  token:
    description: A token of the Hugging Face hub. Not checked when empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Checks the same in check mode.
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
  - plugin: gpufleet.vllm.instance_problems
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Check what is asked for
  gpufleet.vllm.instance_check:
    models: "{{ vllm_models }}"
"""

RETURN = r"""
msg:
  description: One sentence for each fault.
  returned: failure
  type: str
"""
