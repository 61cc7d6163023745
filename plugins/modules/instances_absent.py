#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module instances_absent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instances_absent
short_description: Takes vLLM instances from a host
version_added: 0.1.0
author: The gpufleet.vllm maintainers
description:
  - Stops the unit, which lets running requests finish, disables it, and removes the settings, the environment, the
    drop-ins, the link to the release, the caches, the receipt and what the checks have recorded; of these instances and
    nothing else. Weights and releases stay.
options:
  names:
    description: Names of the instances.
    type: list
    elements: str
    required: true
  root:
    description: Folder of the engine.
    type: path
    required: true
attributes:
  check_mode:
    description: Says what would be stopped and removed.
    support: full
  diff_mode:
    description: Shows each file.
    support: full
  idempotent:
    description: What is not there is not removed.
    support: full
"""

EXAMPLES = r"""
- name: Remove an instance
  gpufleet.vllm.instances_absent:
    names: [llama-70b]
    root: /opt/vllm
"""

RETURN = r"""
stopped:
  description: Units that were stopped.
  returned: always
  type: list
  elements: str
  sample: [vllm@llama-70b.service]
removed:
  description: What was removed.
  returned: always
  type: list
  elements: str
  sample: [/etc/vllm/llama-70b.yaml]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import removal
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instance_fields
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "root": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    names = module.params["names"]
    wrong = [name for name in names if not instance_fields.NAME.fullmatch(name)]
    if wrong:
        module.fail_json(msg=f"{wrong[0]!r} is no name of an instance; write {instance_fields.CHECKS['name'][1]}.")
    writer = Writer(module.check_mode)
    going = removal.Removal(writer, lambda argv: module.run_command(list(argv)))
    try:
        going.instances(names, Path(module.params["root"]))
    except (GpufleetError, OSError) as error:
        module.fail_json(msg=f"The instances cannot be removed: {error}", removed=writer.changed)
    module.exit_json(
        changed=bool(going.stopped or writer.changed),
        stopped=going.stopped,
        removed=writer.changed,
        diff=writer.diffs,
    )


if __name__ == "__main__":
    main()
