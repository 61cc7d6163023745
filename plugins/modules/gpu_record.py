#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_record
short_description: Record what the GPU tools of a host say
version_added: 0.1.0
description:
  - Runs the tools that M(gpufleet.vllm.gpu_info) runs and returns their outputs as files.
  - With O(instances) also what M(gpufleet.vllm.doctor_info) looks at - the journals of the vLLM instances, the kernel's
    log, the units, the receipts, what the servers say. Tokens, keys and passwords are removed from them always.
  - Serial numbers are removed, and every UUID is replaced by a number that is the same in all files.
  - Use the playbook C(gpufleet.vllm.record) to write the files into a folder.
author: The gpufleet.vllm maintainers (@gpufleet)
options:
  timeout:
    description: Seconds that each tool may take.
    type: float
    default: 30
  instances:
    description: Record what the instances of vLLM say too.
    type: bool
    default: false
  keep_identity:
    description: Keep serial numbers and UUIDs.
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
notes:
  - The kernel's command line is recorded without words about disks and networks. Names of programs that use
    a GPU stay.
seealso:
  - module: gpufleet.vllm.gpu_info
"""

EXAMPLES = r"""
- name: Record the host
  gpufleet.vllm.gpu_record:
  register: recording

- name: Show which tools answered
  ansible.builtin.debug:
    msg: "{{ recording.files.keys() | sort }}"
"""

RETURN = r"""
files:
  description: Text of each file, by its name. C(record.json) says how each tool ended.
  returned: always
  type: dict
  sample: {"nvidia-smi-topo-m.txt": "\tGPU0\tCPU Affinity\nGPU0\t X \t0-19\n"}
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    hostfiles,
    recorded,
    runner,
    sources,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import gathering


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "float", "default": 30},
            "instances": {"type": "bool", "default": False},
            "keep_identity": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg=f"timeout is {module.params['timeout']:g}: write seconds, more than 0.")
    if module.params["instances"]:
        outputs = gathering.outputs(module.params["timeout"], os.environ, ask=False)
    else:
        outputs = runner.run_all(sources.COMMANDS, module.params["timeout"], os.environ)
        outputs[sources.HOST] = sources.ToolOutput(
            sources.OK, json.dumps(hostfiles.read_host(), indent=1, sort_keys=True) + "\n"
        )
    files = recorded.recording_files(outputs, module.params["keep_identity"])
    module.exit_json(changed=False, files=files)


if __name__ == "__main__":
    main()
