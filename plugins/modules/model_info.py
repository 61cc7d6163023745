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
  - Reads C(config.json), the headers and the sizes of the weight files of a model in a folder or on the Hugging Face
    Hub, as vLLM 0.33 reads them. Downloads no weights.
  - A hub id needs the Python library C(huggingface_hub), pinned in this collection's C(requirements.txt), where the
    module runs; delegate it to the control node. E(HF_ENDPOINT) names another hub; the library takes a token from
    E(HF_TOKEN), from the file that E(HF_TOKEN_PATH) names, or from an earlier login.
  - Models that are neither at hand nor within reach are described by a C(config.json) alone (O(config)), or by what an
    earlier run has saved (O(saved)).
options:
  model:
    description:
      - Absolute path of a folder on the machine where the module runs, or a hub id.
      - Exactly one of O(model), O(config) and O(saved) is given.
    type: str
  revision:
    description: Branch, tag or commit of a hub model.
    type: str
    default: main
  token:
    description:
      - Token to show to the hub. When left out, the one that huggingface_hub finds by itself (C(HF_TOKEN), C(hf auth
        login)); empty for none.
    type: str
  required:
    description: Whether a model that cannot be read fails the task. Otherwise RV(model_facts.problem) says why.
    type: bool
    default: true
  config:
    description:
      - Path of a C(config.json), or of a file like it, on the machine where the module runs. The weights are not
        needed; their bytes are computed from the configuration.
      - Files such as C(hf_quant_config.json) are read where they lie beside it.
    type: path
  weights_bytes:
    description: Size of all weight files in bytes, where it is known; only with O(config).
    type: int
  weights_index:
    description:
      - Path of a C(model.safetensors.index.json), which states the size of the weights; only with O(config).
      - O(weights_bytes) is taken where both are given.
    type: path
  save:
    description:
      - Path of a file to write the facts to, as JSON, for O(saved). Its folder has to exist.
      - A model that cannot be read is not written.
    type: path
  saved:
    description: Path of a file that O(save) has written, to be read in place of a model.
    type: path
attributes:
  check_mode:
    description: Reads the same; the file of O(save) is not written.
    support: full
  diff_mode:
    description: Shows the difference in the file of O(save).
    support: full
  idempotent:
    description: Changes nothing but the file of O(save), and that only when its content changes.
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

- name: Keep what the hub says for planning without it
  gpufleet.vllm.model_info:
    model: Qwen/Qwen3-8B
    save: facts/qwen3-8b.json
  delegate_to: localhost

- name: Describe a model by its configuration alone
  gpufleet.vllm.model_info:
    config: configs/new-model/config.json
    weights_bytes: 141107412992
  delegate_to: localhost
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
      description: Size of an attention head; with MLA that of a cached entry, as vLLM counts it.
      type: int
      sample: 128
    hidden_size:
      description: Size of the hidden state.
      type: int
      sample: 8192
    intermediate_size:
      description: Size of the dense feed-forward layer.
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
    num_experts_per_tok:
      description: Number of routed experts that a token goes through.
      type: int
      sample: 8
    num_shared_experts:
      description: Number of shared experts of a layer, where the configuration counts them.
      type: int
      sample: 1
    shared_expert_intermediate_size:
      description: Intermediate size of all shared experts of a layer together.
      type: int
      sample: 2048
    is_moe:
      description: Whether the model has routed experts.
      type: bool
      sample: false
    head_dim_v:
      description: Size of the values of an attention head.
      type: int
      sample: 128
    kv_lora_rank:
      description: Rank of the latent KV cache of an MLA model.
      type: int
      sample: 512
    q_lora_rank:
      description: Rank of the queries of an MLA model.
      type: int
      sample: 1536
    qk_nope_head_dim:
      description: Size of the part of an MLA head without RoPE.
      type: int
      sample: 128
    qk_rope_head_dim:
      description: Size of the part of an MLA head with RoPE.
      type: int
      sample: 64
    v_head_dim:
      description: Size of the values of an MLA head.
      type: int
      sample: 128
    index_head_dim:
      description: Head size of the indexer of sparse attention.
      type: int
      sample: 128
    index_n_heads:
      description: Number of heads of the indexer of sparse attention.
      type: int
      sample: 64
    mla:
      description: Whether the model uses multi-head latent attention.
      type: bool
      sample: false
    tie_word_embeddings:
      description: Whether the input table is the output head too.
      type: bool
      sample: false
    num_mtp_layers:
      description: Number of layers for multi-token prediction; vLLM loads them only for speculative decoding.
      type: int
      sample: 1
    max_model_len:
      description: Longest sequence in tokens that vLLM accepts for the model, RoPE scaling included.
      type: int
      sample: 131072
    default_max_model_len:
      description: Length that vLLM takes when none is asked for; shorter than the longest with LongRoPE.
      type: int
      sample: 131072
    rope_scaling:
      description: Type of the RoPE scaling.
      type: str
      sample: yarn
    dtype:
      description: Type that the unquantized weights are stored in.
      type: str
      sample: bfloat16
    runner:
      description: Whether vLLM runs the model to V(generate) text or for V(pooling), as embedding models are.
      type: str
      sample: generate
    multimodal:
      description: Whether the model takes more than text.
      type: bool
      sample: false
    supports_pipeline:
      description: Whether vLLM can spread the model over pipeline stages.
      type: bool
      sample: true
    vision:
      description: Size of the vision tower.
      type: dict
      sample: {num_attention_heads: 16, hidden_size: 1152, num_layers: 27, intermediate_size: 4304}
    layers:
      description:
        - The layers in order, equal neighbours counted together. C(attention) is a key of RV(model_facts.attention) or
          null, C(feed_forward) is V(dense), V(moe) or null.
        - Layers with C(shares_kv) use the KV cache of an earlier layer.
      type: list
      elements: dict
      sample: [{count: 3, attention: gdn, feed_forward: moe}, {count: 1, attention: full, feed_forward: moe}]
    attention:
      description:
        - The kinds of attention in the model. C(type) is V(full), V(sliding), V(chunked), V(mla), V(gdn), V(kda),
          V(mamba1), V(mamba2), V(compressed) (DeepSeek-V4), V(encoder) (which keeps nothing) or V(other); the other
          keys are heads and sizes in elements.
        - C(state_dtype) is the type of the recurrent state, null for the model's own.
      type: dict
      sample: {full: {type: full, num_heads: 64, num_kv_heads: 8, head_dim: 128, head_dim_v: 128}}
    quantization:
      description: Quantization method.
      type: str
      sample: fp8
    quantization_config:
      description:
        - How the weights are quantized, null when they are not. C(bits) are those of most weights, C(group_size) is -1
          for one scale per channel, C(block) is rows and columns that share a scale, C(ignored) what is left out as it
          is written.
        - C(attention), C(shared_experts) and C(lm_head) say whether these are quantized, C(kv_cache_dtype) is V(fp8)
          when the checkpoint brings a scheme for the KV cache.
      type: dict
      sample:
        {method: fp8, bits: 8, group_size: null, block: [128, 128], format: e4m3, activation_bits: 8,
         zero_point: false, symmetric: null, desc_act: false, lm_head: false, ignored: [lm_head], kv_cache_dtype: null,
         attention: true, shared_experts: true, experts_bits: null}
    weights:
      description:
        - The weights by kind. C(source) is V(headers) when the weights' own headers were read, V(computed) when the
          configuration is all there is, V(stated) when that was fitted to the size of the files. Null when nothing
          says it.
        - C(tensors) has C(kind), C(layer) (a key of RV(model_facts.attention), V(dense), V(moe) or null), C(bytes) as
          vLLM loads them, scales included, and C(parameters). Their sum without C(mtp) is what vLLM loads in all.
        - C(computed_bytes) is what the configuration alone makes, where the size of the files was used.
      type: dict
      sample:
        {source: headers, exact: true, tensors: [{kind: embedding, layer: null, bytes: 2101346304,
         parameters: 1050673152}]}
    warnings:
      description: Sentences about what could not be read exactly, or stands against the model's files.
      type: list
      elements: str
      sample: [The vision tower of step3p7 is computed as a plain transformer of its size.]
    weight_bytes:
      description: Size of the weight files in bytes.
      type: int
      sample: 141107412992
    files:
      description: >-
        Of a hub model, the files that vLLM loads, with size in bytes and the digest that the hub states: C(sha256) for
        large files, C(blob_id) (git's) for the others.
      type: list
      elements: dict
      sample: [{path: config.json, size: 826, sha256: null, blob_id: 5b6d0a0d3c1b0c1e1d5ddc9e3d0a1f0c4ad51f0c}]
    revision:
      description: Commit of a hub model; only for those.
      type: str
      sample: 9213176726f574b556790deb65791e0c5aa438b6
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub, model, model_files

ARGUMENTS: dict[str, Any] = {
    "model": {"type": "str"},
    "revision": {"type": "str", "default": "main"},
    "token": {"type": "str", "no_log": True},
    "required": {"type": "bool", "default": True},
    "config": {"type": "path"},
    "weights_bytes": {"type": "int"},
    "weights_index": {"type": "path"},
    "save": {"type": "path"},
    "saved": {"type": "path"},
}


def read(options: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the one source that the options name."""
    if options["saved"]:
        return model_files.read_saved(options["saved"])
    if options["config"]:
        return model_files.read_config(options["config"], options["weights_bytes"], options["weights_index"])
    name: str = options["model"]
    if name.startswith("/"):
        return model.read_folder(name)
    return hub.read(name, options["revision"], options["token"])


def save(module: AnsibleModule, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the facts to the file of ``save`` when they differ from what it holds; returns what to tell Ansible."""
    path = module.params["save"]
    before, after = model_files.saved_text(path), model_files.as_text(facts)
    if before != after and not module.check_mode:
        model_files.write(path, after)
    changed = before != after
    difference = {"before": before or "", "after": after, "before_header": path, "after_header": path}
    return {"changed": changed, "diff": difference} if module._diff and changed else {"changed": changed}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        mutually_exclusive=[("model", "config", "saved")],
        required_one_of=[("model", "config", "saved")],
        required_by={"weights_bytes": "config", "weights_index": "config"},
    )
    # Ansible hides the text as it was written; what is shown to the hub may be shorter
    module.no_log_values.update(filter(None, [(module.params["token"] or "").strip()]))
    try:
        found = read(module.params)
    except InputError as error:
        if module.params["required"]:
            module.fail_json(msg=str(error))
        module.exit_json(changed=False, model_facts={"problem": str(error)})
    try:
        told = save(module, found) if module.params["save"] else {"changed": False}
    except InputError as error:
        module.fail_json(msg=str(error))
    module.exit_json(model_facts=found, **told)


if __name__ == "__main__":
    main()
