#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module model_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: Reads what a model is from its configuration, without its weights
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Reads C(config.json) and the sizes of the weight files of a model in a folder or on the Hugging Face Hub.
    Downloads no weights.
  - A hub id needs the Python library C(huggingface_hub), pinned in this collection's C(requirements.txt), where the
    module runs; delegate it to the control node. E(HF_ENDPOINT) names another hub.
options:
  model:
    description: Absolute path of a folder on the machine where the module runs, or a hub id.
    type: str
    required: true
  revision:
    description: Branch, tag or commit of a hub model.
    type: str
    default: main
  required:
    description: Whether a model that cannot be read fails the task. Otherwise RV(model_facts.problem) says why.
    type: bool
    default: true
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - plugin: gpufleet.vllm.parallel_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read a model on the host
  gpufleet.vllm.model_info:
    model: /srv/models/llama-70b
  register: llama

- name: Read a model on the hub
  gpufleet.vllm.model_info:
    model: Qwen/Qwen3-8B
    revision: main
  delegate_to: localhost
  register: qwen
"""

RETURN = r"""
model_facts:
  description: What the configuration says; null for what it does not say.
  returned: always
  type: dict
  contains:
    problem:
      description: Why the model cannot be read and what to do; then there is nothing else. Only with O(required=false).
      type: str
      sample: The model path /srv/llama does not exist; correct 'model', or put the model there.
    architectures:
      description: Names of the architectures.
      type: list
      elements: str
      sample: [LlamaForCausalLM]
    model_type:
      description: Model type of the configuration.
      type: str
      sample: llama
    num_layers:
      description: Number of hidden layers.
      type: int
      sample: 80
    num_attention_heads:
      description: Number of attention heads.
      type: int
      sample: 64
    num_kv_heads:
      description: Number of KV heads; as many as attention heads when the configuration names none.
      type: int
      sample: 8
    head_dim:
      description: Size of an attention head.
      type: int
      sample: 128
    hidden_size:
      description: Size of the hidden state.
      type: int
      sample: 8192
    intermediate_size:
      description: Size of the feed-forward layer.
      type: int
      sample: 28672
    moe_intermediate_size:
      description: Size of an expert's feed-forward layer.
      type: int
      sample: 768
    num_experts:
      description: Number of routed experts.
      type: int
      sample: 128
    vocab_size:
      description: Number of tokens in the vocabulary.
      type: int
      sample: 128256
    kv_lora_rank:
      description: Rank of the latent KV cache of an MLA model.
      type: int
      sample: 512
    mla:
      description: Whether the model uses multi-head latent attention.
      type: bool
      sample: false
    max_model_len:
      description: Longest sequence in tokens that the configuration names, before any RoPE scaling.
      type: int
      sample: 131072
    rope_scaling:
      description: Type of the RoPE scaling.
      type: str
      sample: yarn
    dtype:
      description: Type that the weights are stored in.
      type: str
      sample: bfloat16
    quantization:
      description: Quantization method.
      type: str
      sample: fp8
    weight_bytes:
      description: Size of the weight files in bytes.
      type: int
      sample: 141107412992
    revision:
      description: Commit of a hub model.
      type: str
      sample: 9213176726f574b556790deb65791e0c5aa438b6
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub, model


def read(name: str, revision: str) -> dict[str, Any]:
    """Return the facts of a folder or of a hub model."""
    if name.startswith("/"):
        return model.read_folder(name)
    return hub.read(name, revision)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "model": {"type": "str", "required": True},
            "revision": {"type": "str", "default": "main"},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        found = read(module.params["model"], module.params["revision"])
    except InputError as error:
        if module.params["required"]:
            module.fail_json(msg=str(error))
        module.exit_json(changed=False, model_facts={"problem": str(error)})
    module.exit_json(changed=False, model_facts=found)


if __name__ == "__main__":
    main()
