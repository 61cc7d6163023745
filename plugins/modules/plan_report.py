# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of plan_report, which runs on the control node: see the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_report
short_description: Plans a fleet, shows the plan and writes it
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Decides the layouts of many hosts at once, prints them as a table, and writes them as JSON and as a page.
  - Hosts with C(gpu_profile) or C(gpu_recording) are not connected to. Of the others, it takes what the tasks of the
    playbook C(gpufleet.vllm.plan) registered as C(plan_gpu) and C(plan_models).
  - A model is read from C(model_config) (a config.json on the control node, with C(weights_bytes) or C(weights_index),
    the path of a model.safetensors.index.json), from C(model_source), from the hub, or from its path on the host. The
    path of a model on a host that is described or recorded is looked for on the control node.
  - A model that cannot be read makes its instances refusals in the plan.
  - Fails after it has shown and written the plan where a host could not be read.
options:
  hosts:
    description: Names of the hosts.
    type: list
    elements: str
    required: true
  report:
    description:
      - File on the control node that the plan is written to as JSON. A relative path begins in the folder that the
        command was started in.
      - It has C(schema_version) and C(hosts), a mapping of names to C(gpu_facts) (see M(gpufleet.vllm.gpu_info)) and
        C(instances) (see P(gpufleet.vllm.parallel_layout#filter)), in which C(serve_args) is the list of arguments of
        C(vllm serve) and C(rejected) has C(reason), C(rule) and C(remedies).
    type: str
  page:
    description: File on the control node that the plan is written to as an HTML page that needs nothing else.
    type: str
  fail_on_rejected:
    description: Whether an instance that cannot run fails the task, after the plan was shown and written.
    type: bool
    default: false
attributes:
  action:
    description: All of it runs on the control node; only the hub is asked by M(gpufleet.vllm.model_info).
    support: full
  check_mode:
    description: Shows the plan, and says which files it would write.
    support: full
  diff_mode:
    description: Shows no difference between files.
    support: none
  idempotent:
    description: Files that would not differ are left alone.
    support: full
seealso:
  - module: gpufleet.vllm.gpu_info
  - module: gpufleet.vllm.model_info
  - plugin: gpufleet.vllm.plan_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Plan
  gpufleet.vllm.plan_report:
    hosts: "{{ ansible_play_hosts_all }}"
    report: plan.json
    page: plan.html
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
hosts:
  description: How many hosts were planned.
  returned: when planned
  type: int
  sample: 12
rejected:
  description: How many instances cannot run.
  returned: when planned
  type: int
  sample: 0
unread:
  description: Hosts that could not be read.
  returned: when planned
  type: list
  elements: str
  sample: []
"""
