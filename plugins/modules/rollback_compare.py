# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of rollback_compare, whose host's part is instance_state: see the action plugin of that name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback_compare
short_description: Says which vLLM instances of a host can go back to the state before the last one
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Compares the good state of each instance with the one before it. For the role P(gpufleet.vllm.rollout#role).
options:
  only:
    description: Names of the instances. By default all of the host.
    type: list
    elements: str
    default: []
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
  gpufleet.vllm.rollback_compare:
    only: [llama-70b]
"""

RETURN = r"""
comparisons:
  description: As RV(gpufleet.vllm.instance_compare#module:comparison), with C(problem), why it cannot, or empty.
  returned: success
  type: list
  elements: dict
"""
