# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of instance_compare, whose host's part is instance_state: see the action plugin of that name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_compare
short_description: Compares a vLLM instance as it is with what it should be
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Says whether a roll-out has to change an instance, and what of it differs. For the role
    P(gpufleet.vllm.rollout#role).
options:
  name:
    description: Name of the instance.
    type: str
    required: true
  digest:
    description: What the role P(gpufleet.vllm.serve#role) would start it from, as a digest.
    type: str
    required: true
  settings:
    description: Options of C(vllm serve) that it should have.
    type: dict
    required: true
  environment:
    description: Environment that it should have.
    type: dict
    required: true
  release:
    description: Name of the release that it should run with.
    type: str
    required: true
  nodes:
    description: Names of the hosts that run the engine, where they are several.
    type: list
    elements: str
    default: []
  node_rank:
    description: Place of this host among them.
    type: int
    default: 0
  root:
    description: Folder of the engine.
    type: path
    default: /opt/vllm
attributes:
  action:
    description: Asks the host with M(gpufleet.vllm.instance_state), and compares on the control node.
    support: full
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Compare
  gpufleet.vllm.instance_compare:
    name: llama-70b
    digest: 1f0c4ad5
    settings: {model: meta-llama/Llama-3.1-70B-Instruct, max-model-len: 32768}
    environment: {}
    release: 0.33.0-cuda
"""

RETURN = r"""
comparison:
  description: >-
    C(state) (V(same), V(drained), V(unproven), V(change)), C(changes), each with C(what), C(from) and C(to), C(serves),
    C(begun), whether an earlier roll-out began with it, C(baseline), what was measured before that, C(nodes) and
    C(node_rank), C(wanted), C(old) and C(good).
  returned: success
  type: dict
"""
