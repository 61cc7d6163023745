# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of rollout_record, which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_record
short_description: Writes the steps of a roll-out down, and decides by them whether it goes on
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Writes a step of a host into the record of a roll-out on the control node, whole or not at all, also where several
    hosts do so at once. For the role P(gpufleet.vllm.rollout#role).
options:
  record:
    description: The file, as M(gpufleet.vllm.rollout_plan) returned it.
    type: path
    required: true
  step:
    description:
      - V(goes_on) asks whether the batch of the host may begin, V(to_back_out) whether the host is to be put back since
        another one failed. V(verified) compares O(before) with O(after) and fails where the latter is worse than
        O(bounds) allow. V(together) fails where another
        host of an engine over several did not come as far as this one. V(concluded)
        ends the record, and fails where the roll-out was stopped. The others are written down.
    type: str
    required: true
    choices:
      - goes_on
      - to_back_out
      - begun
      - draining
      - drained
      - measured
      - prepared
      - switching
      - switched
      - warmed
      - verified
      - ready
      - undraining
      - serving
      - done
      - failed
      - retracting
      - retracted
      - withdrawn
      - restoring
      - proven
      - back
      - left
      - restored
      - not_restored
      - resumed
      - together
      - concluded
  host:
    description: The host. By default the one that the task runs for.
    type: str
  required:
    description:
      - Whether a step that cannot be written down fails. Otherwise it is kept as a fact of the host, which counts as
        written, and goes into the record with the next step that can be, or at the end.
    type: bool
    default: true
  failure:
    description: Result of the task that failed; why it did goes into the record.
    type: dict
  before:
    description: By name of the instance, what M(gpufleet.vllm.instance_measure) measured before the change.
    type: dict
    default: {}
  answered:
    description: Names of the instances that answered before the change.
    type: list
    elements: str
    default: []
  after:
    description: Likewise after it.
    type: dict
    default: {}
  bounds:
    description: C(max_ttft_ratio), C(min_tokens_ratio) and C(ttft_slack) in seconds.
    type: dict
    default: {}
attributes:
  action:
    description: All of it runs on the control node.
    support: full
  check_mode:
    description: A roll-out ends before it in check mode.
    support: none
  diff_mode:
    description: Shows no difference between files.
    support: none
  idempotent:
    description: Each step is written as often as it is told.
    support: none
"""

EXAMPLES = r"""
- name: Write down that it is out of service
  gpufleet.vllm.rollout_record:
    record: rollout.json
    step: drained
"""

RETURN = r"""
goes_on:
  description: Whether the batch of the host may begin.
  returned: when O(step=goes_on)
  type: bool
to_back_out:
  description: Whether the host is to be put back.
  returned: when O(step=to_back_out)
  type: bool
answered:
  description: Names of the instances that were seen to answer before the change, here or where their server is.
  returned: when O(step=together)
  type: list
  elements: str
reason:
  description: Why it failed, of O(failure).
  returned: when the step is written
  type: str
way:
  description: >-
    What to do with the host, and with all that run an engine with it. V(finish) where the engine serves the new
    already, V(leave) where it was not touched yet, V(stay) where that it was begun with could not be written down,
    V(put_back) otherwise.
  returned: when O(step=failed)
  type: str
told:
  description: Whether the gateways were told anything of its engine since it was begun with.
  returned: when O(step=failed)
  type: bool
unkept:
  description: Whether the host was changed, and what serves could not be kept as its good state.
  returned: when O(step=failed)
  type: bool
"""
