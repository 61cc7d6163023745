#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Say truthfully which GPUs a host has
version_added: 0.1.0
description:
  - Reads devices, memory, links, NUMA nodes and readiness of a host from what its tools and kernel say.
  - What no tool says is V(null), never guessed.
author: The gpufleet.vllm maintainers (@gpufleet)
options:
  timeout:
    description: Seconds that each tool may take. All tools are started at once.
    type: float
    default: 30
  required:
    description: Fail where no GPU is ready for use, with the state's message.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and return what it would without it.
    support: full
  diff_mode:
    description: Shows what would change.
    support: none
    details: The module changes nothing.
  platform:
    description: Which systems it runs on.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Read the GPUs
  gpufleet.vllm.gpu_info:
  register: gpus

- name: Show what is there
  ansible.builtin.debug:
    msg: "{{ gpus.gpu_facts.message }}"
"""

RETURN = r"""
gpu_facts:
  description: The facts of this host.
  returned: always
  type: dict
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts, hostfiles, runner, sources


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "float", "default": 30},
            "required": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    outputs = runner.run_all(sources.COMMANDS, module.params["timeout"], os.environ)
    outputs[sources.HOST] = sources.ToolOutput(sources.OK, json.dumps(hostfiles.read_host()))
    found = facts.build_facts(outputs)
    if module.params["required"] and (found["accelerator"] == "cpu" or found["state"] != "ready"):
        module.fail_json(msg=found["message"], gpu_facts=found)
    module.exit_json(changed=False, gpu_facts=found)


if __name__ == "__main__":
    main()
